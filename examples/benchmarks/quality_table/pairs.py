"""Rows of image-mask pairs, of any generator: how near they are to real ones, and which bars they meet."""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from quality_table.figures import agreement, class_means, distances, ratio, weighted
from quality_table.rows import Row
from quality_table.table import RealSides, Side
from torchgeo_specdm.alignment.copies import COPY_RATIO
from torchgeo_specdm.evaluation.alignment import BoundaryObserver
from torchgeo_specdm.evaluation.copying import CopyObserver, share
from torchgeo_specdm.evaluation.resampling import resampled_interval
from torchgeo_specdm.evaluation.semantics import SemanticsObserver
from torchgeo_specdm.evaluation.spectra import SpectraObserver
from torchgeo_specdm.functional import spectral_angle

# Masks and textures: by how much a figure may differ from that of train samples
_NEAR = 0.2
LOWER = 'lower than the baseline, intervals disjoint'


def pair_rows(made: Side, real: RealSides, baselines: Mapping[str, Side] | None = None) -> list[Row]:
    """All that can be said of any dataset of pairs."""
    return [
        *fidelity_rows(made, real, baselines or {}),
        *spectra_rows(made, real),
        roughness_row(made, real),
        *mask_rows(made, real),
        *(alignment_rows(made, real) if 'decoded/rule' in real.test else []),
        *([edges_row(made, real)] if BoundaryObserver.name in made else []),
        copy_row(made, real),
    ]


def spaces(side: Side) -> list[tuple[str, str]]:
    """Names of observer and date whose features can be compared."""
    names = [name for name in side if name.startswith('features/')]
    return [(name, date) for name in names for date in sorted(side[name]) if date.startswith('date')]


def fidelity_rows(made: Side, real: RealSides, baselines: Mapping[str, Side]) -> list[Row]:
    """Distances of images to train images, those of held-out images beside, and those of baselines over them."""
    rows = []
    for name, date in spaces(made):
        sides = [made, real.held_out, *baselines.values()]
        count, found = distances(real.train[name][date], *(side[name][date] for side in sides))
        figures = {'FD': found['FD'], 'FD minus floor': found['FD'] - found['FD'][:, 1:2], 'KID': found['KID']}
        about = {'samples': count, 'extractor': name.removeprefix('features/')}
        for figure, drawn in figures.items():
            text = f'images, {date}: {figure}'
            reached = None if figure == 'FD minus floor' else resampled_interval(drawn[:, 1])
            rows.append(Row(text, resampled_interval(drawn[:, 0]), reached, **about))
            if figure != 'FD':
                rows += [
                    baseline_row(f'{text}, {other} over this', drawn[:, 0], drawn[:, number], about)
                    for number, other in enumerate(baselines, 2)
                ]
                if not baselines:
                    absent = Row(f'{text}, baseline over this', extractor=about['extractor'], bar=LOWER)
                    rows.append(replace(absent, note='--baseline'))
    return rows


def baseline_row(figure: str, drawn: Tensor, other: Tensor, about: Mapping[str, int | str]) -> Row:
    """How many times as far a baseline is, and whether it surely is farther."""
    surely = resampled_interval(drawn).high < resampled_interval(other).low
    return Row(figure, ratio(other, drawn), bar=LOWER, met=surely, **about)  # type: ignore[arg-type]


def spectra_rows(made: Side, real: RealSides) -> list[Row]:
    """Angles between the mean spectra of synthetic and of train samples, of each class and on average."""
    name, classes = SpectraObserver.name, real.spec.classes
    means = [class_means(side[name], seed) for seed, side in enumerate((made, real.train, real.test))]
    angles, reached = (spectral_angle(one, means[1], dim=-1).mean(1) for one in (means[0], means[2]))
    samples = len(made[name]['pixels'])
    first, second = (resampled_interval(figure.nanmean(1), low=0) for figure in (angles, reached))
    lacking = means[0][0].isnan().all((0, 2)) & ~means[1][0].isnan().all((0, 2))
    row = Row('spectral angle, mean over classes [rad]', first, second, samples).at_most(0.02)
    absent = ', '.join(classes[k] for k in lacking.nonzero().flatten().tolist())
    if absent:
        # What is left out of the mean must not help to meet the bar
        row = replace(row, figure=f'{row.figure}, without {absent}', met=False)
    by_class = [
        Row(f'spectral angle, {label} [rad]', *(resampled_interval(x[:, k], low=0) for x in (angles, reached)), samples)
        for k, label in enumerate(classes)
    ]
    return [row, *by_class]


