"""A training of any Lightning model whose loss is no number any more, stopped before that is saved."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from torchgeo_specdm.losses import LossWatch, place_of_step

_REMEDY = 'look at the values of its samples, or lower the learning rate'


class LossGuard(Callback):
    """Stops a training at the first loss that is no number, before it reaches the weights.

    A GPU is asked every 50 steps, see :class:`~torchgeo_specdm.losses.LossWatch`, and before a checkpoint is written.
    The mean over the labelled pixels of a batch without any is no number either, and has no gradient: it is let pass.
    """

    def __init__(self) -> None:
        self._losses = LossWatch()
        self._labelled: Tensor | None = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """See whether the batch has labels."""
        ignored = pl_module.hparams.get('ignore_index')
        mask = batch.get('mask') if isinstance(batch, Mapping) else None
        told = isinstance(ignored, int) and isinstance(mask, Tensor)
        self._labelled = mask.ne(ignored).any() if told else None  # type: ignore[union-attr]

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Take note of a loss.

        Raises:
            DivergedError: Says in which step and batch.
        """
        # In mixed precision it comes times a scale, in float32: what is a number stays one. That such a training skips
        # steps whose gradients are none is its way, and nothing to look at
        value = loss.detach().float()
        if self._labelled is not None:
            value = value.where(self._labelled, 0)
        self._losses.see(value, place_of_step(trainer), _REMEDY)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Let no checkpoint hold what a loss that nobody has looked at has made of the weights.

        Raises:
            DivergedError: One is no number.
        """
        self._losses.require_numbers()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the last losses.

        Raises:
            DivergedError: One is no number.
        """
        self._losses.require_numbers()


def last_checkpoint(trainer: Trainer) -> Path | None:
    """The newest file that the checkpoint callbacks of a training wrote, None where they wrote none."""
    callbacks = [one for one in trainer.checkpoint_callbacks if isinstance(one, ModelCheckpoint)]
    names = [
        name for one in callbacks for name in (one.last_model_path, one.best_model_path, *one.best_k_models) if name
    ]
    paths = [Path(name) for name in names if Path(name).exists()]
    return max(paths, key=lambda path: path.stat().st_mtime, default=None)
