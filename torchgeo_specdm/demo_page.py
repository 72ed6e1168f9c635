"""What ``specdm demo`` shows of its result: the sections of the page, and the numbers behind them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from torchgeo_specdm.class_statistics import ClassStatistics, absent_classes, plot_shares, plot_spectra, spectral_angles
from torchgeo_specdm.comparison import Comparison, Counts, iou
from torchgeo_specdm.plotting import plot_pairs
from torchgeo_specdm.report import Fragment, colour_key, figure, paragraph, table
from torchgeo_specdm.spec import DatasetSpec

REAL, MIXED = 'real alone', 'real + synthetic'


@dataclass(frozen=True)
class Result:
    """What the demo found.

    Attributes:
        scored: Classes that the scores are about.
        spec: Describes the samples.
        statistics: Of the ``real`` and the ``synthetic`` train patches.
        pairs: A few of them.
        counts: ``(runs, test patches, K)`` after training on ``REAL`` and on ``MIXED``.
        comparisons: By name of the score.
        notes: How to read the scores, in sentences.
        made: How it was made.
    """

    scored: Sequence[int]
    spec: DatasetSpec
    statistics: Mapping[str, ClassStatistics]
    pairs: Mapping[str, Sequence[Mapping[str, Tensor]]]
    counts: Mapping[str, Counts]
    comparisons: Mapping[str, Comparison]
    notes: Sequence[str]
    made: Mapping[str, str]


def page(result: Result) -> dict[str, list[Fragment]]:
    """The sections of the page by heading."""
    spec = result.spec
    key = [colour_key(dict(zip(spec.classes, spec.palette, strict=True)))] if spec.palette else []
    rows = [[name, *map(str, comparison)] for name, comparison in result.comparisons.items()]
    real, mixed = (_class_iou(result.counts[name]) for name in (REAL, MIXED))
    pixels = result.counts[REAL].labelled[0].sum(0)
    classes = [
        [spec.classes[k], f'{int(pixels[k])}', f'{real[k]:.3f}', f'{mixed[k]:.3f}', f'{mixed[k] - real[k]:+.3f}']
        for k in result.scored
    ]
    return {
        '': [
            paragraph(
                'A TorchGeo task was trained on real patches alone, and for as many steps on the same patches mixed '
                'with synthetic ones: images and labels that a generator drew together.'
            ),
            table(['test score', REAL, MIXED, 'difference'], rows, ' '.join(result.notes)),
        ],
        'Pairs': [
            figure(
                plot_pairs(result.pairs, spec),
                'Real patches from all over the train area; the first synthetic ones, not selected. One stretch for '
                'all images. White pixels have no label; synthetic pixels always have one.',
            ),
            *key,
        ],
        'Spectra': [
            figure(
                plot_spectra(result.statistics),
                'Mean spectrum of the pixels of each class, with one standard deviation around it; in brackets the '
                'angle between both means.',
            ),
            paragraph(_absent(result.statistics)),
        ],
        'Class shares': [
            figure(plot_shares(result.statistics), 'Share of each class in the labelled pixels of the train patches.')
        ],
        'Scores by class': [
            table(
                ['class', 'test pixels', f'IoU, {REAL}', f'IoU, {MIXED}', 'difference'],
                classes,
                'Mean over the training seeds. A single class is far less certain than the mean.',
            )
        ],
        'How it was made': [table(['what', 'how'], [[name, text] for name, text in result.made.items()])],
    }


def metrics(result: Result) -> dict[str, Any]:
    """Every number of the page, those behind its figures among them."""
    spec, pixels = result.spec, result.counts[REAL].labelled[0].sum(0)
    iou_of = {name: _class_iou(counts) for name, counts in result.counts.items()}
    angles = spectral_angles(*result.statistics.values())
    classes = {}
    for k, name in enumerate(spec.classes):
        found: dict[str, Any] = {'test_pixels': int(pixels[k]), 'scored': k in result.scored}
        found['iou'] = {source: value[k] for source, value in iou_of.items()}
        found['share'] = {source: s.shares[k] for source, s in result.statistics.items()}
        found['spectral_angle_rad'] = angles[:, k]
        found['mean'] = {source: s.mean[:, k] for source, s in result.statistics.items()}
        found['std'] = {source: s.std[:, k] for source, s in result.statistics.items()}
        classes[name] = found
    return {
        'scores': {
            name: {REAL: comparison.first, MIXED: comparison.second, 'difference': comparison.difference}
            for name, comparison in result.comparisons.items()
        },
        'notes': result.notes,
        'made': result.made,
        'unit': spec.unit,
        'wavelengths_nm': spec.wavelengths,
        'classes': classes,
    }


def _class_iou(counts: Counts) -> Tensor:
    """IoU of each class ``(K,)`` over all test patches, mean over the runs."""
    return iou(Counts(*(values.sum(1) for values in counts))).mean(0)


def _absent(statistics: Mapping[str, ClassStatistics]) -> str:
    sentences = []
    for source, found in statistics.items():
        sentences.append(f'Absent from the {source} patches: {", ".join(absent_classes(found)) or "no class"}.')
    return ' '.join(sentences)
