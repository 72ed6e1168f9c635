"""Cells of trained models: what each learns from, that none is computed twice, and what is chosen on val."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from torchgeo_specdm.checkpoint import FILTER
from torchgeo_specdm.datasets import MixedDataset, SpecDMSynthetic
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.experiments import bench as bench_module
from torchgeo_specdm.experiments import grid as grid_module
from torchgeo_specdm.experiments.bench import Bench, Settings, Store
from torchgeo_specdm.experiments.data import Data
from torchgeo_specdm.experiments.grid import Grid, build
from torchgeo_specdm.experiments.named import EXPERIMENTS
from torchgeo_specdm.experiments.plan import ALL, Arm
from torchgeo_specdm.experiments.table import Report
from torchgeo_specdm.experiments.toy import toy_data, toy_spec, write_toy_generator

MODEL = 'unet:mobilenet_v2'


@pytest.fixture(scope='module')
def data() -> Data:
    return toy_data('change')


@pytest.fixture(scope='module')
def generators(data: Data, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp('generators')
    return {name: write_toy_generator(folder / name, data, seed) for seed, name in enumerate(('checkpoint', 'against'))}


@pytest.fixture(scope='module')
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp('pairs')


@pytest.fixture
def bench(data: Data, generators: dict[str, Path], cache: Path, tmp_path: Path) -> Bench:
    settings = Settings((MODEL,), (0,), steps=2, batch_size=2, rates=(1e-3,), samples=24, device='cpu')
    return Bench(
        data, generators, settings, Store(tmp_path / 'cells'), cache, {name: {'steps': 2} for name in generators}
    )


def same(first: Any, second: Any) -> bool:
    return all(torch.equal(first[key], second[key]) for key in ('image', 'mask'))


def test_arms_hold_what_they_say(bench: Bench) -> None:
    real, depends = bench.pairs(Arm())
    assert len(real) == depends['real'] == bench.data.count == 4
    few, _ = bench.pairs(Arm(real=3))
    assert [same(few[index], real[index]) for index in range(3)] == [True] * 3
    assert len(bench.pairs(Arm(real=ALL))[0]) == len(bench.data.pool)
    made, depends = bench.pairs(Arm(real=0, ratio=3))
    assert isinstance(made, SpecDMSynthetic)
    assert (len(made), depends['real'], depends['synthetic']) == (12, 0, 12)
    mixed, _ = bench.pairs(Arm(real=3, ratio=3))
    assert isinstance(mixed, MixedDataset)
    assert int(mixed.is_synthetic.sum()) == 12
    assert len(mixed) == 15


def test_arms_share_the_synthetic_pairs_that_they_have_in_common(bench: Bench) -> None:
    """Fewer are the first of the more; another generator, filter or request has others."""
    alone, _ = bench.pairs(Arm(real=0, ratio=1))
    more, depends = bench.pairs(Arm(real=0, ratio=3))
    assert all(same(alone[index], more[index]) for index in range(4))
    keys = {depends['generated']}
    for arm in (Arm(ratio=3), Arm(ratio=1), Arm(real=3, ratio=1, augment=False)):
        keys.add(bench.pairs(arm)[1]['generated'])
    assert len(keys) == 1
    for arm in (Arm(ratio=1, generator='against'), Arm(ratio=1, keep='aligned'), Arm(ratio=1, classes='balanced')):
        keys.add(bench.pairs(arm)[1]['generated'])
    assert len(keys) == 4


def test_a_generator_of_other_data_is_refused(bench: Bench, tmp_path: Path) -> None:
    other = write_toy_generator(tmp_path / 'other', toy_data('segmentation'), 0)
    with pytest.raises(SpecDMError, match='the real data'):
        Bench(bench.data, {'checkpoint': other}, bench.settings, bench.store).pairs(Arm(ratio=1))


def test_a_cell_is_computed_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Grid(bench).cell('real', Arm(), MODEL, 0)
    assert torch.tensor(first['labelled']).sum() == 6 * 64 * 64
    assert first['units'] == bench.data.test.units

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError('it is there')

    monkeypatch.setattr(grid_module, 'train', refuse)
    # The name of an arm is no part of it
    again = Grid(bench).cell('another name', Arm(real=4), MODEL, 0)
    assert again == json.loads(json.dumps(first))
    for other in ((Arm(augment=False), 0), (Arm(real=3), 0), (Arm(), 1)):
        with pytest.raises(AssertionError, match='it is there'):
            Grid(bench).cell('real', other[0], MODEL, other[1])


def test_a_damaged_record_is_said(bench: Bench) -> None:
    bench.store.record('x', {}, lambda _: {'a': 1})
    (path,) = bench.store.folder.glob('*.json')
    assert bench.store.record('x', {}, lambda _: {'a': 2}) == (json.loads(path.read_text()), True)
    path.write_text('{')
    with pytest.raises(SpecDMError, match='delete it'):
        bench.store.record('x', {}, lambda _: {'a': 1})


def test_an_interrupted_cell_leaves_its_state_and_no_record(bench: Bench) -> None:
    def stop(state: Path) -> dict[str, Any]:
        state.write_text('half')
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.store.record('x', {}, stop)
    assert not list(bench.store.folder.glob('*.json'))
    found, known = bench.store.record('x', {}, lambda state: {'went on from': state.read_text()})
    assert (found['went on from'], known) == ('half', False)
    assert not list(bench.store.folder.glob('*.state'))


def test_an_interrupted_cell_took_what_all_its_calls_took(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([100.0, 130.0, 1000.0, 1005.0])
    monkeypatch.setattr(bench_module.time, 'monotonic', lambda: next(now))

    def stop(_: Path) -> dict[str, Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.store.record('x', {}, stop)
    found, _ = bench.store.record('x', {}, lambda _: {})
    assert found['seconds'] == 35.0
    assert [path.suffix for path in bench.store.folder.iterdir() if path.suffix != '.lock'] == ['.json']


def test_a_training_that_is_stopped_goes_on(bench: Bench, tmp_path: Path) -> None:
    """At the step where it was, as if it had not been, whether it is stopped in training or before the test."""
    steps = iter(range(100))

    def check() -> None:
        if next(steps) in (1, 3):
            raise KeyboardInterrupt

    other = Bench(
        bench.data, bench.generators, bench.settings, Store(tmp_path / 'stopped'), bench.cache, bench.sampling, check
    )
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            Grid(other).cell('real', Arm(), MODEL, 0)
        assert len(list(other.store.folder.glob('*.state'))) == 1
    found = Grid(other).cell('real', Arm(), MODEL, 0)
    # Two steps: 0 | 1 before the second, again 2, 3 after it, again 4
    assert next(steps) == 5
    whole = Grid(bench).cell('real', Arm(), MODEL, 0)
    assert found | {'seconds': 0} == whole | {'seconds': 0}


def test_the_cells_that_are_planned_are_those_that_are_computed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A control whose rate is chosen is no cell of its own, whether it is among the seeds or not."""
    record = {'val': [[1, 0.5]], 'seconds': 2.0, 'depends': {}}
    monkeypatch.setattr(Store, 'record', lambda *_: (record, True))
    arms = [Arm(), Arm(ratio=1), Arm(steps=0.5)]
    for rates, seeds, count in (((0.1,), (0, 1), 6), ((0.1, 0.2), (0, 1), 7), ((0.1, 0.2), (1,), 5)):
        settings = Settings((MODEL,), seeds, steps=2, batch_size=2, rates=rates, samples=24, device='cpu')
        grid = Grid(Bench(bench.data, bench.generators, settings, bench.store, bench.cache, bench.sampling), arms)
        assert grid.progress.total == count
        for seed in seeds:
            for arm in arms:
                grid.cell('x', arm, MODEL, seed)
        assert str(grid.progress) == f'{count} of {count} cells'


