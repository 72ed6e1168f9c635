"""Do the measures of alignment see faults that were planted in real pairs, and how much of them?

    python examples/benchmarks/alignment.py --root data/oscd --out docs/figures/alignment.png

Masks of held-out OSCD patches (change, and land cover by rule) are shifted, get wrong classes in some regions, or are
swapped between patches; every score must fall with the size of the fault. *Exact* is the IoU of the faulty mask with
the true one. The judges are trained on the train cities and kept in --judges.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import torch
from scipy.stats import mannwhitneyu, spearmanr
from torch import Tensor
from torch.utils.data import Subset
from torchgeo.datamodules import NonGeoDataModule

from torchgeo_specdm.alignment.judge import Judge
from torchgeo_specdm.comparison import Counts, count_pixels, iou
from torchgeo_specdm.datamodules import OSCDLandCoverDataModule, OSCDPatchesDataModule
from torchgeo_specdm.evaluation.alignment import (
    BoundaryObserver,
    JudgeObserver,
    judge_rows,
    measure_alignment,
    sample_scores,
)
from torchgeo_specdm.evaluation.faults import (
    band_swapped,
    blurred,
    flip_regions,
    repeated,
    shift_masks,
    swap_masks,
)
from torchgeo_specdm.evaluation.measure import Interval, Measure
from torchgeo_specdm.evaluation.observation import Rows, Sides, draw, join_rows, observe
from torchgeo_specdm.spec import DatasetSpec
from torchgeo_specdm.tasks.judge import train_judge

# What a measure is called in tables and drawings
SCORES = {
    'agreement with the judge, relative to real': 'judge, agreement',
    'mask edges that the image shows, above chance and relative to real': 'mask edges',
}
LEVELS = {'shift [px]': (0, 1, 2, 4, 8), 'flip [%]': (0, 5, 10, 25, 50), 'swap [%]': (0, 10, 25, 50, 100)}
PATCH = 64


class Pairs(NamedTuple):
    """Held-out pairs, and what a judge says of their images."""

    spec: DatasetSpec
    images: Tensor
    masks: Tensor
    places: Tensor
    log_probabilities: Tensor
    judge: JudgeObserver
    boundary: BoundaryObserver
    train: Any
    held_out: Any

    def rows(self, masks: Tensor) -> dict[str, Rows]:
        """What the observers see with other masks."""
        parts = [self.boundary.observe(i, m) for i, m in zip(self.images.split(64), masks.split(64), strict=True)]
        return {'judge': judge_rows(self.log_probabilities, masks), 'boundary': join_rows(parts)}


class Row(NamedTuple):
    """One fault of one size."""

    fault: str
    level: int
    exact: float
    scores: dict[str, Interval]
    loss: Interval
    flags: int
    found: float


def load_judge(module: NonGeoDataModule, folder: Path, steps: int) -> Judge:
    """A judge of the train split, trained unless it is there."""
    if not (folder / 'judge').is_dir():
        train_judge(module, folder, steps=steps, seed=0)
    return Judge.from_pretrained(folder / 'judge').eval()


def load_pairs(module: NonGeoDataModule, folder: Path, steps: int, most: int) -> Pairs:
    """Test pairs, and the observers that the train split makes."""
    judge = load_judge(module, folder, steps)
    module.setup('fit')
    module.setup('test')
    train, test = module.train_dataset, module.test_dataset
    chosen = draw(test, most)
    samples: list[dict[str, Any]] = [test[index] for index in chosen]
    images = torch.stack([sample['image'] for sample in samples]).view(len(samples), -1, *train[0]['image'].shape[-3:])
    masks = torch.stack([sample['mask'] for sample in samples]).view(len(samples), PATCH, PATCH)
    places = torch.tensor([test.windows[index][0] for index in chosen])
    boundary = BoundaryObserver.calibrate((train[index] for index in draw(train, most)), test.spec)
    said = torch.cat([judge.log_probabilities(batch) for batch in images.split(64)])
    held_out = Subset(test, chosen)
    return Pairs(test.spec, images, masks, places, said, JudgeObserver(judge), boundary, train, held_out)


def faults(pairs: Pairs) -> Iterator[tuple[str, int, Tensor]]:
    """Masks with each fault, in each size."""
    spec = pairs.spec
    plant: dict[str, Callable[[int], Tensor]] = {
        'shift [px]': lambda level: shift_masks(pairs.masks, level),
        'flip [%]': lambda level: flip_regions(pairs.masks, level / 100, spec.num_classes, spec.task == 'change'),
        'swap [%]': lambda level: swap_masks(pairs.masks, level / 100),
    }
    for fault, levels in LEVELS.items():
        yield from ((fault, level, plant[fault](level)) for level in levels)


def mean_iou(masks: Tensor, truth: Tensor, spec: DatasetSpec) -> float:
    """Of masks with the true ones: mean over the classes, or of change."""
    found = iou(Counts(*(part.sum(0) for part in count_pixels(masks, truth, spec.num_classes))))
    return float(found[1] if spec.task == 'change' else found.nanmean())


def find(scores: Tensor, right: Tensor, wrong: Tensor) -> float:
    """Probability that a wrong mask has a lower score than a right one, of the same patches.

    Other patches would not do: those that a fault leaves alone are of another kind, most of them without any change.
    """
    if not wrong.any():
        return float('nan')
    count = int(wrong.sum())
    return float(mannwhitneyu(right[wrong].numpy(), scores[wrong].numpy()).statistic / count**2)


def measure(pairs: Pairs) -> list[Row]:
    """All faults of all sizes."""
    truth, found = pairs.rows(pairs.masks), []
    right = sample_scores(truth['judge'], truth['judge'])
    for fault, level, masks in faults(pairs):
        rows = pairs.rows(masks)
        section = measure_alignment(Sides(pairs.spec, {}, truth, rows, torch.zeros(0)))
        by_name = {m.name: m for m in section.measures}
        # A wrong label of 2 % of a patch is one that a user would mind
        wrong = (masks != pairs.masks).flatten(1).double().mean(1) > 0.02
        found.append(
            Row(
                fault,
                level,
                mean_iou(masks, pairs.masks, pairs.spec),
                {short: by_name[name].value for name, short in SCORES.items()},
                by_name['class-balanced loss of the judge'].value,
                len(section.flags),
                find(sample_scores(rows['judge'], truth['judge']), right, wrong),
            )
        )
    return found


def between_cities(pairs: Pairs) -> dict[str, Tensor]:
    """The scores of each test city's own, right pairs relative to those of all other cities."""
    rows = pairs.rows(pairs.masks)
    found: dict[str, list[float]] = {short: [] for short in SCORES.values()}
    for city in pairs.places.unique():
        here = pairs.places == city
        sides = [
            {name: {key: values[chosen] for key, values in part.items()} for name, part in rows.items()}
            for chosen in (~here, here)
        ]
        section = measure_alignment(Sides(pairs.spec, {}, *sides, torch.zeros(0)))
        for m in section.measures:
            if m.name in SCORES:
                found[SCORES[m.name]].append(m.value.value)
    return {short: torch.tensor(values) for short, values in found.items()}


