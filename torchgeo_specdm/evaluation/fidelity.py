"""Do the synthetic samples look like real ones, and are they as varied? In features of images and of masks.

All figures depend on the number of samples N. So N synthetic samples, N real ones of one half of the train samples
and N held-out real ones are each compared with N of the other half: the second comparison is the floor, which real
samples of other ground reach.
"""

from typing import Any

import torch
from torch import Tensor

from torchgeo_specdm.evaluation.compared import Compared
from torchgeo_specdm.evaluation.measure import Interval, Measure, Section
from torchgeo_specdm.evaluation.observation import Observer, Sides
from torchgeo_specdm.evaluation.resampling import interval_about, subsets
from torchgeo_specdm.extractors.base import Extractor
from torchgeo_specdm.functional.coverage import DensityCoverage, density_coverage_of_distances
from torchgeo_specdm.functional.distances import Products, frechet_distance

_PREFIX = 'features/'
_NEIGHBOURS = 5
# Fewer samples have no distribution to speak of; more than the most change little and take long
_FEWEST, _MOST = 20, 2000
# Below this many, intervals are wide and flags come and go with the draw
_FEW = 100
# Samples of a subset that intervals are drawn from: smaller ones are faster, and make intervals wider, not narrower
_SUBSET = 150
# What is flagged: how many times a distance, and what part of a share, that real samples reach
_FAR = {'frechet': 1.25, 'kernel': 1.5}
_LOW = 0.5

_NAMES = {
    'frechet': 'Fréchet distance',
    'kernel': 'kernel distance (KID)',
    'precision': 'precision',
    'recall': 'recall',
    'density': 'density',
    'coverage': 'coverage',
}
_LIMITS = {
    'frechet': (0.0, float('inf')),
    'kernel': (-float('inf'), float('inf')),
    'precision': (0.0, 1.0),
    'recall': (0.0, 1.0),
    'density': (0.0, float('inf')),
    'coverage': (0.0, 1.0),
}
_FLAGS = {
    'frechet': 'they do not look like real ones',
    'kernel': 'they do not look like real ones',
    'precision': 'few of them look like any real one',
    'recall': 'they are less varied than real ones',
    'coverage': 'they leave out much of what is real',
}