def roughness_row(made: Side, real: RealSides, name: str = SpectraObserver.name) -> Row:
    """Mean difference of neighbouring pixels over that of train images: low without detail, high where it is noise."""
    sides = (made[name], real.train[SpectraObserver.name], real.test[SpectraObserver.name])
    found = [weighted(rows['roughness'], seed) / len(rows['roughness']) for seed, rows in enumerate(sides)]
    value, reached = (resampled_interval((side / found[1]).nanmean((1, 2)), low=0) for side in (found[0], found[2]))
    return Row('roughness of images, relative to train', value, reached, len(sides[0]['roughness'])).near_real(_NEAR)


def mask_rows(made: Side, real: RealSides) -> list[Row]:
    """Region sizes and boundary length over those of train masks; those of test masks beside."""
    name = SemanticsObserver.name
    sizes, boundaries = [], []
    for seed, side in enumerate((made, real.train, real.test)):
        pixels = weighted(side[name]['pixels'].sum(1), seed)
        sizes.append(pixels / weighted(side[name]['regions'], seed))
        boundaries.append(weighted(side[name]['boundary'], seed) / pixels)
    return [
        Row(
            f'mean {label}, relative to train',
            ratio(found[0], found[1]),
            ratio(found[2], found[1]),
            len(made[name]['regions']),
        ).near_real(_NEAR)
        for label, found in (('region size', sizes), ('boundary length', boundaries))
    ]


def alignment_rows(made: Side, real: RealSides) -> list[Row]:
    """Agreement of rule(image) with the mask, exactly, beside that of decoded real pairs."""
    drawn, limit = agreement(made['rule'], 0), agreement(real.test['decoded/rule'], 1)
    samples = len(made['rule']['hit'])
    intervals = [resampled_interval(figure, 0, 1) for figure in (drawn, limit)]
    return [
        Row('exact alignment of synthetic pairs, mIoU', *intervals, samples),
        Row('exact alignment, synthetic over decoded real', ratio(drawn, limit), None, samples).at_least(0.95),
    ]


def edges_row(made: Side, real: RealSides) -> Row:
    """How often an edge of the mask is one of the image: half of them by chance. Where no rule knows the labels."""
    above_chance = []
    for seed, side in enumerate((made, real.held_out, real.test)):
        rows = side[BoundaryObserver.name]
        agreeing, edges = (weighted(rows[name].sum((1, 2)), seed) for name in ('agreeing', 'edges'))
        above_chance.append(agreeing / edges - 0.5)
    value, reached = (ratio(above_chance[side], above_chance[1]) for side in (0, 2))
    text = 'mask edges that the image shows, above chance, relative to held-out real'
    return Row(text, value, reached, len(made[BoundaryObserver.name]['edges'])).at_least(0.8)


def copy_row(made: Side, real: RealSides) -> Row:
    """Share of copies among synthetic and among held-out real samples."""
    found, reached = (side[CopyObserver.name]['ratio'] < COPY_RATIO for side in (made, real.held_out))
    row = Row('share of copies, pixels', share(found), share(reached), len(found))
    return row.at_most(float(reached.float().mean()) + 0.01, 'at most 1 percentage point over held-out real')


def step_rows(by_steps: Mapping[int, Side | None], many: Side | None, real: RealSides, steps: int) -> list[Row]:
    """FD at few steps over that at many ancestral ones, of the same weights; the first of the few have the bar."""
    bar = 'upper bound ≤ 1.1'
    texts = [f'FD at {few} steps over {steps} ancestral ones' for few in by_steps]
    if many is None:
        note = {'bar': bar, 'note': '--reference-n 0'}
        return [Row(f'images: {text}', **(note if number == 0 else {})) for number, text in enumerate(texts)]
    rows = []
    for name, date in spaces(many):
        sides = [side for side in (*by_steps.values(), many) if side]
        count, found = distances(real.train[name][date], *(side[name][date] for side in sides))
        for number, text in enumerate(texts):
            value = ratio(found['FD'][:, number], found['FD'][:, -1])
            row = Row(f'images, {date}: {text}', value, None, count, name.removeprefix('features/'))
            rows.append(row if number else row.judged(bar, value.high <= 1.1))
    return rows