def report_right(pairs: Pairs) -> None:
    """Print what right pairs reach, the unit of all other figures."""
    rows = pairs.rows(pairs.masks)
    for m in measure_alignment(Sides(pairs.spec, {}, rows, rows, torch.zeros(0))).measures:
        if m.reference is not None:
            print(f'Right pairs, {m.name}: {m.reference} {m.unit}')


def degenerate(pairs: Pairs) -> dict[str, list[Measure]]:
    """The scores of generators whose pairs are aligned, but no good for other reasons."""
    generators = {
        'train pairs': Subset(pairs.train, draw(pairs.train, len(pairs.masks))),
        'one train pair, repeated': repeated(pairs.train, len(pairs.masks), _with_edges(pairs.train)),
        'blurred, sigma 1 px': blurred(pairs.held_out, 1.0),
        'blurred, sigma 2 px': blurred(pairs.held_out, 2.0),
        'bands in a wrong order': band_swapped(pairs.held_out),
    }
    truth, found = pairs.rows(pairs.masks), {}
    for name, generator in generators.items():
        rows = observe(generator, range(len(pairs.masks)), [pairs.judge, pairs.boundary], batch_size=64, text=name)
        section = measure_alignment(Sides(pairs.spec, {}, truth, rows, torch.zeros(0)))
        found[name] = [m for m in section.measures if m.name in SCORES]
    return found


def _with_edges(dataset: Any) -> int:
    """The first sample whose mask holds much of two classes."""
    return next(i for i in range(len(dataset)) if dataset[i]['mask'].bool().double().mean().sub(0.5).abs() < 0.3)


