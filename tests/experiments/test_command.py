"""``specdm experiment``: every experiment from its first to its last step, in small."""

import contextlib
import csv
import json
import multiprocessing
import os
import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import slow_but
from tests.data.oscd.data import write_oscd
from torchgeo_specdm.cli import main
from torchgeo_specdm.datasets.oscd import oscd_spec
from torchgeo_specdm.downstream.base import DenseModel
from torchgeo_specdm.experiments import grid, samples
from torchgeo_specdm.experiments.data import open_data
from torchgeo_specdm.experiments.named import EXPERIMENTS
from torchgeo_specdm.experiments.plan import DownstreamExperiment
from torchgeo_specdm.experiments.toy import write_toy_generator
from torchgeo_specdm.spec import DatasetSpec, fold_dates

pytestmark = pytest.mark.usefixtures('few_steps')


class Linear(DenseModel):
    """One layer, so that a training takes no time."""

    multiple = 1

    def __init__(self, spec: DatasetSpec, seed: int) -> None:
        super().__init__(spec.num_bands, spec.num_classes)
        self.num_dates = spec.num_dates
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.encoder = nn.Conv2d(spec.num_dates * spec.num_bands, spec.num_classes, 1)

    def logits(self, image: Tensor) -> Tensor:
        return self.encoder(fold_dates(image))  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, 'build', lambda model, spec, seed: Linear(spec, seed))
    monkeypatch.setattr(samples, 'has_lite0', lambda: False)


def run(out: Path, name: str, *options: str) -> dict[str, Any]:
    assert main(['experiment', name, '--out', str(out), *options]) == 0
    return dict(json.loads((out / f'{name}.json').read_text()))


@pytest.mark.parametrize('task', slow_but(['change'], ['change', 'segmentation']))
def test_every_experiment_runs(task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, experiment in EXPERIMENTS.items():
        run(tmp_path, name, '--fast', '--task', task)
        text = (tmp_path / f'{name}.md').read_text()
        assert 'the figures mean nothing' in text
        assert 'verdict' not in text
        rows = list(csv.DictReader((tmp_path / f'{name}.csv').open()))
        if isinstance(experiment, DownstreamExperiment):
            assert len(rows) == 2 * len(experiment.arms)
            assert {row['steps'] for row in rows} <= {'4', '1'}
        else:
            assert [row['samples'] for row in rows].count('SpecDM') == 2
            assert rows[0]['samples'] == 'real, held out'
            assert float(rows[0]['mSAD [rad]']) < float(rows[1]['mSAD [rad]'])  # noise has no spectrum
    # What experiments have in common is one cell for each seed: 24 pairs are all there are, and the protocol draws 4
    arms = [
        arm for each in EXPERIMENTS.values() if isinstance(each, DownstreamExperiment) for arm in each.arms.values()
    ]
    distinct = {replace(arm, real=min(24, 4 if arm.real is None else arm.real)) for arm in arms}
    assert len(list((tmp_path / f'fast-{task}' / 'cells').glob('unet-mobilenet-v2-seed-*.json'))) == 2 * len(distinct)

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / f'fast-{task}' / 'cells').glob('*.json')}
    printed = capsys.readouterr().out
    assert ', lr 0.001: val mIoU' in printed
    assert 's; 6 of 6 cells\n' in printed  # of the first experiment
    assert re.search(r's; 2 of 6 cells, about \d+ s left\n', printed)
    run(tmp_path, 'ratio', '--fast', '--task', task)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / f'fast-{task}' / 'cells').glob('*.json')}
    assert 'val mIoU' not in capsys.readouterr().out


def rows(out: Path) -> list[dict[str, str]]:
    """Of the experiment on ratios, without what cells took."""
    return [row | {'seconds': ''} for row in csv.DictReader((out / 'ratio.csv').open())]


def begin_together(folder: Path, seeds: tuple[str, ...]) -> None:
    """One of two processes; what it prints is in ``folder``, under its number."""
    alone = grid.train

    def train(*args: Any, **kwargs: Any) -> Any:
        # Neither finishes its first cell before the other has begun one: who starts late would find nothing left
        met = folder / 'met'
        met.mkdir(exist_ok=True)
        (met / str(os.getpid())).touch()
        # Not for ever: the other one may have failed
        until = time.monotonic() + 200
        while len(list(met.iterdir())) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        return alone(*args, **kwargs)

    grid.train = train
    with (folder / str(os.getpid())).open('w') as printed, contextlib.redirect_stdout(printed):
        done = main(['experiment', 'ratio', '--fast', '--out', str(folder / 'shared'), '--seeds', *seeds])
    sys.exit(done)


