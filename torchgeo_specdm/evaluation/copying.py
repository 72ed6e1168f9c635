"""Are synthetic samples copies of training patches? The share that lies too near to one, beside that of new real ones.

A sample is called a copy where its nearest training patch, in any of the eight orientations, is less than a third as
far as the nearest one of other ground (:mod:`torchgeo_specdm.functional.nearest`): in pixel space
(:mod:`torchgeo_specdm.alignment.copies`) and, where train features were observed in eight orientations, in the space
of each extractor. Held-out real patches show how often new samples are called copies.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from torchgeo_specdm.alignment.copies import COPY_RATIO, TrainingIndex
from torchgeo_specdm.datasets.ground import overlapping
from torchgeo_specdm.evaluation.measure import Interval, Measure, Section, bootstrap
from torchgeo_specdm.evaluation.observation import Observer, Rows, Sides
from torchgeo_specdm.functional.dihedral import ORIENTATIONS, dihedral
from torchgeo_specdm.functional.nearest import nearest

_ORIENTED = '/oriented'
# How much more often than new real patches synthetic ones may be called copies
_MARGIN = 0.01
# Median ratio, as a share of that of new real patches, below which samples are called near to training patches
_NEAR = 0.75


class CopyObserver(Observer):
    """The nearest training patch of each sample in pixel space.

    Rows are ``ratio``, ``distance``, ``index`` and ``orientation``, ``(B,)`` each, as of :meth:`TrainingIndex.nearest`.

    Args:
        index: Of the training patches.
    """

    name = 'copies'

    def __init__(self, index: TrainingIndex) -> None:
        self.index = index

    @property
    def settings(self) -> dict[str, Any]:
        """The training patches."""
        return {'training_index': self.index.digest}

    def observe(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Look up a batch; the masks do not matter."""
        found = self.index.nearest(image)
        return {name: getattr(found, name) for name in ('ratio', 'distance', 'index', 'orientation')}


