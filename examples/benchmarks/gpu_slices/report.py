"""Markdown tables of what gpu.py has measured; what was not measured is not in them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from quality_table.rows import HEADER

from gpu_slices.experiment import FOLDER
from gpu_slices.plan import ARMS, PLAN, SEEDS
from torchgeo_specdm.checkpoint import read_json

Result = Mapping[str, Any]
_COSTS = ('ms a step', 'first steps s', 'GPU MB')


def report(work: Path) -> str:
    """All tables of the results below ``work``."""
    paths = {job.name: work / job.name / 'result.json' for job in PLAN}
    results = {name: read_json(path) for name, path in paths.items() if path.is_file()}
    sections = {
        'Trainings': _trainings(results),
        'Variants of a training step': _variants(results),
        'Samples': _samples(results),
        'Comparisons': _comparisons(results),
        'Two streams against one': _seeds(results),
        'Few steps': _steps(results),
        'Time and memory of a training step': _train_speed(results),
        'Samples per second': _sample_speed(results),
        'Operations of a sample': _sample_operations(results),
        'What blocks make of the device': _sample_rates(results),
        'Experiments': _experiments(results),
    }
    devices = sorted({f'{result["device"]}, PyTorch {result["torch"]}' for result in results.values()})
    rehearsed = [f'{name} at scale {result["scale"]:g}' for name, result in results.items() if result['scale'] != 1]
    head = [f'Measured on {device}.' for device in devices]
    head += [f'REHEARSED, no result: {", ".join(rehearsed)}.'] if rehearsed else []
    parts = [f'## {title}\n\n{table}' for title, table in sections.items() if table]
    # After each seed, whether all of them are there or not
    tables = (work / FOLDER / f'{job.name}.md' for job in PLAN if job.kind == 'experiment')
    parts += [f'#{path.read_text(encoding="utf-8").strip()}' for path in tables if path.is_file()]
    return '\n\n'.join([*head, *parts]) or f'nothing is finished in {work}'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; empty without rows."""
    lines = [f'| {" | ".join(cells)} |' for cells in rows]
    return '\n'.join([f'| {" | ".join(head)} |', '|---' * len(head) + '|', *lines]) if lines else ''


def number(value: float) -> str:
    """Four digits."""
    return f'{value:.4g}'


def _trainings(results: Mapping[str, Result]) -> str:
    head = ['job', 'stage', 'steps', 'steps of the preset', 'variant', 'ms a step', 'train s', 'all s', 'GPU MB', 'val']
    rows = []
    for name, result in results.items():
        for task, stage in result.get('stages', {}).items() if result['kind'] == 'train' else ():
            step = 1000 * stage['train_seconds'] / stage['max_steps']
            scores = ', '.join(f'{key.removeprefix("val_")} {number(v)}' for key, v in stage['metrics'].items())
            times = (number(step), number(stage['train_seconds']), number(stage['seconds']), number(stage['memory_mb']))
            steps = (str(stage['max_steps']), str(stage['preset_steps']))
            rows.append((name, task, *steps, stage['variant'], *times, scores))
    return table(head, rows)


def _variants(results: Mapping[str, Result]) -> str:
    rows = [
        (name, task, variant, *_cost(found))
        for name, result in results.items()
        if result['kind'] == 'train' and not result.get('count')
        for task, stage in result['stages'].items()
        for variant, found in stage['variants'].items()
    ]
    return table(['job', 'stage', 'variant', *_COSTS], rows)


def _cost(found: Mapping[str, Any]) -> list[str]:
    """Of a step that was measured."""
    if 'failed' in found:
        return [f'failed: {found["failed"]}', '', '']
    return [number(1000 * found['step_seconds']), number(found['first_seconds']), number(found['memory_mb'])]


def _samples(results: Mapping[str, Result]) -> str:
    rows = [
        (name, str(result['count']), figure, number(value))
        for name, result in results.items()
        if result['kind'] == 'samples'
        for figure, value in result['figures'].items()
    ]
    return table(['job', 'samples', 'figure', 'value'], rows)


def _comparisons(results: Mapping[str, Result]) -> str:
    """Each arm's seeds one by one: three have no interval."""
    found = {arm: [results.get(f'{arm}-{seed}') for seed in SEEDS] for arm in ARMS}
    there = [result for row in found.values() for result in row if result]
    if not there:
        return ''
    # A dictionary, as some arms have fewer
    names = list(dict.fromkeys(('figures', figure) for result in there for figure in result.get('figures', ())))
    stages = [(task, stage['metrics']) for result in there for task, stage in result['stages'].items()]
    names += dict.fromkeys((task, metric) for task, metrics in stages for metric in metrics)
    rows = [
        (metric if part == 'figures' else f'{task_label(part)} {metric}', arm, *(_value(r, part, metric) for r in row))
        for part, metric in names
        for arm, row in found.items()
        # Not all arms have all figures
        if any(metric in _figures(result, part) for result in row if result)
    ]
    return table(['figure', 'arm', *(f'seed {seed}' for seed in SEEDS)], rows)


