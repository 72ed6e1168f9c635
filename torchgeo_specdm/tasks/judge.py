"""Stage 3: the judge of alignment between image and mask, trained on the real samples."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch import Tensor
from torch.nn.functional import cross_entropy
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassF1Score, MulticlassJaccardIndex

from torchgeo_specdm.alignment.filter import PairFilter
from torchgeo_specdm.alignment.judge import Judge
from torchgeo_specdm.checkpoint import write_folder
from torchgeo_specdm.datamodules.generator import GeneratorDataModule
from torchgeo_specdm.spec import DatasetSpec
from torchgeo_specdm.tasks.generator import GeneratorTask, in_float32

# torchmetrics leaves out pixels of this value
_UNLABELLED = -1


class JudgeTask(GeneratorTask):
    """Trains a :class:`~torchgeo_specdm.alignment.judge.Judge`; writes a filter to ``<root>/checkpoint/filter``.

    The loss is the cross-entropy of the labelled pixels. A class that holds the share q of them has the weight
    1 / sqrt(q): a rare class (2 % of OSCD's pixels changed) is learned, yet the judge does not see it everywhere.

    Validation logs ``val_loss`` [nat], ``val_miou`` and ``val_f1``: of the class *change*, or the mean of the classes.

    Args:
        crop: Train on random windows of this size, where the patches are larger [px].
        lr: Peak learning rate.
        warmup_steps: Steps of linear warm-up.
        final_lr: Learning rate at the end, as a share of the peak.
        weight_decay: Weight decay of AdamW.
        half_precision: Write the judge's kernels as float16.
    """

    output = 'checkpoint/filter'
    model: Judge

    def __init__(
        self,
        crop: int = 64,
        lr: float = 1e-3,
        warmup_steps: int = 30,
        final_lr: float = 0.01,
        weight_decay: float = 0.01,
        half_precision: bool = True,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()

    def wrap_datamodule(self, datamodule: LightningDataModule, root: Path) -> LightningDataModule:
        """Raw train and val samples of ``datamodule``."""
        return GeneratorDataModule(datamodule)

    def configure_model(self) -> None:
        """Build the network for the datamodule's spec."""
        if hasattr(self, 'model'):
            return
        classes = self.spec.num_classes
        self.model = Judge.for_spec(self.spec)
        self.model.set_scaling(*self.data.band_statistics())
        self.class_weights: Tensor
        # A class that was not seen once gets the weight of one that was seen once
        counts = self.data.class_counts().clamp_min(1).double()
        self.register_buffer('class_weights', (counts / counts.sum()).rsqrt().float())
        self.loss = MeanMetric()
        self.miou = MulticlassJaccardIndex(classes, ignore_index=_UNLABELLED)
        self.f1 = MulticlassF1Score(classes, average='none', ignore_index=_UNLABELLED)

    def configure_optimizers(self) -> Any:
        """AdamW."""
        h = self.hparams
        return self.optimizers_for(
            self.model, h['lr'], h['warmup_steps'], h['final_lr'], weight_decay=h['weight_decay']
        )

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Weighted cross-entropy on a random window."""
        image, mask = batch['image'], self._target(batch['mask'])
        size = min(self.hparams['crop'], mask.shape[-1])
        top, left = (int(v) for v in torch.randint(mask.shape[-1] - size + 1, (2,)))
        window = (..., slice(top, top + size), slice(left, left + size))
        with self.half_on_cuda():
            logits = self.model(image[window])
        loss = cross_entropy(logits.float(), mask[window], self.class_weights, ignore_index=_UNLABELLED)
        # A window without a label says nothing; any other loss that is no number stops the training
        loss = loss.where((mask[window] != _UNLABELLED).any(), 0.0)
        self.log('train_loss', loss, prog_bar=True)
        return loss

    @in_float32
    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Loss and agreement on whole patches."""
        target = self._target(batch['mask'])
        log_probabilities = self.model.log_probabilities(batch['image'])
        self.loss.update(self.model.losses(log_probabilities, target)[target != _UNLABELLED])
        predicted = log_probabilities.argmax(1)
        self.miou.update(predicted, target)
        self.f1.update(predicted, target)
        if batch_idx == 0:
            self.log_pairs(batch, lambda: batch | {'mask': predicted.view_as(batch['mask'])}, 'judged')

    def on_validation_epoch_end(self) -> None:
        """Log the scores."""
        f1 = self.f1.compute()
        scores = {'loss': self.loss.compute(), 'miou': self.miou.compute()}
        scores['f1'] = f1[1] if self.spec.task == 'change' else f1.mean()
        self.log_dict({f'val_{name}': value for name, value in scores.items()}, prog_bar=True)
        for metric in (self.loss, self.miou, self.f1):
            metric.reset()

    def on_train_end(self) -> None:
        """The output is written when a fit ends, on the processor."""
        self._losses.require_numbers()

    def _write_output(self) -> None:
        if not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            self.write_once(lambda: self.write(self.root / self.output))

    def write(self, folder: Path) -> None:
        """Calibrate the filter on the val split and write it."""
        half = self.hparams['half_precision']
        if half:
            self.model.round_to_half()
        data = self.data
        PairFilter.calibrate(self.model, data.split('train'), data.split('val'), self.spec).save(folder, half)

    def _target(self, mask: Tensor) -> Tensor:
        """``(B, H, W)`` with one value for all that is no class."""
        mask = mask.reshape(len(mask), *mask.shape[-2:])
        return mask.masked_fill((mask < 0) | (mask >= self.spec.num_classes), _UNLABELLED)


class _JudgeAlone(JudgeTask):
    """Leaves a judge without a filter."""

    output = 'judge'

    def wrap_datamodule(self, datamodule: LightningDataModule, root: Path) -> LightningDataModule:
        return datamodule

    def write(self, folder: Path) -> None:
        write_folder(folder, self.model.save_pretrained)


def train_judge(
    datamodule: LightningDataModule,
    root: str | Path,
    *,
    steps: int = 300,
    seed: int = 0,
    spec: DatasetSpec | None = None,
) -> Judge:
    """Train a judge on the train split of any datamodule and write it to ``<root>/judge``.

    Whoever grades a filtered dataset must not use the judge that filtered it: train another one with another seed.

    Args:
        datamodule: Serves the real samples, ``datamodule.batch_size`` in a batch.
        root: Created where it is missing.
        steps: Number of batches.
        seed: Seed of the weights and of the order of the samples; the process's random state is left as it was.
        spec: Description of the data, where its datasets carry none.

    Returns:
        The judge on the CPU, without gradients, in evaluation mode.
    """
    task = _JudgeAlone()
    trainer = Trainer(
        max_steps=steps,
        devices=1,
        default_root_dir=root,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        limit_val_batches=0,
        num_sanity_val_steps=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        trainer.fit(task, GeneratorDataModule(datamodule, spec))
    return task.model.cpu().eval().requires_grad_(False)