def test_a_missing_filter_is_said_before_anything_is_trained(bench: Bench, data: Data, tmp_path: Path) -> None:
    generator = Path(shutil.copytree(bench.generators['checkpoint'], tmp_path / 'unfiltered'))
    shutil.rmtree(generator / FILTER)
    other = Bench(data, {'checkpoint': generator}, bench.settings, bench.store, bench.cache, bench.sampling)
    with pytest.raises(SpecDMError, match='filter'):
        EXPERIMENTS['filter'].run(other, Report(tmp_path, 'filter', ''))
    assert not bench.store.folder.exists()


def test_the_rate_is_chosen_on_val_by_the_control_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the test says otherwise."""
    asked = []

    def record(self: Grid, name: str, arm: Arm, model: str, seed: int, rate: float) -> dict[str, Any]:
        asked.append((arm, seed, rate))
        val = {0.1: [[1, 0.3], [2, float('nan')]], 0.2: [[1, 0.6], [2, 0.1]], 0.3: [[1, 0.5], [2, 0.5]]}[rate]
        return {'val': val, 'hit': [[int(1000 * rate)] * 2]}

    monkeypatch.setattr(Grid, '_record', record)
    settings = Settings((MODEL,), (4,), steps=2, batch_size=2, rates=(0.1, 0.2, 0.3), samples=24)
    Grid(Bench(bench.data, bench.generators, settings, bench.store)).cell('mix', Arm(ratio=5), MODEL, 4)
    assert asked == [(Arm(), 0, 0.1), (Arm(), 0, 0.2), (Arm(), 0, 0.3), (Arm(ratio=5), 4, 0.2)]


@pytest.mark.parametrize(
    ('model', 'words'),
    [
        ('nothing', 'there is no model'),
        ('nothing:more', 'there is no model'),
        ('segformer', 'no model for change'),
        ('unet:nothing', '--model unet:nothing'),
        ('siamcrnn:nothing', 'nothing'),
        ('changeformer:v9', 'v9'),
    ],
)
def test_a_model_that_is_not_there_is_said(model: str, words: str) -> None:
    with pytest.raises(SpecDMError, match=words):
        build(model, toy_spec('change'), 0)


def test_the_seed_makes_the_weights() -> None:
    states = [build(MODEL, toy_spec('change'), seed).state_dict() for seed in (0, 0, 1)]
    name = next(name for name, value in states[0].items() if value.ndim == 4)
    assert torch.equal(states[0][name], states[1][name])
    assert not torch.equal(states[0][name], states[2][name])


@pytest.mark.parametrize('change', [{'steps': 0}, {'rates': ()}, {'rates': (0.0,)}, {'seeds': (-1,)}, {'samples': 1}])
def test_settings_that_cannot_work_are_refused(change: dict[str, Any]) -> None:
    values = {'models': (MODEL,), 'seeds': (0,), 'steps': 2, 'batch_size': 2, 'rates': (1e-3,), 'samples': 24}
    with pytest.raises(SpecDMError, match='must'):
        Settings(**{**values, **change})


def test_what_each_experiment_needs() -> None:
    against = {'generation', 'sad-ablation', 'against-ldm'}
    for name, experiment in EXPERIMENTS.items():
        assert experiment.needs == ({'checkpoint', 'against'} if name in against else {'checkpoint'}), name