class FeatureObserver(Observer):
    """Features of each date's image and of the mask.

    Args:
        extractor: Computes them.
    """

    def __init__(self, extractor: Extractor) -> None:
        self.extractor = extractor
        self.name = _PREFIX + extractor.name

    @property
    def settings(self) -> dict[str, Any]:
        """The extractor and its settings."""
        return {'extractor': self.extractor.name, **self.extractor.settings}

    def observe(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Rows ``date1``[, ``date2``] and ``mask``, ``(B, D)`` each."""
        dates = {f'date{date + 1}': self.extractor.images(image[:, date]) for date in range(image.shape[1])}
        return dates | {'mask': self.extractor.masks(mask)}


class ImageObserver(FeatureObserver):
    """Features of each date's image alone, where masks are measured exactly and features of them take half the time."""

    @property
    def settings(self) -> dict[str, Any]:
        """The extractor and its settings, and that masks are left out."""
        return {**super().settings, 'masks': None}

    def observe(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Rows ``date1``[, ``date2``], ``(B, D)`` each."""
        return {f'date{date + 1}': self.extractor.images(image[:, date]) for date in range(image.shape[1])}


def measure_fidelity(sides: Sides) -> Section:
    """Distances and coverage in the features of every extractor that looked at the synthetic samples."""
    names = [name for name in sides.synthetic if name.startswith(_PREFIX)]
    halves = [(sides.halves == half).nonzero().flatten() for half in (0, 1)]
    made, held = (
        torch.arange(min((len(rows[name]['mask']) for name in names), default=0))
        for rows in (sides.synthetic, sides.held_out)
    )
    count = min(len(made), *(len(half) for half in halves), _MOST)
    title, question = 'Fidelity and diversity', 'Do synthetic samples look like real ones, and are they as varied?'
    if count < _FEWEST:
        return Section(title, question, [], [f'Not measured: {_FEWEST} samples to compare are needed, not {count}.'])
    base, other, made, held = (_draw(indices, count) for indices in (*halves, made, held))
    measures = []
    for name in names:
        for stream, synthetic in sides.synthetic[name].items():
            train, new = sides.train[name][stream], sides.held_out[name][stream]
            found = [_compare(train[base], rows) for rows in (synthetic[made], train[other], new[held])]
            settings = {
                'extractor': name.removeprefix(_PREFIX),
                'stream': stream,
                'dimensions': train.shape[1],
                'held-out samples': len(held),
            }
            for key in _NAMES:
                figure = Compared(*(figures[key] for figures in found))
                measures.append(_measure(key, figure, count, settings, sides.spec.num_dates))
    notes = [
        *([f'With only {count} samples a side, these figures say little: generate more.'] * (count < _FEW)),
        f'{count} synthetic samples are compared with {count} real ones, half of the train samples; the reference '
        f'compares {count} of the other half, which are of different ground.',
        'A Fréchet distance depends on the extractor and on the number of samples: read it beside its reference only.',
        'Precision and density say whether synthetic samples are like real ones, recall and coverage whether they are '
        'as varied.',
    ]
    return Section(title, question, measures, notes)


def _draw(indices: Tensor, count: int) -> Tensor:
    """At most ``count`` of the indices, at random."""
    order = torch.randperm(len(indices), generator=torch.Generator().manual_seed(0))
    return indices[order[:count].sort().values]


def _compare(real: Tensor, other: Tensor) -> dict[str, Interval]:
    """All figures of other features ``(M, D)`` against as many of the real ones ``(N, D)``; NaN where M is too few."""
    count = min(len(real), len(other))
    if count < _FEWEST:
        return dict.fromkeys(_NAMES, Interval(float('nan'), float('nan'), float('nan')))
    real = real[_draw(torch.arange(len(real)), count)]
    products = Products.of(real, other)
    first, second, cross = products.distances()
    values = _figures(products, first, second, cross) | {'frechet': frechet_distance(real, other)}
    (rows, scale), (columns, _) = (subsets(count, _SUBSET, seed) for seed in (0, 1))
    drawn = []
    for i, j in zip(rows, columns, strict=True):
        distances = first[i][:, i], second[j][:, j], cross[i][:, j]
        drawn.append(_figures(products.subset(i, j), *distances))
    return {
        key: interval_about(value, torch.tensor([figures[key] for figures in drawn]), scale, *_LIMITS[key])
        for key, value in values.items()
    }


def _figures(products: Products, *distances: Tensor) -> dict[str, float]:
    first, second, cross = distances
    shares: DensityCoverage = density_coverage_of_distances(first, second, cross, _NEIGHBOURS)
    return {'frechet': products.frechet_distance(), 'kernel': products.kernel_distance(), **shares._asdict()}


def _measure(key: str, found: Compared, samples: int, settings: dict[str, Any], dates: int) -> Measure:
    stream, extractor = settings['stream'], settings['extractor']
    images = 'images' if dates == 1 else f'images of date {stream.removeprefix("date")}'
    what = 'masks' if stream == 'mask' else images
    wrong = found.exceeds(_FAR[key]) if key in _FAR else found.falls_short(_LOW)
    flag = (
        f'The {_NAMES[key]} of {what} is {found.synthetic.value:.3g} in the features {extractor}, where real samples '
        f'of other ground have {found.halves.value:.3g}: {_FLAGS.get(key)}.'
    )
    return found.measure(
        f'{_NAMES[key]} of {what}, {extractor}',
        samples=samples,
        settings=settings | ({} if key in _FAR else {'neighbours': _NEIGHBOURS}),
        flag=flag if wrong and key in _FLAGS else '',
    )