@pytest.mark.slow
def test_processes_share_the_work(tmp_path: Path) -> None:
    """Two that begin at once, from both ends: each cell is computed once, and the table is that of one process."""
    # Forked: all libraries are there already
    fork = multiprocessing.get_context('fork').Process
    running = [fork(target=begin_together, args=(tmp_path, seeds)) for seeds in (('0', '1'), ('1', '0'))]
    for process in running:
        process.start()
    for process in running:
        process.join(300)
    assert [process.exitcode for process in running] == [0, 0]
    printed = [(tmp_path / str(process.pid)).read_text() for process in running]
    assert [text.count(': val mIoU') > 0 for text in printed] == [True, True]
    assert sum(text.count(': val mIoU') for text in printed) == 2 * 5
    run(tmp_path / 'shared', 'ratio', '--fast')
    run(tmp_path / 'alone', 'ratio', '--fast')
    assert rows(tmp_path / 'shared') == rows(tmp_path / 'alone')


@pytest.mark.slow
def test_a_real_network_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    found = run(tmp_path, 'ratio', '--fast', '--seeds', '0', '--steps', '1')
    assert [row['data'] for row in found['tables'][grid._MEANS]] == list(EXPERIMENTS['ratio'].arms)  # type: ignore[attr-defined]


def test_oscd_is_scored_on_whole_cities_beside_the_paper(tmp_path: Path) -> None:
    write_oscd(tmp_path / 'oscd')
    spec = oscd_spec(('B02', 'B04', 'B08'), 32)
    data = open_data(spec, tmp_path / 'oscd')
    checkpoint = write_toy_generator(tmp_path / 'checkpoint', data, 0)
    options = ['--root', str(tmp_path / 'oscd'), '--checkpoint', str(checkpoint), '--model', 'linear', '--lr', '0.1']
    options += ['--steps', '2', '--device', 'cpu', '--sampling-steps', '3', '--classes', 'train']
    found = run(tmp_path / 'out', 'augmentation', *options, '--seeds', '0', '1')
    assert found['test'] == ['brasilia', 'dubai']
    first = found['tables'][grid._MEANS][0]
    assert first['mIoU, paper'] == 0.546
    assert first['real'] == data.count
    # Of a few pairs and two cities there is no verdict
    held = found['tables'][grid._BARS]
    assert [row['verdict'] for row in held] == ['not measured'] * 3
    assert held[1]['measured'] == found['tables'][grid._GAINS][1]['mIoU']
    assert found['notes'][1] == 'Pairs of --checkpoint are sampled with steps 3, classes train.'
    assert '**Reduced form**: 2 steps of linear.' in found['notes'][2]
    cells = [json.loads(path.read_text()) for path in (tmp_path / 'out' / 'cells').glob('*.json')]
    assert all(torch.tensor(cell['labelled']).sum() == 2 * 96 * 112 for cell in cells)
    assert len(cells) == 6
    # Other pairs are other cells; those without synthetic pairs are shared
    run(tmp_path / 'out', 'augmentation', *options, '--seeds', '0', '--sampling-steps', '2')
    assert len(list((tmp_path / 'out' / 'cells').glob('*.json'))) == 6 + 2
    assert main(['experiment', 'augmentation', '--out', str(tmp_path / 'out'), *options, '--agreement', '2']) != 0


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (['ratio'], 'ratio needs --checkpoint, --root; --fast needs nothing'),
        (['against-ldm', '--root', 'x', '--checkpoint', 'oscd-landcover'], 'against-ldm needs --against'),
        (['ratio', '--fast', '--root', 'x'], 'leave out --root'),
        (['ratio', '--fast', '--agreement', '2'], 'leave out --root'),
        (['ratio', '--fast', '--steps', '0'], '--steps and --batch-size must be at least 1'),
        (['ratio', '--root', 'nowhere', '--checkpoint', 'indian-pines'], "imitates 'Indian Pines'"),
    ],
)
def test_mistakes_are_said_in_one_line(
    options: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['experiment', *options, '--out', str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.strip().splitlines()[-1].startswith('specdm: error: ')
