"""Tables of records that are written by hand."""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import tiny_spec
from torchgeo_specdm.comparison import compare, mean_iou
from torchgeo_specdm.experiments.named import EXPERIMENTS
from torchgeo_specdm.experiments.plan import Arm, DownstreamExperiment, GeneratorExperiment
from torchgeo_specdm.experiments.results import Results
from torchgeo_specdm.experiments.table import Report, Spread, markdown

SPEC = tiny_spec('change')
EXPERIMENT = DownstreamExperiment('?', {'real': Arm(), 'mix': Arm(ratio=5)})


def record(seed: int, right: int) -> dict[str, Any]:
    """Three scenes of 100 pixels, of which 20 changed and ``right`` of these were found, or one more by seed."""
    hits = [min(20, right + seed + scene) for scene in range(3)]
    return {
        'val': [[10, 0.3], [20, 0.5], [30, math.nan]],
        'hit': [[75, hit] for hit in hits],
        'predicted': [[75 + 20 - hit, hit + 5] for hit in hits],
        'labelled': [[80, 20]] * 3,
        'depends': {'real': 8, 'budget': {'lr': 0.1, 'steps': 30}},
        'seconds': 1.0,
    }


def results(seeds: Sequence[int] = (0, 1)) -> Results:
    found = {('m', 'real'): [record(s, 5) for s in seeds], ('m', 'mix'): [record(s, 12) for s in seeds]}
    return Results(EXPERIMENT, SPEC, found, seeds)


def test_scores_are_those_of_all_pixels_of_a_seed() -> None:
    cells = results().cells()
    assert [(cell['data'], cell['seed']) for cell in cells] == [('real', 0), ('real', 1), ('mix', 0), ('mix', 1)]
    hit = 12 + 13 + 14
    change = 2 * hit / (hit + 15 + 60)
    still = 2 * 225 / (225 + 60 - hit + 240)
    assert cells[2]['F1, change'] == cells[2]['F1 of change'] == pytest.approx(change)
    assert cells[2]['mF1'] == pytest.approx((change + still) / 2)
    assert cells[2]['IoU, change'] == pytest.approx(change / (2 - change))
    assert (cells[2]['best step'], cells[2]['val mIoU']) == (20, 0.5)
    mean = results().means()[1]['mIoU']
    assert mean.mean == pytest.approx((cells[2]['mIoU'] + cells[3]['mIoU']) / 2)
    assert mean.deviation == pytest.approx(abs(cells[2]['mIoU'] - cells[3]['mIoU']) / math.sqrt(2))


def test_a_gain_is_the_bootstrap_of_the_pair() -> None:
    found = results()
    (row,) = found.gains()
    expected = compare(found.counts['m', 'real'], found.counts['m', 'mix'], mean_iou).difference
    assert tuple(row['mIoU'])[:3] == tuple(expected)
    assert row['mIoU'].low > 0
    assert str(row['mIoU']).endswith('], 2 of 2')
    (none,) = Results(EXPERIMENT, SPEC, {('m', name): [record(0, 5)] for name in EXPERIMENT.arms}, (0,)).gains()
    assert str(none['mF1']) == '+0.000 [+0.000, +0.000], 0 of 1'


def test_spread_and_table() -> None:
    assert str(Spread.of([0.5, 0.7, math.nan])) == '0.6 ± 0.14'
    assert str(Spread.of([0.5])) == '0.5'
    assert str(Spread.of([])) == '–'
    assert markdown([{'a': 1}, {'b': math.nan, 'a': 0.25}]).splitlines()[2:] == ['| 1 | – |', '| 0.25 | – |']


def test_files_are_written(tmp_path: Path) -> None:
    found = results()
    report = Report(tmp_path / 'out', 'name', 'Why?', ['Small.'])
    text = report.write(found.cells(), {'Gains:': found.gains()}, {'spec': SPEC.to_dict()}, ['Mind it.'])
    assert text == (tmp_path / 'out' / 'name.md').read_text()
    assert '| m | mix | real |' in text
    values = json.loads((tmp_path / 'out' / 'name.json').read_text())
    assert values['tables']['Gains:'][0]['mIoU']['higher'] == 2
    assert len((tmp_path / 'out' / 'name.csv').read_text().splitlines()) == 5


def test_all_arms_of_an_experiment_take_equal_steps_but_the_one_that_shows_why() -> None:
    for name, experiment in EXPERIMENTS.items():
        if isinstance(experiment, DownstreamExperiment):
            unequal = [arm for arm, told in experiment.arms.items() if told.steps != 1]
            assert unequal == (['real, not augmented, a sixth of the steps'] if name == 'equal-steps' else [])
            assert {arm for pair in experiment.compared for arm in pair} <= set(experiment.arms)
            assert all(set(rows) <= set(experiment.arms) for rows in experiment.paper.values())


def test_the_papers_values_have_names() -> None:
    """Those that the text of the paper prints."""
    ratio, generation = EXPERIMENTS['ratio'], EXPERIMENTS['generation']
    assert ratio.paper['OSCD'] == {
        'real': (0.5460, 0.6274),
        'real + 1x': (0.5666, 0.6546),
        'real + 3x': (0.5694, 0.6561),
        'real + 5x': (0.5733, 0.6617),
    }
    assert isinstance(generation, GeneratorExperiment)
    for experiment in (generation, EXPERIMENTS['sad-ablation']):
        for rows in experiment.paper.values():
            assert all(len(values) == len(experiment.paper_figures) for values in rows.values())  # type: ignore[attr-defined]


def test_paper_values_stand_beside() -> None:
    spec = dataclasses.replace(SPEC, name='OSCD')
    experiment = dataclasses.replace(EXPERIMENT, paper={'OSCD': {'real': (0.5, 0.6)}})
    found = Results(experiment, spec, {('m', name): [record(0, 5)] for name in EXPERIMENT.arms}, (0,)).means()
    assert (found[0]['mIoU, paper'], found[0]['mF1, paper']) == (0.5, 0.6)
    assert math.isnan(found[1]['mIoU, paper'])
