"""Tables of models that were trained: scores with their spread, and gains with their intervals."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from torchgeo_specdm.comparison import Comparison, Counts, compare, sum_samples
from torchgeo_specdm.experiments.bench import Bench
from torchgeo_specdm.experiments.data import SUBSET_SEED
from torchgeo_specdm.experiments.grid import Grid, best, build, scores
from torchgeo_specdm.experiments.plan import DownstreamExperiment
from torchgeo_specdm.experiments.table import Report, spread

_RESAMPLES = 2000
_SCORES = 'Scores on whole test scenes, mean ± standard deviation over the seeds:'
_GAINS = 'Gains in the mean over the seeds, with 95 % intervals by bootstrap over test scenes and seeds:'
# The paper's values are of these models
_PAPER_MODELS = {'OSCD': 'changeformer:v3', 'SegMunich': 'segformer:mit_b5'}


def _counts(records: list[dict[str, Any]]) -> Counts:
    """Counts ``(S, G, K)`` of S seeds."""
    return Counts(*(torch.tensor([record[name] for record in records], dtype=torch.float64) for name in Counts._fields))


def run(experiment: DownstreamExperiment, bench: Bench, report: Report) -> None:
    """Compute the cells seed by seed, and write the tables after each."""
    grid, settings = Grid(bench), bench.settings
    for model in settings.models:
        build(model, grid.spec, 0)  # says what is wrong before hours are spent on the models before it
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for number, seed in enumerate(settings.seeds, 1):
        for model in settings.models:
            for name, arm in experiment.arms.items():
                found.setdefault((model, name), []).append(grid.cell(name, arm, model, seed))
        text = _report(experiment, grid, found, settings.seeds[:number], report)
    print(f'\n{text}')


def _report(
    experiment: DownstreamExperiment,
    grid: Grid,
    found: Mapping[tuple[str, str], list[dict[str, Any]]],
    seeds: tuple[int, ...],
    report: Report,
) -> str:
    spec, settings, data = grid.spec, grid.bench.settings, grid.bench.data
    counts = {key: _counts(records) for key, records in found.items()}
    cells = [
        {
            'model': model,
            'data': name,
            'seed': seed,
            'lr': record['depends']['budget']['lr'],
            'steps': record['depends']['budget']['steps'],
            'best step': best(record)[0],
            'val mIoU': best(record)[1],
            **{
                score: float(function(sum_samples(Counts(*(part[number] for part in counts[model, name])))))
                for score, function in scores(spec).items()
            },
            'seconds': record['seconds'],
        }
        for (model, name), records in found.items()
        for number, (seed, record) in enumerate(zip(seeds, records, strict=True))
    ]
    tables = {
        'Scores on whole test scenes, mean ± standard deviation over the seeds:': _scores(
            experiment, grid, found, cells
        ),
        'Gains in the mean over the seeds, with 95 % intervals by bootstrap over scenes and seeds:': _gains(
            experiment, grid, counts
        ),
    }
    made = {'settings': asdict(settings), 'spec': spec.to_dict(), 'test': data.test.units, 'val': data.val.units}
    return report.write(cells, tables, made, _notes(experiment, grid, seeds))


def _scores(
    experiment: DownstreamExperiment,
    grid: Grid,
    found: Mapping[tuple[str, str], list[dict[str, Any]]],
    cells: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    spec, rows = grid.spec, []
    for model, name in found:
        mine = [cell for cell in cells if (cell['model'], cell['data']) == (model, name)]
        depends = found[model, name][0]['depends']
        row: dict[str, Any] = {'model': model, 'data': name, 'real': depends['real']}
        row |= {'synthetic': depends.get('synthetic', 0), 'steps': mine[0]['steps']}
        row |= {score: spread([cell[score] for cell in mine]) for score in scores(spec)}
        if spec.name in experiment.paper:
            values = experiment.paper[spec.name].get(name, (float('nan'),) * 2)
            row |= dict(zip(('mIoU, paper', 'mF1, paper'), values, strict=True))
        rows.append(row)
    return rows


def _gains(
    experiment: DownstreamExperiment, grid: Grid, counts: Mapping[tuple[str, str], Counts]
) -> list[dict[str, Any]]:
    rows = []
    for model in dict.fromkeys(model for model, _ in counts):
        for name, other in experiment.compared:
            row: dict[str, Any] = {'model': model, 'data': name, 'against': other}
            for score, function in scores(grid.spec).items():
                gain = compare(counts[model, other], counts[model, name], function, _RESAMPLES)
                row[score] = _signed(gain)
                row[f'higher in seeds ({score})'] = _wins(counts[model, other], counts[model, name], function)
            rows.append(row)
    return rows


def _signed(gain: Comparison) -> str:
    value, low, high = gain.difference
    return f'{value:+.3f} [{low:+.3f}, {high:+.3f}]'


def _wins(first: Counts, second: Counts, score: Callable[[Counts], Tensor]) -> str:
    values = [score(Counts(*(part.sum(1) for part in counts))) for counts in (first, second)]
    return f'{int((values[1] > values[0]).sum())} of {len(values[0])}'


def _notes(experiment: DownstreamExperiment, grid: Grid, seeds: tuple[int, ...]) -> list[str]:
    data, settings = grid.bench.data, grid.bench.settings
    rates = ', '.join(f'{rate:g} for {model}' for model, rate in grid.rates.items()) or f'{settings.rates[0]:g}, given'
    notes = [
        f'{data.spec.name}: {data.count} real pairs of {data.spec.patch_size} px by the protocol, drawn with seed '
        f'{SUBSET_SEED} from {len(data.pool)}. Test: {len(data.test.units)} scenes, whole. Val: '
        f'{len(data.val.units)} scenes, on which the epoch was chosen. Learning rate: {rates}, chosen on val by the '
        f'control from {", ".join(f"{rate:g}" for rate in settings.rates)}. Seeds: {", ".join(map(str, seeds))}.',
    ]
    if data.spec.name in experiment.paper:
        notes.append(f"The paper's values are of {_PAPER_MODELS[data.spec.name]} on its own patches, not whole scenes.")
    return notes