def _experiments(results: Mapping[str, Result]) -> str:
    rows = [
        (name, ', '.join(result['models']), str(len(result['seeds'])), str(result['steps']))
        for name, result in results.items()
        if result['kind'] == 'experiment'
    ]
    return table(['job', 'models', 'seeds', 'steps of a cell'], rows)


def _seeds(results: Mapping[str, Result]) -> str:
    lines = [line for result in results.values() if result['kind'] == 'seeds' for line in result['lines']]
    return '\n'.join([HEADER, *lines]) if lines else ''


def task_label(task: str) -> str:
    """A short name of a stage."""
    return {'LatentDiffusionTask': 'denoiser'}.get(task, 'autoencoder')


def _figures(result: Result, part: str) -> Mapping[str, float]:
    found = result.get('figures', {}) if part == 'figures' else result['stages'].get(part, {}).get('metrics', {})
    return dict(found)


def _value(result: Result | None, part: str, metric: str) -> str:
    figures = _figures(result, part) if result else {}
    return number(figures[metric]) if metric in figures else 'not measured'


def _steps(results: Mapping[str, Result]) -> str:
    rows = []
    for name, result in results.items():
        if result['kind'] != 'steps':
            continue
        reference = result['samplings'][-1]['figures']
        for found in result['samplings']:
            sampling, figures = found['sampling'], found['figures']
            for key in (key for key in figures if key.endswith(' FD')):
                ratio = number(figures[key] / reference[key])
                label = f'{sampling["steps"]} {sampling.get("solver", "default")}'
                count = figures[key.removesuffix('FD') + 'N']
                rows.append((name, label, key, f'{count:.0f}', number(figures[key]), ratio))
    return table(['job', 'steps', 'features', 'N', 'value', 'over the last'], rows)


def _train_speed(results: Mapping[str, Result]) -> str:
    rows = []
    for result in results.values():
        for task, variants in result['stages'].items() if result['kind'] == 'train-speed' else ():
            for variant, found in variants.items():
                rows.append([result['config'], task, str(result['batch_sizes'][task]), variant, *_cost(found)])
    return table(['preset', 'stage', 'batch', 'variant', *_COSTS], rows)


def _sample_speed(results: Mapping[str, Result]) -> str:
    rows = []
    for result in results.values():
        for variant, sizes in result['variants'].items() if result['kind'] == 'sample-speed' else ():
            for size, found in sizes.items():
                if 'failed' in found:
                    cells = [f'failed: {found["failed"]}', '', '']
                else:
                    cells = [number(found[name]) for name in ('samples_per_second', 'first_seconds', 'memory_mb')]
                rows.append([result['config'], variant, size, *cells])
    return table(['preset', 'variant', 'batch', 'samples per second at 20 steps', 'first block s', 'GPU MB'], rows)


def _sample_rates(results: Mapping[str, Result]) -> str:
    """Of blocks as a GPU has them, with what they should reach there."""
    rows = []
    for result in (result for result in results.values() if result['kind'] == 'sample-speed'):
        size, matrix = str(result['block']), result['matrix_rate']
        each = sum(result['operations'].values()) / result['block']
        for variant, sizes in result['variants'].items():
            found, one = sizes.get(size, {'failed': ''}), sizes.get('1', {'failed': ''})
            if 'failed' in found:
                continue
            rate = each * found['samples_per_second']
            ratio = '' if 'failed' in one else _barred(found['samples_per_second'] / one['samples_per_second'], 5)
            shares = (_barred(rate / matrix, 0.3), _barred(found['in_kernels'], 0.9), ratio)
            rows.append([result['config'], variant, size, number(rate / 1e12), number(matrix / 1e12), *shares])
    head = ['TFLOP/s', 'of a bf16 matrix product', 'share of that (>= 0.3)', 'time in kernels (>= 0.9)']
    return table(['preset', 'variant', 'batch', *head, 'samples over one by one (>= 5)'], rows)


def _barred(value: float, least: float) -> str:
    return f'{number(value)}, {"met" if value >= least else "**not met**"}'


def _sample_operations(results: Mapping[str, Result]) -> str:
    rows = [
        (result['config'], part, number(count / result['block'] / 1e9))
        for result in results.values()
        if result['kind'] == 'sample-speed'
        for part, count in result['operations'].items()
    ]
    return table(['preset', 'part', 'GFLOP a sample at 20 steps'], rows)