class OrientedObserver(Observer):
    """What another observer sees in the eight orientations of each sample: rows ``(B, 8, ...)``.

    Meant for the features of train samples; takes eight times as long.

    Args:
        observer: The other one.
    """

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self.name = observer.name + _ORIENTED

    @property
    def settings(self) -> dict[str, Any]:
        """Those of the other observer."""
        return {**self.observer.settings, 'orientations': ORIENTATIONS}

    def observe(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Rows of each orientation, stacked."""
        turned = [self.observer.observe(dihedral(image, g), dihedral(mask, g)) for g in range(ORIENTATIONS)]
        return {name: torch.stack([rows[name] for rows in turned], dim=1) for name in turned[0]}


def measure_copying(sides: Sides, ground: Tensor, closest: int = 10) -> Section:
    """The share of copies, in pixel space and in that of every extractor whose train features are oriented.

    Args:
        sides: Held-out and synthetic rows of :class:`CopyObserver`; for each extractor to use, say ``features/lite0``,
            its rows ``date1``, ... of the held-out and synthetic samples, and those of :class:`OrientedObserver` of the
            train samples.
        ground: Where the train samples lie, ``(N, 3)``; see :mod:`torchgeo_specdm.datasets.ground`.
        closest: How many of the closest pairs to list.

    Returns:
        The section. Its details: ``closest``, a list of mappings with ``synthetic`` (row), ``train`` (index in the
        train dataset), ``orientation`` (of the train patch, as :func:`~torchgeo_specdm.functional.dihedral` counts),
        ``ratio`` and ``distance``; ``ratios``, by space, those of ``synthetic`` and ``held_out`` samples.
    """
    name = CopyObserver.name
    ratios = {'pixels': (sides.synthetic[name]['ratio'], sides.held_out[name]['ratio'])}
    extractors = [key.removesuffix(_ORIENTED) for key in sides.train if key.endswith(_ORIENTED)]
    for extractor in extractors:
        train = _features(sides.train[extractor + _ORIENTED]).movedim(1, 0)
        ratios[extractor] = (
            _ratio(_features(sides.synthetic[extractor]), train, ground, sides.spec.patch_size),
            _ratio(_features(sides.held_out[extractor]), train, ground, sides.spec.patch_size),
        )
    measures = [measure for space, (made, held) in ratios.items() for measure in _measures(space, made, held)]
    return Section(
        title='Copying',
        question='Are synthetic samples copies of training patches?',
        measures=measures,
        notes=(
            'A copy is less than a third as far from its nearest training patch, in any of eight orientations, as from '
            'the nearest one of other ground.',
            'In pixels, the patterns of a patch in 8 x 8 blocks are compared, whatever their brightness and contrast. '
            'Shifted crops of a training patch that lie between its neighbours, and pairs of which one date alone is '
            'copied, are not found.',
        ),
        details={
            'closest': _closest(sides.synthetic[name], closest),
            'ratios': {space: {'synthetic': made, 'held_out': held} for space, (made, held) in ratios.items()},
        },
    )


def share(flagged: Tensor) -> Interval:
    """The share of samples that are flagged, with Wilson's interval (J. Am. Stat. Assoc. 22, 1927).

    Unlike the bootstrap's, it has a width where none is flagged.

    Args:
        flagged: ``(N,)`` bool, N >= 1.
    """
    count, z = len(flagged), 1.96
    value = float(flagged.float().mean())
    centre = value + z**2 / (2 * count)
    half = z * math.sqrt(value * (1 - value) / count + z**2 / (4 * count**2))
    low, high = ((centre + sign * half) / (1 + z**2 / count) for sign in (-1, 1))
    # Rounding must not exclude 0 and 1 themselves
    return Interval(value, min(value, max(0.0, low)), max(value, min(1.0, high)))


def _measures(space: str, made: Tensor, held: Tensor) -> list[Measure]:
    synthetic, real = share(made < COPY_RATIO), share(held < COPY_RATIO)
    settings = {'space': space, 'orientations': ORIENTATIONS, 'held_out_samples': len(held)}
    flag = ''
    if synthetic.value > real.high + _MARGIN:
        flag = (
            f'{synthetic.value:.1%} of the synthetic samples are copies of training patches ({space}), of new real '
            f'ones at most {real.high:.1%}: they add nothing to the training data, and give it away where it is private'
        )
    typical, new = _median(made), _median(held)
    near = ''
    if not flag and typical.high < _NEAR * new.low:
        near = (
            f'In {space}, a typical synthetic sample is {typical.value:.2f} times as far from its nearest training '
            f'patch as from other ground, a new real one {new.value:.2f} times: the generator repeats much of what it '
            'saw.'
        )
    figures = (
        (f'share of copies, {space}', synthetic, real, settings | {'below': '1/3'}, flag),
        (f'median distance ratio, {space}', typical, new, settings, near),
    )
    return [
        Measure(name, value, reference, 'held-out real', samples=len(made), settings=described, flag=warning)
        for name, value, reference, described, warning in figures
    ]


def _median(ratio: Tensor) -> Interval:
    return bootstrap(lambda rows: float(ratio[rows].double().median()), len(ratio))


def _features(rows: Rows) -> Tensor:
    """The features of all dates, side by side."""
    return torch.cat([rows[name].float() for name in sorted(rows) if name.startswith('date')], dim=-1)


def _ratio(queries: Tensor, train: Tensor, ground: Tensor, patch_size: int) -> Tensor:
    return nearest(queries, train, lambda index: overlapping(ground[index], ground, patch_size)).ratio


def _closest(rows: Rows, count: int) -> list[Mapping[str, int | float]]:
    order = rows['ratio'].argsort(stable=True)[:count].tolist()
    return [
        {
            'synthetic': row,
            'train': int(rows['index'][row]),
            'orientation': int(rows['orientation'][row]),
            'ratio': float(rows['ratio'][row]),
            'distance': float(rows['distance'][row]),
        }
        for row in order
    ]
