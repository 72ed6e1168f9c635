"""Will the samples help? A TorchGeo task learns from real samples, synthetic ones or both, and is tested on real ones.

The trainings differ in their samples alone: they begin with the same weights, take equally many steps of equally many
pixels, and are tested on the same whole samples. The network is small and the training short. Its field of view is
11 px, so that small crops teach it all that whole samples would, in more variety.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.utils.data import Dataset, Subset

from torchgeo_specdm import compat
from torchgeo_specdm.comparison import (
    Comparison,
    Counts,
    Score,
    compare,
    f1,
    iou,
    normalising_collate,
    sum_groups,
    train_and_count,
)
from torchgeo_specdm.datasets import MixedDataset
from torchgeo_specdm.datasets.ground import ground
from torchgeo_specdm.evaluation.measure import Measure, Section
from torchgeo_specdm.evaluation.observation import draw
from torchgeo_specdm.evaluation.real_data import RealData
from torchgeo_specdm.spec import DatasetSpec

# On OSCD, half the filters, twice the steps and thrice TorchGeo's learning rate score more than its defaults, and vary
# less from seed to seed, in the same time
_FILTERS = 16
_LEARNING_RATE = 3e-3
# One pixel in fifty changes, say: unweighted, a short training learns that nothing ever does
_CHANGE_WEIGHT = 10.0
# Fewer scenes than this say nothing about other scenes: then samples are resampled
_SCENES = 5


class Source(Enum):
    """What a task is trained on."""

    REAL = 'real samples'
    SYNTHETIC = 'synthetic samples alone'
    MIX = 'real and synthetic samples'


@dataclass(frozen=True)
class Budget:
    """How much is computed.

    Attributes:
        steps: Optimiser steps of each training.
        batch_size: Crops in a batch.
        crop: Height and width of a crop [px]; smaller samples are used whole.
        runs: Trainings on each source, with seeds 0, 1, ...
        real: Most real train samples, drawn at random.
        test: Most real test samples, drawn at random.
        ratio: Synthetic samples per real one, in the mix and alone; fewer where there are not as many.
    """

    steps: int = 400
    batch_size: int = 16
    crop: int = 32
    runs: int = 2
    real: int = 200
    test: int = 100
    ratio: float = 1.0


class RandomCrops(Dataset[dict[str, Tensor]]):
    """Image and mask of a dataset's samples, each time at another random place.

    Args:
        dataset: Samples in the shapes of ``spec``.
        spec: Describes the samples.
        size: Height and width of a crop [px].
        seed: Seed of the places; they depend on the order of access too.
    """

    def __init__(self, dataset: Any, spec: DatasetSpec, size: int, seed: int) -> None:
        self.dataset = dataset
        self.spec = spec
        self.size = size
        self._generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """A crop of the sample at ``index``."""
        sample = self.dataset[index]
        image, mask = sample['image'], sample['mask']
        if self.spec.task == 'change':
            # TorchGeo's loss of change cannot ignore pixels: those without a label count as unchanged
            mask = (mask == 1).long()
        limits = [max(1, length - self.size + 1) for length in image.shape[-2:]]
        top, left = (int(torch.randint(limit, (), generator=self._generator)) for limit in limits)
        window = (..., slice(top, top + self.size), slice(left, left + self.size))
        return {'image': image[window], 'mask': mask[window]}


def train_counts(real: RealData, source: Source, synthetic: Any, budget: Budget) -> Counts:
    """What tasks trained on one source find in real test samples.

    Args:
        real: Real samples.
        source: What to train on. On ``REAL``, the result does not depend on ``synthetic``.
        synthetic: A dataset of synthetic samples with a length.
        budget: How much is computed.

    Returns:
        Pixels of each run, test sample and class, ``(runs, N, K)`` float64.

    Raises:
        SpecMismatchError: Real and synthetic samples do not fit together.
    """
    train = _samples(real, source, synthetic, budget)
    found = []
    for run in range(budget.runs):
        # Loaders draw from the global state too
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run)
            counts = train_and_count(
                make_task(real.spec),
                RandomCrops(train, real.spec, budget.crop, run),
                _test(real, budget),
                normalising_collate(real.mean, real.std),
                real.spec.num_classes,
                steps=budget.steps,
                batch_size=budget.batch_size,
                seed=run,
                text=f'{source.value}, {run + 1} of {budget.runs}',
            )
        found.append(counts)
    return Counts(*(torch.stack(parts) for parts in zip(*found, strict=True)))


def measure_usefulness(real: RealData, synthetic: Any, counts: Counts, budget: Budget) -> Section:
    """Scores of a task trained with synthetic samples, beside those without.

    Args:
        real: Real samples.
        synthetic: A dataset of synthetic samples with a length.
        counts: Of :func:`train_counts` on real samples, of the same ``budget``.
        budget: How much is computed.

    Raises:
        SpecMismatchError: Real and synthetic samples do not fit together.
    """
    sources = {source: train_counts(real, source, synthetic, budget) for source in (Source.MIX, Source.SYNTHETIC)}
    groups, unit = _groups(real, budget)
    scores = _scores(real.spec)
    first = sum_groups(counts, groups)
    found = {
        (score, source): compare(first, sum_groups(counted, groups), function)
        for score, function in scores.items()
        for source, counted in sources.items()
    }
    samples = len(_samples(real, Source.SYNTHETIC, synthetic, budget))
    settings = {
        **vars(budget),
        'synthetic': samples,
        'network': f'fcn, {_FILTERS} filters',
        'lr': _LEARNING_RATE,
        'resampled': unit,
    }
    main = next(iter(scores))
    details = {
        'classes': list(real.spec.classes),
        'iou': {
            source.value: iou(Counts(*(values.sum((0, 1)) for values in counted)))
            for source, counted in {Source.REAL: counts, **sources}.items()
        },
    }
    return Section(
        'Usefulness',
        'Does a model that also learns from synthetic samples do better on real ones?',
        [
            _gain(main, found[main, Source.MIX], samples, settings),
            *(_score(score, source, comparison, samples, settings) for (score, source), comparison in found.items()),
        ],
        _notes(real, counts, found[main, Source.MIX], main, f'{int(groups.max()) + 1} {unit}', samples, budget),
        details,
    )


def make_task(spec: DatasetSpec) -> LightningModule:
    """TorchGeo's task for a dataset, with a small network and fresh weights."""
    network: dict[str, Any] = {
        'model': 'fcn',
        'num_filters': _FILTERS,
        'weights': None,
        'in_channels': spec.num_bands,
        'lr': _LEARNING_RATE,
    }
    if spec.task == 'change':
        task: LightningModule = compat.change_task()(**network, pos_weight=torch.tensor(_CHANGE_WEIGHT))
    else:
        task = compat.segmentation_task()(**network, num_classes=spec.num_classes, ignore_index=spec.ignore_index)
    return task


