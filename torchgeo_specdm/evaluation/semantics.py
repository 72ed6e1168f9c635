"""Are the masks like real ones: how much there is of each class, which meet, how large and ragged regions are?"""

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from torchgeo_specdm.evaluation.compared import Compared
from torchgeo_specdm.evaluation.measure import Interval, Measure, Section
from torchgeo_specdm.evaluation.observation import Observer, Rows, Sides
from torchgeo_specdm.evaluation.resampling import resample_weights, resampled_interval
from torchgeo_specdm.functional.regions import boundary_length, co_occurrence, connected_regions
from torchgeo_specdm.spec import DatasetSpec

# How many times what real masks differ by is flagged
_FAR = 1.5
# A difference of class shares that nobody minds
_SHARE = 0.02
# Synthetic patches in which a class would be expected before its absence is flagged
_EXPECTED = 10


class SemanticsObserver(Observer):
    """Classes and regions of each mask.

    Rows: ``pixels`` (B, K) of each class and ``presence`` (B, K) of at least one; ``regions`` (B,), their number;
    ``boundary`` (B,), the number of neighbouring pixels of different classes; ``sizes`` (B, bins), the number of
    regions of 1, 2-3, 4-7, ... pixels.

    Args:
        spec: Describes the samples.
    """

    name = 'semantics'

    def __init__(self, spec: DatasetSpec) -> None:
        self.spec = spec

    @property
    def settings(self) -> dict[str, Any]:
        """Classes and how regions are connected."""
        return {'classes': self.spec.num_classes, 'connectivity': 4}

    def observe(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Rows of a batch; the images do not matter."""
        classes = self.spec.num_classes
        pixels = torch.stack([(mask == value).sum((1, 2)) for value in range(classes)], 1)
        bins = math.floor(math.log2(mask[0].numel())) + 1
        found = [connected_regions(one, classes).sizes for one in mask]
        # frexp is exact where log2 of a power of two might not be: s = m * 2^e with m in [0.5, 1)
        sizes = [torch.bincount(torch.frexp(size.double()).exponent.long() - 1, minlength=bins) for size in found]
        return {
            'pixels': pixels,
            'presence': pixels > 0,
            'regions': torch.tensor([len(size) for size in found]),
            'boundary': boundary_length(mask, classes),
            'sizes': torch.stack(sizes),
        }


def measure_semantics(sides: Sides) -> Section:
    """Compare synthetic masks with train masks, as real ones compare."""
    spec, name, real = sides.spec, SemanticsObserver.name, sides.train[SemanticsObserver.name]
    halves = [{key: values[sides.halves == half] for key, values in real.items()} for half in (0, 1)]
    rows = [real, *halves, sides.synthetic[name], sides.held_out[name]]
    train, half, other, synthetic, held_out = (_Side(found, seed) for seed, found in enumerate(rows))
    pairs = ((synthetic, train), (other, half), (held_out, train))
    compared = [{key: resampled_interval(figure, 0) for key, figure in _figures(*two).items()} for two in pairs]
    figures = {key: Compared(*(found[key] for found in compared)) for key in compared[0]}
    measures = [found.measure(key, flag=_flag(key, found)) for key, found in figures.items()]
    measures.append(_missing(synthetic, train, spec))
    return Section(
        title='Masks',
        question='Are the masks like real ones?',
        measures=[dataclasses.replace(measure, samples=synthetic.samples) for measure in measures],
        notes=[
            'Synthetic masks are compared with train masks; the reference compares two halves of these, which are of '
            'different ground.',
            'A region is a set of pixels of one class that are connected through their sides. Masks that look like '
            'noise have many small regions and long boundaries.',
        ],
        details={
            side: {
                'classes': spec.classes,
                'shares': found.shares[0],
                'patches_with_both_classes': found.together[0],
                'mean_region_px': found.size[0],
                'median_region_px': found.median[0],
                'boundary_per_pixel': found.boundary[0],
                'regions_by_size': found.sizes[0],
            }
            for side, found in (('synthetic', synthetic), ('train', train), ('held-out', held_out))
        },
    )


class _Side:
    """Figures of one side's masks, and of resampled ones.

    Attributes:
        samples: N.
        shares: Share of each class in the labelled pixels, ``(1 + R, K)``.
        together: Share of the patches that hold both of two classes, ``(1 + R, K, K)``.
        sizes: Share of the regions of 1, 2-3, 4-7, ... pixels, ``(1 + R, bins)``.
        size: Mean size of a region [px], ``(1 + R,)``.
        median: Median size of a region [px], ``(1 + R,)``.
        boundary: Neighbouring pixels of different classes per labelled pixel, ``(1 + R,)``.
    """

    def __init__(self, rows: Rows, seed: int) -> None:
        self.samples = len(rows['pixels'])
        weights = resample_weights(self.samples, seed)
        totals = {key: weights @ values.double().view(self.samples, -1) for key, values in rows.items()}
        labelled = totals['pixels'].sum(1)
        self.shares = totals['pixels'] / labelled.unsqueeze(1)
        self.together = torch.stack([co_occurrence(rows['presence'], weight) for weight in weights])
        self.sizes = totals['sizes'] / totals['sizes'].sum(1, keepdim=True)
        self.size = labelled / totals['regions'].squeeze(1)
        self.median = _median(self.sizes)
        self.boundary = totals['boundary'].squeeze(1) / labelled


def _median(shares: Tensor) -> Tensor:
    """Median size ``(...)`` of shares ``(..., bins)`` of sizes 1, 2-3, 4-7, ..., as if even in each bin's logarithm."""
    below = shares.cumsum(-1)
    number = (below < 0.5).sum(-1, keepdim=True).clamp_max(shares.shape[-1] - 1)
    left = 0.5 - pad(below, (1, 0)).gather(-1, number)
    return 2 ** (number + left / shares.gather(-1, number)).squeeze(-1)


def _figures(first: _Side, second: _Side) -> dict[str, Tensor]:
    """What tells the masks of the first side from those of the second, ``(1 + R,)`` each."""
    differ = (first.shares - second.shares).abs()

    def ratio(figure: Tensor, other: Tensor) -> Tensor:
        return (figure / other).where(other > 0, torch.nan)

    return {
        'largest difference of a class share': differ.amax(1),
        'total variation distance of class shares': differ.sum(1) / 2,
        'difference of class co-occurrence': (first.together - second.together).abs().mean((1, 2)),
        'mean region size, relative to real': ratio(first.size, second.size),
        'median region size, relative to real': ratio(first.median, second.median),
        # Where unlabelled pixels lie between all regions, real boundaries are too few to compare with
        'boundary length, relative to real': ratio(first.boundary, second.boundary.where(second.boundary > 1e-3, 0)),
    }


def _flag(name: str, found: Compared) -> str:
    value = found.synthetic.value
    if name == 'total variation distance of class shares' and found.exceeds(_FAR, least=_SHARE):
        return f'{value:.0%} of the pixels would have to change class to have the shares of real masks.'
    if name == 'difference of class co-occurrence' and found.exceeds(_FAR, least=_SHARE):
        return 'Classes meet in a patch more or less often than in real masks: scenes are not composed like real ones.'
    if name == 'mean region size, relative to real' and found.off_by(_FAR):
        text = 'masks are broken into specks' if value < 1 else 'masks lack small regions'
        return f'Regions are {value:.2g} times as large as in real masks: {text}.'
    if name == 'boundary length, relative to real' and found.off_by(_FAR):
        text = 'masks are ragged or like noise' if value > 1 else 'masks are too simple'
        return f'Boundaries are {value:.2g} times as long as in real masks: {text}.'
    return ''


def _missing(synthetic: _Side, train: _Side, spec: DatasetSpec) -> Measure:
    """How many classes of the train masks no synthetic mask has."""
    absent = (train.shares[0] > 0) & (synthetic.shares[0] == 0)
    expected = synthetic.samples * train.together[0].diagonal()
    names = [spec.classes[k] or f'class {k}' for k in absent.nonzero().flatten().tolist()]
    surprising = [
        spec.classes[k] or f'class {k}' for k in (absent & (expected >= _EXPECTED)).nonzero().flatten().tolist()
    ]
    flag = f'No synthetic mask has {", ".join(surprising)}: nothing can be learned about it.' if surprising else ''
    return Measure(
        'classes that no synthetic mask has',
        Interval(float(len(names)), float('nan'), float('nan')),
        settings={'classes': names},
        flag=flag,
    )
