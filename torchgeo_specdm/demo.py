"""``specdm demo``: the whole job in one command. Sample a generator, mix, train a TorchGeo task, report."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset
from tqdm import tqdm

from torchgeo_specdm.class_statistics import ClassStatistics
from torchgeo_specdm.comparison import (
    Comparison,
    Counts,
    compare,
    normalising_collate,
    sum_groups,
    train_and_count,
)
from torchgeo_specdm.datasets import MixedDataset, SpecDMSynthetic
from torchgeo_specdm.demo_cases import CASES, Case
from torchgeo_specdm.demo_page import MIXED, REAL, Result, metrics, page
from torchgeo_specdm.disk import alone
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.evaluation.observation import draw
from torchgeo_specdm.evaluation.provenance import provenance
from torchgeo_specdm.evaluation.real_data import spread
from torchgeo_specdm.report import write_metrics, write_report
from torchgeo_specdm.spec import DatasetSpec

_PAIRS = 8
_INDENT = '\n         '


def run(out: Path, dataset: str = 'indian-pines', root: Path | None = None) -> None:
    """Run the demo and write ``report.html`` and ``metrics.json``.

    Args:
        out: Folder to write to; made where it is missing. Files of these names are replaced by complete new ones.
        dataset: A name in :data:`~torchgeo_specdm.demo_cases.CASES`.
        root: Folder of the dataset, where it has one.

    Raises:
        SpecDMError: An argument is wrong, the generator is missing or does not fit the dataset, or another demo is at
            work in ``out``.
        DatasetNotFoundError: The dataset is not in ``root``.
    """
    if dataset not in CASES:
        raise SpecDMError(f'dataset is {dataset!r}; the demo knows {", ".join(CASES)}')
    with alone(out, 'demo', 'name another folder with --out'):
        run_case(CASES[dataset](root), out)


def run_case(case: Case, out: Path) -> Result:
    """Run the demo on one case; see :func:`run`."""
    start, budget = time.monotonic(), case.budget

    def say(*lines: str) -> None:
        print(f'[{time.monotonic() - start:4.0f} s] {_INDENT.join(lines)}', flush=True)

    case.data.setup('fit')
    case.data.setup('test')
    splits = (case.data.train_dataset, budget.real), (case.data.test_dataset, budget.test)
    real, test = (Subset(dataset, draw(dataset, count)) for dataset, count in splits)
    synthetic = SpecDMSynthetic(case.checkpoint)
    mixed = MixedDataset(real, synthetic, ratio=budget.ratio)
    spec, count = mixed.spec, int(mixed.is_synthetic.sum())
    size = f'{spec.num_bands} bands, {spec.patch_size} x {spec.patch_size} px'
    say(f'{case.name}: {len(real)} train and {len(test)} test patches of {size}; {spec.num_classes} classes')

    say(f'Sampling {count} labelled patches from {case.checkpoint}')
    statistics = {'real': _statistics(real, len(real), spec), 'synthetic': _statistics(synthetic, count, spec)}
    pairs = {
        'real': [real[i] for i in spread(range(len(real)), _PAIRS)],
        'synthetic': [synthetic[i] for i in range(min(_PAIRS, count))],
    }

    task = type(case.task()).__name__
    say(
        f"Training TorchGeo's {task}, {budget.steps} steps from {budget.runs} seeds: on the {len(real)} real patches,",
        f'and for as many steps on these mixed with the {count} synthetic ones',
    )
    counts = {name: _train(case, name, data, test, spec) for name, data in ((REAL, real), (MIXED, mixed))}
    groups = _groups(case, test)
    first, second = (sum_groups(counts[name], groups) for name in (REAL, MIXED))
    comparisons = {name: compare(first, second, score) for name, score in case.scores.items()}
    notes = [*_notes(case, spec, counts[REAL], int(groups.max()) + 1), _verdict(comparisons), case.caveat]
    say('Test scores:', *_lines(comparisons), *notes)

    made = {'patches': f'{len(real)} real and {count} synthetic for training, {len(test)} for testing'}
    made |= {'task': f'{task}, {budget.steps} steps of {budget.batch_size} patches, seeds 0 to {budget.runs - 1}'}
    made |= provenance(synthetic) | {'time': f'{(time.monotonic() - start) / 60:.1f} minutes'}
    result = Result(case.scored, spec, statistics, pairs, counts, comparisons, notes, made)
    write_report(out / 'report.html', f'specdm demo: {case.name}', page(result))
    write_metrics(out / 'metrics.json', metrics(result))
    say(f'Wrote {out / "report.html"} and {out / "metrics.json"}')
    return result


def _statistics(dataset: Dataset[Any], count: int, spec: DatasetSpec) -> ClassStatistics:
    statistics = ClassStatistics(spec)
    text = 'sampling' if isinstance(dataset, SpecDMSynthetic) else 'reading'
    for index in tqdm(range(count), desc=text, unit='patch'):
        statistics.update(dataset[index])
    return statistics


def _train(case: Case, name: str, train: Dataset[Any], test: Dataset[Any], spec: DatasetSpec) -> Counts:
    """Counts ``(runs, test patches, K)``; run r begins with the same weights, whatever it is trained on."""
    found = []
    for run in range(case.budget.runs):
        torch.manual_seed(run)
        counts = train_and_count(
            case.task(),
            train,
            test,
            normalising_collate(case.data.mean, case.data.std),
            spec.num_classes,
            steps=case.budget.steps,
            batch_size=case.budget.batch_size,
            seed=run,
            text=f'{name}, {run + 1} of {case.budget.runs}',
        )
        found.append(counts)
    return Counts(*(torch.stack(parts) for parts in zip(*found, strict=True)))


def _groups(case: Case, test: Subset[Any]) -> Tensor:
    """The unit 0, 1, ... of each test patch."""
    units = [case.group(test.dataset, index) for index in test.indices]
    number = {unit: number for number, unit in enumerate(sorted(set(units)))}
    return torch.tensor([number[unit] for unit in units])


def _lines(comparisons: Mapping[str, Comparison]) -> list[str]:
    return [
        f'{name:14} {source:17} {interval}'
        for name, found in comparisons.items()
        for source, interval in zip((REAL, MIXED, 'difference'), found, strict=True)
    ]


def _notes(case: Case, spec: DatasetSpec, counts: Counts, groups: int) -> list[str]:
    """How to read the scores."""
    pixels = counts.labelled[0].sum(0).long().tolist()
    left_out = [f'{spec.classes[k]} ({pixels[k]})' for k in range(spec.num_classes) if k not in case.scored]
    notes = [
        f'In brackets: 95 % interval, bootstrap over {groups} {case.unit} and {case.budget.runs} training seeds.',
        f'The mean is over {len(case.scored)} classes: {", ".join(spec.classes[label] for label in case.scored)}.',
    ]
    if left_out:
        notes.append(f'Left out, with too few test pixels: {", ".join(left_out)}.')
    return notes


def _verdict(comparisons: Mapping[str, Comparison]) -> str:
    """What the difference of the first score says."""
    score, found = next(iter(comparisons.items()))
    _, low, high = found.difference
    if low <= 0 <= high:
        return f'The interval of the difference holds 0: no effect of the synthetic patches on the {score} is shown.'
    return f'Here the synthetic patches {"raise" if low > 0 else "lower"} the {score}.'
