"""What both stages of a generator's training share."""

import math
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor, nn

from torchgeo_specdm.checkpoint import save_network, write_folder, write_json
from torchgeo_specdm.datamodules.generator import GeneratorDataModule
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.losses import LossWatch, place_of_step
from torchgeo_specdm.models import PairAutoencoder
from torchgeo_specdm.plotting import plot_pairs
from torchgeo_specdm.sizes import choose_sizes
from torchgeo_specdm.spec import DatasetSpec


class GeneratorTask(LightningModule):
    """One stage: it reads a :class:`GeneratorDataModule` and leaves a folder under the trainer's root.

    A stage names its ``output`` folder, wraps a datamodule, and writes its output when training ends.
    """

    output: str

    def __init__(self) -> None:
        super().__init__()
        self._losses = LossWatch()
        self._written = False

    def wrap_datamodule(self, datamodule: LightningDataModule, root: Path) -> LightningDataModule:
        """The datamodule that this stage trains on, made from a user's datamodule."""
        raise NotImplementedError

    def finished(self, root: Path) -> bool:
        """Whether this stage has written its output under ``root``."""
        return (root / self.output).is_dir()

    @property
    def root(self) -> Path:
        """The trainer's root folder."""
        return Path(self.trainer.default_root_dir)

    @property
    def data(self) -> GeneratorDataModule:
        """The trainer's datamodule.

        Raises:
            SpecDMError: It is not one of this package's wrappers.
        """
        datamodule = getattr(self.trainer, 'datamodule', None)
        if not isinstance(datamodule, GeneratorDataModule):
            raise SpecDMError(
                f'{type(self).__name__} reads raw units: fit it with '
                'trainer.fit(task, task.wrap_datamodule(datamodule, root))'
            )
        return datamodule

    @property
    def spec(self) -> DatasetSpec:
        """Description of the data."""
        return self.data.spec

    def sizes(self) -> dict[str, list[int]]:
        """What ``auto`` stands for in arguments of these names."""
        sizes = choose_sizes(self.spec, len(self.data.split('train')))  # type: ignore[arg-type]
        return {name: list(value) for name, value in sizes._asdict().items()}

    def optimizers_for(
        self, module: nn.Module, lr: float, warmup_steps: int, final_lr: float, **settings: Any
    ) -> dict[str, Any]:
        """AdamW with a linear warm-up and a cosine to ``final_lr`` times the peak at the end of training."""
        optimizer = torch.optim.AdamW(module.parameters(), lr=lr, **settings)
        total = max(int(self.trainer.estimated_stepping_batches), warmup_steps + 1)

        def factor(step: int) -> float:
            if step < warmup_steps:
                return (step + 1) / warmup_steps
            done = min((step - warmup_steps) / (total - warmup_steps), 1.0)
            return final_lr + (1 - final_lr) * 0.5 * (1 + math.cos(math.pi * done))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {'optimizer': optimizer, 'lr_scheduler': {'scheduler': scheduler, 'interval': 'step'}}

    def on_fit_start(self) -> None:
        """Say, before latents are encoded, where half precision does the opposite of what it is for."""
        emulated = self.device.type == 'cpu' and 'bf16' in str(self.trainer.precision) and not has_bfloat16()
        if emulated and self.trainer.is_global_zero:
            warnings.warn(
                f'this processor has no arithmetic for precision {self.trainer.precision} and emulates it, some thirty '
                'times as slow as in single precision: use --trainer.precision 32-true',
                stacklevel=2,
            )

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed what is drawn in this step, on all devices: a run that is resumed draws what it would have drawn."""
        torch.manual_seed(self.data.step_seed(batch_idx))

    def on_before_backward(self, loss: Tensor) -> None:
        """Stop when the loss is no number any more, before it reaches the weights.

        Raises:
            DivergedError: Says in which step and batch.
        """
        remedy = 'look at the values of its samples, or lower model.lr and train again with --restart'
        self._losses.see(loss, place_of_step(self.trainer), remedy)

    def on_train_end(self) -> None:
        """Write the output."""
        self._losses.require_numbers()
        self._write_output()
        self._written = True

    def on_fit_end(self) -> None:
        """Write the output of a run that had come to its end before, and was killed while it wrote."""
        if not self._written:
            self._write_output()

    def _write_output(self) -> None:
        raise NotImplementedError

    def write_once(self, write: Callable[[], None]) -> None:
        """Write on the first process; the others wait for it, as their next stage reads what it wrote."""
        if self.trainer.is_global_zero:
            write()
        self.trainer.strategy.barrier()

    def half_on_cuda(self) -> AbstractContextManager[Any]:
        """Computes in bfloat16 on a GPU, elsewhere in what ``trainer.precision`` says."""
        on_cuda = self.device.type == 'cuda'
        return torch.autocast('cuda', torch.bfloat16) if on_cuda else nullcontext()

    def log_pairs(self, real: dict[str, Tensor], make: Callable[[], dict[str, Tensor]], title: str) -> None:
        """Show real pairs above made ones, batches ``(B, ...)``, in a logger that takes figures (TensorBoard)."""
        experiment = getattr(self.logger, 'experiment', None)
        if self.trainer.is_global_zero and hasattr(experiment, 'add_figure'):
            figure = plot_pairs({'real': _rows(real), title: _rows(make())}, self.spec)
            cast(Any, experiment).add_figure(f'val/{title}', figure, self.global_step)


class EncodingTask(GeneratorTask):
    """A first stage: it reads raw samples and writes its ``model`` to ``<root>/autoencoder``."""

    output = 'autoencoder'
    model: PairAutoencoder

    def wrap_datamodule(self, datamodule: LightningDataModule, root: Path) -> LightningDataModule:
        """Raw train and val samples of ``datamodule``."""
        return GeneratorDataModule(datamodule)

    def _write_output(self) -> None:
        self.write_once(lambda: write_folder(self.root / self.output, self._write))

    def _write(self, folder: Path) -> None:
        save_network(self.model, self.model.config, folder)
        write_json(folder / 'spec.json', self.spec.to_dict())


def has_bfloat16() -> bool:
    """Whether this processor computes convolutions in bfloat16 at speed, as far as PyTorch knows."""
    # What torch.compile asks; there is no public word for it
    return not cast(Any, torch.backends.mkldnn).is_available() or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def in_float32(step: Callable[..., None]) -> Callable[..., None]:
    """Makes a validation step compute in float32, whatever ``trainer.precision`` says: figures must not be rounded."""

    @wraps(step)
    def full(self: LightningModule, *args: Any, **kwargs: Any) -> None:
        with torch.autocast(self.device.type, enabled=False):
            step(self, *args, **kwargs)

    return full


def _rows(batch: dict[str, Tensor], most: int = 4) -> Sequence[dict[str, Tensor]]:
    count = min(most, len(batch['image']))
    return [{name: batch[name][i].cpu() for name in ('image', 'mask')} for i in range(count)]
