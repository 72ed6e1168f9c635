"""A TorchGeo task trained on one dataset or another for equally many steps, and scores with intervals.

A score's interval holds 95 % of its values over resampled test groups and training runs (percentile bootstrap, Efron
1979). Both datasets are scored on the same draws, so that the interval of their difference is that of pairs.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler, default_collate
from tqdm import tqdm

from torchgeo_specdm import compat
from torchgeo_specdm.datasets.device import resolve_device, same_arithmetic
from torchgeo_specdm.evaluation.measure import Interval

# Warnings of Lightning about what is done here on purpose, or by Lightning itself
_EXPECTED = ('.*does not have many workers', 'You defined a `validation_step`', '.*isinstance.treespec')


class Counts(NamedTuple):
    """Numbers of pixels of each class, ``(..., K)``."""

    hit: Tensor
    predicted: Tensor
    labelled: Tensor


Score = Callable[[Counts], Tensor]
"""A function from counts ``(..., K)`` to ``(...)``."""


class Comparison(NamedTuple):
    """One score of both trainings, and ``second - first``."""

    first: Interval
    second: Interval
    difference: Interval


def classes_of(scores: Tensor, threshold: float = 0.0) -> Tensor:
    """The likeliest class of each pixel, ``(B, H, W)``.

    Args:
        scores: Logits or probabilities ``(B, K, H, W)``, or ``(B, 1, H, W)`` of a binary task.
        threshold: The score from which a pixel is positive in a binary task: 0 of logits, 0.5 of probabilities.
    """
    return scores.argmax(1) if scores.shape[1] > 1 else (scores[:, 0] >= threshold).long()


def count_pixels(prediction: Tensor, mask: Tensor, num_classes: int) -> Counts:
    """Count the pixels of each sample, ``(B, K)``; those whose label is no class are left out.

    Args:
        prediction: Classes ``(B, H, W)``.
        mask: Labels ``(B, H, W)`` or ``(B, 1, H, W)``.
        num_classes: K.
    """
    prediction, mask = prediction.flatten(1), mask.flatten(1)
    valid = (mask >= 0) & (mask < num_classes)
    classes = torch.arange(num_classes).view(-1, 1, 1)
    predicted, labelled = (prediction == classes) & valid, mask == classes
    return Counts(*(pixels.sum(2).T.double() for pixels in (predicted & labelled, predicted, labelled)))


def iou(counts: Counts) -> Tensor:
    """Intersection over union of each class, ``(..., K)``; NaN for a class that is neither labelled nor predicted."""
    return counts.hit / (counts.predicted + counts.labelled - counts.hit)


def mean_iou(counts: Counts) -> Tensor:
    """Mean IoU over the classes that are labelled or predicted, ``(...)``."""
    return iou(counts).nanmean(-1)


def f1(counts: Counts) -> Tensor:
    """F1 of each class, ``(..., K)``; NaN for a class that is neither labelled nor predicted."""
    return 2 * counts.hit / (counts.predicted + counts.labelled)


def normalising_collate(mean: Tensor, std: Tensor) -> Callable[[list[dict[str, Tensor]]], dict[str, Tensor]]:
    """A collate function that normalises images ``(..., C, H, W)`` band by band."""
    mean, std = mean.view(-1, 1, 1), std.view(-1, 1, 1)

    def collate(samples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        batch = default_collate([{key: sample[key] for key in ('image', 'mask')} for sample in samples])
        return {'image': (batch['image'] - mean) / std, 'mask': batch['mask']}

    return collate


class _Bar(Callback):
    def __init__(self, text: str) -> None:
        self.text = text

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.bar = tqdm(total=trainer.max_steps, desc=self.text, unit='step')

    def on_train_batch_end(self, *_: Any) -> None:
        self.bar.update()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.bar.close()


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Only warnings from Lightning's trainer; what it says afterwards is the caller's to choose."""
    logger = logging.getLogger('lightning.pytorch')
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def train_and_count(
    task: LightningModule,
    train: Dataset[Any],
    test: Dataset[Any],
    collate: Callable[[list[dict[str, Tensor]]], dict[str, Tensor]],
    num_classes: int,
    *,
    steps: int,
    batch_size: int,
    seed: int,
    text: str,
) -> Counts:
    """Train a TorchGeo task and count the pixels of each test sample, ``(len(test), K)``.

    Args:
        task: Of semantic segmentation or (binary) change detection, freshly made.
        train: Train samples.
        test: Test samples.
        collate: Makes a batch.
        num_classes: K.
        steps: Optimiser steps.
        batch_size: Samples in a batch.
        seed: Seed of the order of the train samples.
        text: What the progress bar says.
    """
    # TorchGeo's learning rate follows the validation loss, epoch by epoch. A single epoch which does not end before
    # the last step keeps it constant: datasets of different length are then trained alike.
    order = RandomSampler(
        train,  # type: ignore[arg-type]
        num_samples=(steps + 2) * batch_size,
        generator=torch.Generator().manual_seed(seed),
    )
    # On a CPU that is one thread: the scores then depend on no number of cores, and on a busy machine threads that
    # wait for one another would take ten times as long
    with _quiet_lightning(), warnings.catch_warnings(), same_arithmetic(resolve_device(None)):
        for message in _EXPECTED:
            warnings.filterwarnings('ignore', message=message)
        trainer = Trainer(
            max_steps=steps,
            devices=1,
            callbacks=[_Bar(text)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(task, DataLoader(train, batch_size, sampler=order, collate_fn=collate))
        loader = DataLoader(test, batch_size, collate_fn=collate)
        outputs = trainer.predict(task, loader) or []
    found = [
        count_pixels(classes_of(compat.probabilities(output).cpu(), threshold=0.5), batch['mask'], num_classes)
        for output, batch in zip(outputs, loader, strict=True)
    ]
    return Counts(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def sum_samples(counts: Counts, weights: Tensor | None = None) -> Counts:
    """Counts ``(N, K)`` of samples as one count ``(K,)`` of all.

    Args:
        counts: Counts of samples.
        weights: How often each sample counts, ``(R, N)`` float64; then the result is ``(R, K)``.
    """
    return Counts(*(values.sum(0) if weights is None else weights @ values.double() for values in counts))


def sum_groups(counts: Counts, groups: Tensor) -> Counts:
    """Counts ``(..., N, K)`` of samples as counts ``(..., G, K)`` of groups.

    Args:
        counts: Counts of samples.
        groups: The group 0 ... G-1 of each sample, ``(N,)``.
    """
    members = (groups == torch.arange(int(groups.max()) + 1).view(-1, 1)).double()
    return Counts(*(torch.einsum('gn,...nk->...gk', members, values) for values in counts))


def compare(first: Counts, second: Counts, score: Score, resamples: int = 2000, seed: int = 0) -> Comparison:
    """One score of two trainings, with intervals.

    A class that no resampled group holds has no score there; ``score`` decides what becomes of its NaN.

    Args:
        first: Counts ``(S, G, K)`` of S training runs on G test groups.
        second: Of the same shape; run s and group g are the same in both.
        score: The score; its mean over the runs is reported.
        resamples: Number of draws.
        seed: Seed of the draws.
    """
    runs, groups, _ = first.hit.shape
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(groups, (resamples, groups), generator=generator)
    weights = torch.zeros(resamples, groups, dtype=torch.float64)
    weights.scatter_add_(1, drawn, torch.ones_like(weights[:1]).expand_as(drawn))
    run = torch.randint(runs, (resamples, runs), generator=generator)

    def draws(counts: Counts) -> Tensor:
        scores = score(Counts(*(torch.einsum('rg,sgk->rsk', weights, values) for values in counts)))
        return scores.gather(1, run).mean(1)

    values = [score(Counts(*(value.sum(1) for value in counts))).mean() for counts in (first, second)]
    spread = [draws(counts) for counts in (first, second)]
    pairs = ((values[0], spread[0]), (values[1], spread[1]), (values[1] - values[0], spread[1] - spread[0]))
    return Comparison(*(_interval(value, drawn) for value, drawn in pairs))


def _interval(value: Tensor, drawn: Tensor) -> Interval:
    low, high = drawn.nanquantile(torch.tensor([0.025, 0.975], dtype=drawn.dtype)).tolist()
    return Interval(float(value), low, high)