def _samples(real: RealData, source: Source, synthetic: Any, budget: Budget) -> Subset[Any] | MixedDataset:
    """Train samples of one source."""
    drawn = Subset(real.train, draw(real.train, budget.real))
    if source is Source.REAL:
        return drawn
    ratio = min(budget.ratio, len(synthetic) / len(drawn))
    return MixedDataset(drawn, synthetic, ratio, include_real=source is Source.MIX, real_spec=real.spec)


def _test(real: RealData, budget: Budget) -> Subset[Any]:
    return Subset(real.test, draw(real.test, budget.test))


def _groups(real: RealData, budget: Budget) -> tuple[Tensor, str]:
    """The group of each test sample that intervals resample, and what groups are: samples of a scene are alike."""
    test = _test(real, budget)
    scenes, group = torch.unique(ground(test)[:, 0], return_inverse=True)
    return (group, 'test scenes') if len(scenes) >= _SCENES else (torch.arange(len(test)), 'test samples')


def _scores(spec: DatasetSpec) -> Mapping[str, Score]:
    """Scores by name, the main one first; a class that has no label in the test samples is left out."""

    def labelled(values: Callable[[Counts], Tensor]) -> Score:
        return lambda counts: values(counts).where(counts.labelled > 0, torch.nan)

    def mean(counts: Counts) -> Tensor:
        return labelled(iou)(counts).nanmean(-1)

    if spec.task == 'segmentation':
        return {'mIoU': mean}
    return {
        'IoU of change': lambda counts: labelled(iou)(counts)[..., 1],
        'F1 of change': lambda counts: labelled(f1)(counts)[..., 1],
        'mIoU': mean,
    }


def _gain(score: str, found: Comparison, samples: int, settings: Mapping[str, Any]) -> Measure:
    gain, flag = found.difference, ''
    if gain.high < 0:
        flag = (
            f'a model that also learns from the synthetic samples is worse on real ones: {score} {found.second} '
            f'against {found.first}'
        )
    return Measure(
        f'Gain in {score} from adding synthetic samples', gain, samples=samples, settings=settings, flag=flag
    )


def _score(score: str, source: Source, found: Comparison, samples: int, settings: Mapping[str, Any]) -> Measure:
    return Measure(
        f'{score}, trained on {source.value}',
        found.second,
        found.first,
        f'trained on {Source.REAL.value}',
        samples=samples,
        settings={**settings, 'difference': found.difference._asdict()},
    )


def _notes(
    real: RealData, counts: Counts, found: Comparison, score: str, resampled: str, samples: int, budget: Budget
) -> list[str]:
    reals = min(budget.real, len(real.train))
    notes = [
        f'{reals} real and {samples} synthetic samples; {budget.steps} steps of {budget.batch_size} crops of at most '
        f'{budget.crop} px from each of {budget.runs} seeds, whatever the source. Intervals are over {resampled} and '
        'seeds.',
        'So small a network, trained so briefly, shows whether labels and images teach the right thing, not the gain '
        'that a full training would bring.',
    ]
    pixels = counts.labelled[0].sum(0)
    if absent := [name or str(k) for k, name in enumerate(real.spec.classes) if pixels[k] == 0]:
        notes.append(f'Without a label in the test samples, and left out: {", ".join(absent)}.')
    if found.difference.low <= 0 <= found.difference.high:
        notes.append(f'The interval of the gain holds 0: no effect of the synthetic samples on {score} is shown.')
    return notes
