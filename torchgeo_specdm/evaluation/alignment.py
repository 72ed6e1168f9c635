"""Does the mask of a pair say what its image shows? Two answers, each relative to real pairs that were held out.

1. A judge, trained on real pairs alone, predicts the mask from the image: its agreement with the mask.
2. Edges of the mask lie on edges of the image that lead from the one class to the other
   (:mod:`torchgeo_specdm.functional.boundaries`).

Neither is a share of correct labels: a judge errs on real pairs too, and real edges are not everywhere visible. Both
are therefore read against held-out real pairs, on which a perfect generator would reach the same.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from torchgeo_specdm.comparison import Counts, count_pixels, f1, iou
from torchgeo_specdm.evaluation.measure import Interval, Measure, Section
from torchgeo_specdm.evaluation.observation import Observer, Rows, Sides, tensors_digest
from torchgeo_specdm.evaluation.resampling import resample_weights, resampled_interval
from torchgeo_specdm.functional.boundaries import boundary_features, count_edges, discriminants
from torchgeo_specdm.spec import DatasetSpec

# A generator is flagged if it surely reaches less than this share of what held-out real pairs reach
_ENOUGH = 0.8
# A score that real pairs reach less than this of cannot grade synthetic ones
_USEFUL = 0.1
# Discriminants that differ by less, relative to the largest, are one
_ALIKE = 1e-3
# Loss [nat per pixel] below which a judge's confidence is not believed
_FLOOR = 0.01


class LogProbabilities(Protocol):
    """What is asked of a judge; :class:`torchgeo_specdm.alignment.judge.Judge` is one."""

    def log_probabilities(self, image: Tensor) -> Tensor:
        """Of each class, ``(B, K, H, W)`` [nat], from ``(B, T, C, H, W)`` in raw units."""

    def state_dict(self) -> Mapping[str, Tensor]:
        """All that the answers depend on."""


def judge_rows(log_probabilities: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """What a judge's answers say of masks.

    Args:
        log_probabilities: ``(B, K, H, W)`` [nat].
        mask: ``(B, H, W)``; a value that is no class is ignored.

    Returns:
        float64 rows. ``(B, K)`` per class: ``hit``, ``predicted`` and ``labelled``, numbers of pixels, and ``loss``,
        the sum of -log p over the pixels labelled so [nat]. ``(B,)``: ``expected``, what the loss of the labelled
        pixels would be if their labels were drawn from the judge's own probabilities, the sum of its entropy [nat].
    """
    classes = log_probabilities.shape[1]
    counts = count_pixels(log_probabilities.argmax(1), mask, classes)
    valid = (mask >= 0) & (mask < classes)
    label = mask.where(valid, 0).unsqueeze(1)
    loss = (-log_probabilities.gather(1, label).squeeze(1)).double() * valid
    sums = torch.zeros(len(mask), classes, dtype=torch.float64).scatter_add_(1, label.flatten(1), loss.flatten(1))
    entropy = -(log_probabilities.exp() * log_probabilities).sum(1).double() * valid
    return {**counts._asdict(), 'loss': sums, 'expected': entropy.sum((1, 2))}


class JudgeObserver(Observer):
    """Agreement of each sample's mask with a judge's prediction.

    Args:
        judge: Trained on real samples of the train split alone.
    """

    name = 'judge'

    def __init__(self, judge: LogProbabilities) -> None:
        self.judge = judge

    @property
    def settings(self) -> dict[str, Any]:
        """The judge's weights, as a hash."""
        return {'judge': tensors_digest(self.judge.state_dict())}

    def observe(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """As :func:`judge_rows`."""
        return judge_rows(self.judge.log_probabilities(image).cpu(), mask)


class BoundaryObserver(Observer):
    """Edges of each sample's mask, and those that the image shows.

    Args:
        weights: Fisher's discriminants of the classes over real train samples, ``(K, C)``.
    """

    name = 'boundary'

    def __init__(self, weights: Tensor) -> None:
        self.weights = weights

    @classmethod
    def calibrate(cls, samples: Iterable[Mapping[str, Tensor]], spec: DatasetSpec) -> 'BoundaryObserver':
        """An observer that knows the classes from real train samples, in the shapes of the spec."""

        def batches() -> Iterable[tuple[Tensor, Tensor]]:
            for sample in samples:
                image = sample['image'].view(1, spec.num_dates, spec.num_bands, *sample['image'].shape[-2:])
                yield boundary_features(image.float()), sample['mask'].view(1, *image.shape[-2:]).long()

        return cls(discriminants(batches(), spec.num_classes))

    @property
    def settings(self) -> dict[str, Any]:
        """The discriminants, as a hash; rounded, as their last bits depend on the processor that calibrated them."""
        rounded = (self.weights / self.weights.abs().max().clamp_min(1e-12) / _ALIKE).round().int()
        return {'discriminants': tensors_digest({'weights': rounded})}

    def observe(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """``edges`` and ``agreeing`` between each pair of classes, ``(B, K, K)`` float64, symmetric."""
        return dict(zip(('edges', 'agreeing'), count_edges(boundary_features(image), mask, self.weights), strict=True))


def class_losses(rows: Rows) -> Tensor:
    """Mean loss of the judge over the pixels labelled as each class, ``(K,)`` [nat]; NaN for one that is absent."""
    return rows['loss'].sum(0) / rows['labelled'].sum(0)


def sample_scores(rows: Rows, real: Rows) -> Tensor:
    """How plausible each sample's mask is to the judge: the loss that it expects over the loss that it finds.

    A judge is unsure of some images whatever their masks. What it expects there tells such a sample from a wrong mask.

    Args:
        rows: Of :class:`JudgeObserver`.
        real: The same of held-out real samples; the ratio over all of them is the unit.

    Returns:
        ``(N,)``: about 1 for an aligned sample, near 0 for a misaligned one; NaN for one without a label.
    """
    usual = _plausibility(*(values.sum() for values in _losses(real)))
    return _plausibility(*_losses(rows)) / usual


def _losses(rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
    return rows['expected'], rows['loss'].sum(1), rows['labelled'].sum(1)


def _plausibility(expected: Tensor, found: Tensor, pixels: Tensor) -> Tensor:
    return (expected + _FLOOR * pixels) / (found + _FLOOR * pixels)


def worst(scores: Tensor, count: int) -> list[int]:
    """Indices of the ``count`` lowest scores, lowest first; NaN is left out."""
    return [index for index in scores.argsort().tolist() if not scores[index].isnan()][:count]


@dataclass(frozen=True)
class _Score:
    """A score of the synthetic and of the held-out real samples, and of resampled ones.

    Attributes:
        name: For the measure.
        synthetic: ``(1 + R,)``, as :func:`~torchgeo_specdm.evaluation.resampling.resample_weights` draws.
        real: Likewise.
        samples: Number of synthetic samples.
        settings: For the measure.
        chance: What a random mask would reach.
    """

    name: str
    synthetic: Tensor
    real: Tensor
    samples: int
    settings: Mapping[str, Any]
    chance: float = 0.0

    def measure(self, unit: str = '') -> Measure:
        """The score itself, real beside synthetic."""
        value, reference = (resampled_interval(drawn, low=0.0) for drawn in (self.synthetic, self.real))
        return Measure(self.name, value, reference, 'held-out real', unit, self.samples, self.settings)

    def relative(self, name: str, flag: str) -> Measure:
        """The score over that of held-out real samples, above chance; flagged if it is surely low."""
        reached = self.real - self.chance
        # A resampled reference near zero would make the ratio anything
        drawn = (self.synthetic - self.chance) / reached.clamp_min(1e-3)
        value = Interval(torch.nan, torch.nan, torch.nan) if drawn[0].isnan() else resampled_interval(drawn)
        if drawn[0].isnan():
            flag = 'There is nothing to measure: the masks hold no class in common with real ones, or no edge.'
        elif reached[0] < _USEFUL:
            # A ratio to next to nothing could be anything
            value = Interval(torch.nan, torch.nan, torch.nan)
            flag = (
                f'Real pairs themselves reach only {float(reached[0]):.2f} in "{self.name}", above chance: it says '
                'nothing of synthetic ones.'
            )
        elif value.high >= _ENOUGH:
            flag = ''
        return Measure(name, value, samples=self.samples, settings=self.settings, flag=flag)


def measure_alignment(sides: Sides) -> Section:
    """What the rows of :class:`JudgeObserver` and :class:`BoundaryObserver` say.

    Args:
        sides: The train side is not looked at: the judge has learned from it.
    """
    made, held = sides.synthetic, sides.held_out
    judge, boundary = JudgeObserver.name, BoundaryObserver.name
    edges = [rows[boundary]['agreeing'].sum((0, 1)) / rows[boundary]['edges'].sum((0, 1)) for rows in (made, held)]
    return Section(
        title='Alignment',
        question='Does the mask of a pair say what its image shows?',
        measures=[
            *_judge_measures(made[judge], held[judge], sides.spec),
            *_boundary_measures(made[boundary], held[boundary]),
        ],
        notes=(
            'The judge was trained on real train pairs. It errs on real pairs, too: read its agreement beside that '
            'on held-out real pairs.',
            'An edge in a wrong place agrees with the image by chance, one time in two. Edges say nothing of regions '
            'that a mask lacks.',
        ),
        details={
            'scores': sample_scores(made[judge], held[judge]),
            'IoU with the judge': _by_class(sides.spec, *(iou(_counts(rows[judge])) for rows in (made, held))),
            'loss of the judge [nat]': _by_class(sides.spec, *(class_losses(rows[judge]) for rows in (made, held))),
            'edges that the image shows': _by_class(sides.spec, *edges),
        },
    )


def _by_class(spec: DatasetSpec, synthetic: Tensor, real: Tensor) -> dict[str, dict[str, float]]:
    values = zip(_names(spec), synthetic.tolist(), real.tolist(), strict=True)
    return {name: {'synthetic': made, 'held-out real': held} for name, made, held in values}


def _counts(rows: Rows, weights: Tensor | None = None) -> Counts:
    """Pixels of all samples ``(K,)``, or of resampled ones ``(1 + R, K)``."""
    counts = (rows[name] for name in Counts._fields)
    return Counts(*(values.sum(0) if weights is None else weights @ values for values in counts))


def _judge_measures(made: Rows, held: Rows, spec: DatasetSpec) -> list[Measure]:
    present, other = ((rows['labelled'].sum(0) > 0) for rows in (made, held))
    # Of a change mask, the score of the class change says all: nearly everything else is unchanged
    compared = present & other & torch.tensor([spec.task != 'change'] * (spec.num_classes - 1) + [True])
    settings = {
        'classes': _names(spec, compared),
        'absent from synthetic': _names(spec, other & ~present),
        'absent from held-out real': _names(spec, present & ~other),
    }
    weights = [resample_weights(len(rows['labelled']), seed) for seed, rows in enumerate((made, held))]
    counts = [_counts(rows, drawn) for rows, drawn in zip((made, held), weights, strict=True)]
    samples = len(made['labelled'])

    def score(name: str, of: Callable[[Counts], Tensor]) -> _Score:
        # A class that a draw lacks has no score in it, whatever was predicted there
        drawn, real = (of(found).where(found.labelled > 0, torch.nan)[:, compared].nanmean(1) for found in counts)
        return _Score(name, drawn, real, samples, settings)

    change = spec.task == 'change'
    agreement = score('IoU of change with the judge' if change else 'mean IoU with the judge', iou)
    losses = [
        (drawn @ rows['loss'] / found.labelled)[:, present & other].nanmean(1)
        for drawn, rows, found in zip(weights, (made, held), counts, strict=True)
    ]
    return [
        agreement.measure(),
        *([score('F1 of change with the judge', f1).measure()] if change else []),
        agreement.relative(
            'agreement with the judge, relative to real',
            'The judge finds the labels in synthetic images less often than in real ones: masks and images disagree.',
        ),
        _Score('class-balanced loss of the judge', losses[0], losses[1], samples, settings).measure('nat'),
    ]


def _names(spec: DatasetSpec, chosen: Tensor | None = None) -> list[str]:
    wanted = range(spec.num_classes) if chosen is None else chosen.nonzero().flatten().tolist()
    return [spec.classes[k] or f'class {k}' for k in wanted]


def _boundary_measures(made: Rows, held: Rows) -> list[Measure]:
    shares = []
    for seed, rows in enumerate((made, held)):
        weights = resample_weights(len(rows['edges']), seed)
        agreeing, edges = (weights @ rows[name].sum((1, 2)) for name in ('agreeing', 'edges'))
        shares.append(agreeing / edges)
    # Half of the edges agree by chance
    share = _Score('mask edges that the image shows', shares[0], shares[1], len(made['edges']), {}, chance=0.5)
    return [
        share.measure(),
        share.relative(
            'mask edges that the image shows, above chance and relative to real',
            'Edges of the masks do not lie on edges of the synthetic images, or separate the wrong classes.',
        ),
    ]