def report(title: str, rows: list[Row], others: dict[str, list[Measure]], cities: dict[str, Tensor]) -> None:
    """Print the tables."""
    names = list(SCORES.values())
    print(f'\n{title}\n\n| fault | size | exact IoU | {" | ".join(names)} | loss [nat] | flags | found |')
    print('|---' * (6 + len(names)) + '|')
    for row in rows:
        scores = ' | '.join(_text(value) for value in row.scores.values())
        text = f'{row.loss.value:.2f} | {row.flags} | {row.found:.2f}'.replace('nan', '')
        print(f'| {row.fault} | {row.level} | {row.exact:.2f} | {scores} | {text} |')
    print(f'\n| generator | {" | ".join(names)} |\n|---|{"---|" * len(names)}')
    for generator, measures in others.items():
        print(f'| {generator} | {" | ".join(_text(m.value) + (" flagged" if m.flag else "") for m in measures)} |')
    grid = [row for row in rows if row.level]
    exact = [row.exact for row in grid]
    measured = {name: [row.scores[name].value for row in grid] for name in names}
    measured['loss'] = [-row.loss.value for row in grid]
    for name, values in measured.items():
        print(f'Rank correlation with exact IoU over {len(grid)} faults, {name}: {spearmanr(exact, values)[0]:.2f}')
    for name, spread in cities.items():
        print(f'One city against the others, {name}: {spread.min():.2f} to {spread.max():.2f}')


def _text(value: Interval) -> str:
    return f'{value.value:.2f} [{value.low:.2f}, {value.high:.2f}]'


def draw_figure(results: dict[str, list[Row]]) -> plt.Figure:
    """A row per dataset, a column per fault."""
    figure, axes = plt.subplots(len(results), len(LEVELS), figsize=(9, 2.8 * len(results)), sharey=True, squeeze=False)
    for line, (title, rows) in zip(axes, results.items(), strict=True):
        for axis, fault in zip(line, LEVELS, strict=True):
            shown = [row for row in rows if row.fault == fault]
            x = range(len(shown))
            curves = {name: [row.scores[name] for row in shown] for name in SCORES.values()}
            # The right pairs' loss over that of the faulty ones, so that it falls, too
            right = shown[0].loss.value
            curves['judge, loss (right / faulty)'] = [Interval(*(right / limit for limit in row.loss)) for row in shown]
            for (name, values), color in zip(curves.items(), ('#2b6cb0', '#dd6b20', '#2f855a'), strict=True):
                axis.plot(x, [v.value for v in values], color=color, marker='o', markersize=3, label=name)
                axis.fill_between(x, [v.low for v in values], [v.high for v in values], color=color, alpha=0.2, lw=0)
            axis.plot(x, [row.exact for row in shown], color='gray', linestyle='--', label='exact IoU')
            axis.set_xticks(x, [str(row.level) for row in shown])
            axis.set_title(f'{title}: {fault}', fontsize=9)
            axis.tick_params(labelsize=8)
            axis.axhline(0, color='gray', linewidth=0.5)
            axis.spines[['top', 'right']].set_visible(False)
        line[0].set_ylabel('relative to real', fontsize=9)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc='upper center', ncols=4, frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.3 / figure.get_figheight()))
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--root', type=Path, default=Path('data/oscd'))
    parser.add_argument('--out', type=Path, default=Path('docs/figures/alignment.png'))
    parser.add_argument('--judges', type=Path, default=Path('runs/alignment'))
    parser.add_argument('--steps', type=int, default=400, help='of the training of a judge')
    parser.add_argument('--n', type=int, default=1000, help='most patches of each split')
    args = parser.parse_args()

    results = {}
    for title, kind in {'change': OSCDPatchesDataModule, 'land cover': OSCDLandCoverDataModule}.items():
        module = kind(args.root, patch_size=PATCH, overlap=0.0, batch_size=16)
        pairs = load_pairs(module, args.judges / title.replace(' ', '-'), args.steps, args.n)
        results[title] = measure(pairs)
        report(f'{title}, {len(pairs.masks)} patches', results[title], degenerate(pairs), between_cities(pairs))
        report_right(pairs)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    draw_figure(results).savefig(args.out, dpi=110)


if __name__ == '__main__':
    main()
