"""TorchGeo's tasks with a model of the registry and the scores of the paper.

They differ from TorchGeo's in how the model is made, in the scores that are logged (``val_mIoU``, ``val_mF1`` and one
of each for every class), and in that a model may add a loss of its own. All else is TorchGeo's, in any of its versions.
"""

from typing import Any

from lightning.pytorch import LightningModule
from torch import Tensor
from torchmetrics import MetricCollection

from torchgeo_specdm import compat
from torchgeo_specdm.downstream.base import DenseModel
from torchgeo_specdm.downstream.registry import make_model
from torchgeo_specdm.downstream.scores import ClassScores
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.spec import Task

_Segmentation: Any = compat.segmentation_task()
_Change: Any = compat.change_task()


class _Downstream(LightningModule):
    """What both tasks override."""

    kind: Task
    model: DenseModel
    weights: Any

    def configure_models(self) -> None:
        """Make the model that the hyper-parameters name."""
        h = self.hparams
        options = dict(h['options'] or {})
        if h['backbone'] is not None:
            options['backbone'] = h['backbone']
        if self.weights:
            options['weights'] = 'imagenet' if self.weights is True else self.weights
        self.model = make_model(h['model'], h['in_channels'], h['num_classes'] or 1, task=self.kind, **options)
        for part, frozen in ((self.model.encoder, h['freeze_backbone']), (self.model.decoder, h['freeze_decoder'])):
            part.requires_grad_(not frozen)

    def configure_metrics(self) -> None:
        """Scores of train, val and test pixels."""
        h = self.hparams
        if h['task'] == 'multilabel' or (h['task'] == 'multiclass' and not h['num_classes']):
            raise SpecDMError(
                f'task is {h["task"]} and num_classes {h["num_classes"]}; it must be binary, or multiclass of a number'
            )
        classes = 2 if h['task'] == 'binary' else h['num_classes']
        scores = MetricCollection([ClassScores(classes, h['ignore_index'], h.get('labels'))])
        for stage in ('train', 'val', 'test'):
            setattr(self, f'{stage}_metrics', scores.clone(prefix=f'{stage}_'))

    def training_step(self, batch: Any, batch_idx: int, *args: Any) -> Tensor:
        """TorchGeo's loss, and what the model adds to it."""
        loss: Any = super().training_step(batch, batch_idx, *args)
        extra = self.model.extra_loss(batch['mask'])
        return loss if extra is None else loss + extra  # type: ignore[no-any-return]

    def log_dict(self, dictionary: Any, *args: Any, **kwargs: Any) -> None:
        """Log values; metrics wait for the end of the epoch.

        TorchGeo before 0.9 logs its metrics with every batch, but Lightning takes no metric of several values.
        """
        if not isinstance(dictionary, MetricCollection):
            super().log_dict(dictionary, *args, **kwargs)

    def on_train_epoch_end(self) -> None:
        """Log the scores of the train pixels."""
        self._log_scores('train')

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the val pixels."""
        self._log_scores('val')

    def on_test_epoch_end(self) -> None:
        """Log the scores of the test pixels."""
        self._log_scores('test')

    def _log_scores(self, stage: str) -> None:
        metrics = getattr(self, f'{stage}_metrics')
        self.log_dict(metrics.compute())
        metrics.reset()


class DownstreamSegmentationTask(_Downstream, _Segmentation):  # type: ignore[misc]
    """TorchGeo's semantic segmentation task with a model by name.

    Images are ``(B, C, H, W)``, masks ``(B, H, W)``.

    Args:
        model: A name in :data:`~torchgeo_specdm.downstream.registry.DOWNSTREAM`.
        backbone: Its backbone; the model's own default where it is None.
        weights: True or ``imagenet`` loads weights for the backbone. It is no hyper-parameter, so that a checkpoint of
            the task loads without.
        options: More options of the model.
        kwargs: TorchGeo's own arguments, ``in_channels`` and ``num_classes`` among them.

    Raises:
        SpecDMError: The model or an option does not exist, or the task is multilabel.
    """

    kind: Task = 'segmentation'

    def __init__(
        self,
        model: str = 'segformer',
        backbone: str | None = None,
        weights: bool | str | None = None,
        options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(model=model, backbone=backbone, weights=weights, **kwargs)


class DownstreamChangeTask(_Downstream, _Change):  # type: ignore[misc]
    """TorchGeo's change detection task with a model by name.

    Images are ``(B, 2, C, H, W)``, masks ``(B, 1, H, W)``.

    Args:
        model: A name in :data:`~torchgeo_specdm.downstream.registry.DOWNSTREAM`.
        backbone: As for :class:`DownstreamSegmentationTask`, like the next ones.
        weights: See there.
        options: See there; ``{version: v3}`` for ChangeFormer.
        kwargs: TorchGeo's own arguments, ``in_channels`` (of one date) among them.

    Raises:
        SpecDMError: The model or an option does not exist, or the task is multilabel.
    """

    kind: Task = 'change'

    def __init__(
        self,
        model: str = 'changeformer',
        backbone: str | None = None,
        weights: bool | str | None = None,
        options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(model=model, backbone=backbone, weights=weights, **kwargs)
