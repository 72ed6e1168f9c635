"""gpu.py rehearsed in small: its whole plan, what happens when it is stopped or killed, and what comes back."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import gpu
import pack
import pytest
import quality as table_script
import torch
import yaml
from gpu_slices import jobs as gpu_jobs
from gpu_slices import parts, plan, rates, speed, train
from gpu_slices import report as gpu_report
from gpu_slices.rows import observed_shape
from quality_table.table import Table

from tests.conftest import slow_but
from tests.data.oscd.data import write_oscd
from tests.test_layers import ABSENT
from torchgeo_specdm import tasks
from torchgeo_specdm.checkpoint import folder_hash
from torchgeo_specdm.datamodules import OSCDLandCoverDataModule, OSCDPatchesDataModule, PackedDataModule
from torchgeo_specdm.datasets import SpecDMSynthetic, precision
from torchgeo_specdm.downstream.base import DenseModel
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.evaluation import quality
from torchgeo_specdm.evaluation.cache import Cache
from torchgeo_specdm.evaluation.real_data import open_real
from torchgeo_specdm.experiments import grid
from torchgeo_specdm.models import JointDenoiser
from torchgeo_specdm.pipeline import SpecDMPipeline
from torchgeo_specdm.resume import ResumeCheckpoint
from torchgeo_specdm.spec import DatasetSpec

pytestmark = pytest.mark.usefixtures('few_steps')
_TASKS = 'AutoencoderTask', 'LatentDiffusionTask'
EXAMPLES = Path(__file__).parents[1] / 'examples'
LAND, LDM = 'oscd-landcover', 'oscd-ldm'


@pytest.fixture(scope='module')
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``pack``, of a tiny OSCD, and ``conf``, the presets with tiny networks."""
    folder = tmp_path_factory.mktemp('gpu')
    write_oscd(folder / 'oscd', height=48, width=64)
    pack.main(['--root', str(folder / 'oscd'), '--out', str(folder / 'pack')])
    (folder / 'conf').mkdir()
    for name in ('oscd', LAND):
        config = yaml.safe_load((EXAMPLES / 'conf' / f'{name}.yaml').read_text())
        first, second = config['stages'][:2]
        config['data']['init_args'] |= {'patch_size': 16, 'overlap': 0.0, 'batch_size': 4, 'num_workers': 0}
        second['data'] = {'init_args': {'batch_size': 4}}
        first['model']['init_args'] |= {'width': [16, 16], 'depth': 1}
        second['model']['init_args'] |= {'widths': [32], 'depth': 1}
        for stage in (first, second):
            stage['trainer']['max_steps'] = 5
        (folder / 'conf' / f'{name}.yaml').write_text(yaml.safe_dump(config))
    return folder


class Linear(DenseModel):
    """One layer in place of a downstream model."""

    num_dates, multiple = 2, 1

    def __init__(self, model: str, spec: DatasetSpec, seed: int) -> None:
        super().__init__(spec.num_bands, spec.num_classes)
        self.encoder = torch.nn.Conv2d(2 * spec.num_bands, spec.num_classes, 1)

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        return self.encoder(image.flatten(1, 2))  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def small_networks_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others take longer than all else, as does a compiler."""
    monkeypatch.setattr(quality, 'has_lite0', lambda: False)
    monkeypatch.setattr(grid, 'build', Linear)
    monkeypatch.setattr(precision, '_BACKEND', lambda module, inputs: module.forward)


def call(site: Path, folder: Path, *options: str) -> None:
    """One call with at most a hundredth of the work, in ``folder``; a busy machine does not end it early."""
    given = {'--pack': site / 'pack', '--conf': site / 'conf', '--work': folder / 'work', '--out': folder / 'out'}
    fixed = [str(part) for pair in given.items() for part in pair]
    gpu.main(['run', *fixed, '--minutes', '60', '--scale', '0.005', *options], start=time.monotonic())


def result(folder: Path, job: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / job / 'result.json').read_text())
    return found


@pytest.mark.slow
def test_the_whole_plan(
    site: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # One seed of three: the others repeat it
    for module in (plan, gpu_jobs, gpu_report):
        monkeypatch.setattr(module, 'SEEDS', (0,))
    jobs = [job.name for job in plan.PLAN if job.seed == 0]
    call(site, tmp_path, '--only', *jobs)
    assert 'all that is finished is sent' in capsys.readouterr().out
    back = tmp_path / 'back'
    gpu.main(['join', '--shards', str(tmp_path / 'out'), '--work', str(back)])
    assert 'all of it is in' in capsys.readouterr().out
    assert all(result(back, job)['job'] == job for job in jobs)

    # Shipped are the generators alone, as they were written
    assert sorted(path.parent.name for path in back.glob('*/checkpoint')) == ['oscd', LAND, 'oscd-ldm']
    for name, task in (('oscd', 'change'), (LAND, 'segmentation'), ('oscd-ldm', 'change')):
        checkpoint = back / name / 'checkpoint'
        assert (
            result(back, name)['checkpoint']
            == folder_hash(checkpoint)
            == folder_hash(tmp_path / 'work' / checkpoint.relative_to(back))
        )
        assert SpecDMPipeline.from_pretrained(checkpoint).spec.task == task
        stages = result(back, name)['stages']
        assert ('AutoencoderTask' in stages) == (name == 'oscd-ldm')
        assert all(stage['max_steps'] <= 5 for stage in stages.values())
        metrics = result(back, name)['stages']['LatentDiffusionTask']['metrics']
        assert metrics['val_loss'] > 0
    assert not list((tmp_path / 'work').rglob('last.ckpt'))

    # The experiments share the cells that they have in common: of a model, two of three arms
    records = sorted(path.name for path in (back / 'experiments' / 'cells').iterdir())
    assert len(records) == 2 * (3 + 1)
    assert records == sorted(path.name for path in (tmp_path / 'work/experiments/cells').glob('*.json'))
    for name in ('augmentation', 'against-ldm'):
        found = json.loads((back / 'experiments' / f'{name}.json').read_text())
        assert {row['steps'] for row in found['cells']} == {8}
        assert len(found['cells']) == 2 * 3

    # The table of quality.py is made elsewhere, of the rows that came back
    with monkeypatch.context() as patch:
        patch.setattr(SpecDMSynthetic, '__getitem__', None)
        for name, kind in (('oscd', OSCDPatchesDataModule), (LAND, OSCDLandCoverDataModule)):
            checkpoint = back / name / 'checkpoint'
            pipeline = SpecDMPipeline.from_pretrained(checkpoint)
            val = yaml.safe_load((site / 'conf' / f'{name}.yaml').read_text())['data']['init_args'].get('val_cities')
            given = {'val_cities': val} if val else {}
            real = open_real(kind(site / 'oscd', patch_size=16, overlap=0.0, **given), pipeline.spec)
            table = Table(checkpoint, real, 10, Cache(back / name / 'quality.parts'), 'cpu')
            rows = table.generate(checkpoint, 10, table.observers)
            batch = observed_shape(pipeline.sample(range(8, 16), steps=20), pipeline.spec)
            for observer in table.observers:
                again = observer.observe(*batch)
                for key, values in rows[observer.name].items():
                    assert len(values) == 10
                    torch.testing.assert_close(values[8:], again[key][:2])

    gpu.main(['report', '--work', str(back)])
    report = capsys.readouterr().out
    assert 'REHEARSED, no result' in report
    assert all(f'| {job} |' in report for job in jobs if not job.endswith('-speed') and not job[-1].isdigit())
    assert report.count('not measured') == 0

    # Blocks of a dataset, in each variant, and what they make of the device
    speeds = result(back, 'sample-speed')
    assert set(speeds['variants']) == set(speed.SAMPLE_VARIANTS)
    of_blocks = [sizes[str(speeds['block'])] for sizes in speeds['variants'].values()]
    assert all(found['samples_per_second'] > 0 and found['first_seconds'] > 0 for found in of_blocks)
    assert all(found['in_kernels'] > 0 for found in of_blocks)
    rates_of = report.partition('## What blocks make of the device')[2].partition('## ')[0]
    assert rates_of.count('| oscd-landcover |') == len(of_blocks)
    assert 'met' in rates_of
    assert 'failed' not in report
    assert '| two-stream | ' in report.partition('## Comparisons')[2]
    assert 'in 1 training seeds, baseline over this' in report.partition('## Two streams against one')[2]
    monkeypatch.setattr(gpu_report, 'SEEDS', (0, 1))
    gpu.main(['report', '--work', str(back)])
    assert 'not measured' in capsys.readouterr().out

    # What came back is not sent once more by a call that goes on from it
    call(site, tmp_path / 'next', '--only', 'sample-speed', '--work', str(back))
    assert not list((tmp_path / 'next').rglob('slice-*'))


class KilledError(BaseException):
    """Stands in for a signal that leaves no time."""


@pytest.mark.parametrize('hard', [False, True])
def test_a_training_goes_on_where_it_was(
    hard: bool, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the end of a call the state is that of the last step, after a kill that of the last save."""
    counted: list[float] = []
    measured: list[str] = []

    def check(clock: Any, needed: float = 0.0) -> None:
        counted.extend([0.0] * (needed == 0))
        if len(counted) == 4:
            raise KilledError if hard else train.SliceEndError

    def measure_step(stage: Any, *_: Any) -> dict[str, float]:
        measured.append(stage.task)
        return {'step_seconds': 1e-3, 'first_seconds': 0.0, 'memory_mb': 0.0}

    monkeypatch.setattr(train, 'measure_step', measure_step)
    monkeypatch.setattr(plan, 'PLAN', tuple(replace(job, count=0) for job in plan.PLAN))
    only = ('--only', LDM, '--scale', '1')
    with monkeypatch.context() as patch:
        patch.setattr(train.Clock, 'check', check)
        if hard:
            patch.setattr(train, '_SAVE_EVERY', 0.0)
            patch.setattr(ResumeCheckpoint, 'on_exception', lambda *_: None)
            with pytest.raises(KilledError):
                call(site, tmp_path, *only)
        else:
            call(site, tmp_path, *only)
    folder = tmp_path / 'work' / LDM
    state = torch.load(folder / 'AutoencoderTask' / 'last.ckpt', weights_only=True)
    assert state['global_step'] == 3
    planned = json.loads((folder / 'AutoencoderTask.json').read_text())
    assert not (folder / 'result.json').exists()
    assert not (folder / 'autoencoder').exists()

    counted.clear()
    measured.clear()
    monkeypatch.setattr(train.Clock, 'check', lambda _, needed=0.0: counted.extend([0.0] * (needed == 0)))
    call(site, tmp_path, *only)
    stages = result(tmp_path / 'work', LDM)['stages']
    # The steps that were left, as many as were planned, and no measurement of what was measured
    assert stages['AutoencoderTask']['max_steps'] == planned['max_steps'] == 5
    assert len(counted) == 2 + stages['LatentDiffusionTask']['max_steps']
    assert set(measured) == {'LatentDiffusionTask'}
    seen = list((tmp_path / 'out').iterdir())
    call(site, tmp_path, *only)
    assert list((tmp_path / 'out').iterdir()) == seen


@pytest.mark.slow
def test_an_experiment_goes_on_cell_by_cell(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each call brings the cells that it has finished, and the next one goes on, on another machine too."""
    call(site, tmp_path, '--only', 'oscd')
    checks, stops = 0, [20, 33]

    def check(clock: Any, needed: float = 0.0) -> None:
        nonlocal checks
        checks += 1
        if checks in stops:
            raise train.SliceEndError

    monkeypatch.setattr(train.Clock, 'check', check)
    only = ('--only', 'augmentation')
    work = tmp_path / 'work'
    brought = []
    for number in range(3):
        out = tmp_path / f'out {number}'
        call(site, tmp_path, *only, '--out', str(out))
        back = tmp_path / f'back {number}'
        assert not parts.join([out], back)
        brought.append({path.name for path in (back / 'experiments' / 'cells').glob('*.json')})
        # What is on its way is kept here
        assert len(list((work / 'experiments' / 'cells').glob('*.state'))) == (number < 2)
        assert (back / 'augmentation' / 'result.json').is_file() == (number == 2)
        assert (back / 'experiments' / 'augmentation.md').is_file() == (number == 2)
    # 9 checks a cell of 8 steps, one of what comes before: the first call has finished two cells, the second a third
    assert [len(names) for names in brought] == [2, 1, 3]
    assert len(set.union(*brought)) == 6

    # Where the machine is lost, what has come back is enough
    elsewhere = tmp_path / 'elsewhere'
    gpu.main(['join', '--shards', str(tmp_path / 'out'), str(tmp_path / 'out 0'), '--work', str(elsewhere)])
    call(site, tmp_path, *only, '--work', str(elsewhere), '--out', str(tmp_path / 'more'))
    assert not parts.join([tmp_path / 'more'], tmp_path / 'back more')
    more = {path.name for path in (tmp_path / 'back more' / 'experiments' / 'cells').iterdir()}
    assert more == set.union(*brought) - brought[0]


def test_results_return_in_small_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work, out, back = (tmp_path / name for name in ('work', 'out', 'back'))
    monkeypatch.setattr(parts, 'SHARD', 1000)
    monkeypatch.setattr(parts, 'MOST_FILES', 3)
    monkeypatch.setattr(parts, 'MOST_BYTES', 2500)
    work.mkdir()
    (work / 'weights').write_bytes(bytes(range(256)) * 20)
    (work / 'result.json').write_text('{}')
    parts.store(work, [work / 'weights', work / 'result.json'], work / 'outbox')
    calls = 0
    while True:
        left = parts.send(work / 'outbox', out / str(calls))
        sizes = [path.stat().st_size for path in (out / str(calls)).iterdir()]
        assert len(sizes) <= 3
        assert sum(sizes) <= 2500
        assert max(sizes) <= 1000
        calls += 1
        if not left:
            break
        assert parts.join([out], back)
        assert not (back / 'weights').exists()
    assert calls > 3
    assert parts.join([out], back) == []
    assert (back / 'weights').read_bytes() == (work / 'weights').read_bytes()
    damaged = next(out.rglob('slice-000-*.03'))
    data = damaged.read_bytes()
    damaged.write_bytes(data[::-1])
    with pytest.raises(SpecDMError, match='damaged: copy them again'):
        parts.join([out], back)
    damaged.unlink()
    assert parts.join([out], back) == [damaged.name]
    # What did not arrive is sent again
    parts.send_again(work / 'outbox')
    waiting = len(list((work / 'outbox').glob('slice-*')))
    left = parts.send(work / 'outbox', tmp_path / 'again')
    names = sorted(path.name for path in (tmp_path / 'again').iterdir())
    assert names == [f'{damaged.stem}.{suffix}' for suffix in ('00', '01', 'json')]
    assert len(left) == waiting - len(names)
    # An archive that comes later has another name
    parts.store(work, [work / 'result.json'], work / 'outbox')
    assert len(list((work / 'outbox').glob('slice-001-*.json'))) == 1


def test_results_of_two_machines_are_joined(tmp_path: Path) -> None:
    """Each numbers its archives from 0, and both go into one folder."""
    out, back = tmp_path / 'out', tmp_path / 'back'
    for seed in (0, 1):
        work = tmp_path / f'machine {seed}'
        (work / 'cells').mkdir(parents=True)
        (work / 'cells' / f'seed-{seed}.json').write_text(str(seed))
        parts.store(work, [work / 'cells' / f'seed-{seed}.json'], work / 'outbox')
        assert not parts.send(work / 'outbox', out)
    assert len(list(out.glob('slice-000-*.json'))) == 2
    assert parts.join([out], back) == []
    assert {path.name: path.read_text() for path in (back / 'cells').iterdir()} == {
        'seed-0.json': '0',
        'seed-1.json': '1',
    }


def test_the_plan_fits_the_presets(site: Path, tmp_path: Path) -> None:
    for job in plan.PLAN:
        stages = plan.read_stages(job, EXAMPLES / 'conf', site / 'pack', tmp_path)
        # The generators that ship have the autoencoders that ship, and the loss of angles is one of the autoencoder
        tasks_of = {'oscd': [1], LAND: [1], **{f'no-sad-{seed}': [0] for seed in plan.SEEDS}}.get(job.name, [0, 1])
        assert [stage.task for stage in stages] == [_TASKS[number] for number in tasks_of]
        for stage in stages:
            task = getattr(tasks, stage.task)(**stage.arguments)
            assert dict(task.hparams).items() >= job.changes.get(stage.task, {}).items()
            PackedDataModule(**stage.data)
    names = [job.name for job in plan.PLAN]
    assert len(set(names)) == len(names)
    assert all(path.partition('/')[0] in names for job in plan.PLAN for path in plan.needed(job))
    with pytest.raises(SpecDMError, match='there is no job x; there are oscd-landcover'):
        plan.chosen(['x'])
    with pytest.raises(SpecDMError, match='a pack serves OSCDPatchesDataModule'):
        plan.read_stages(plan.Job('x', 'train', 'segmunich'), EXAMPLES / 'conf', site, tmp_path)


@pytest.mark.slow
def test_it_needs_no_torchgeo(site: Path, tmp_path: Path) -> None:
    """Both stages of a generator are trained, sampled and measured where none of it is installed."""
    arguments = ['--pack', site / 'pack', '--conf', site / 'conf', '--work', tmp_path, '--out', tmp_path / 'out']
    jobs = ['--only', LAND, f'{LAND}-samples', '--scale', '0.005']
    code = f"""
import sys
sys.modules.update(dict.fromkeys({ABSENT!r}))
sys.path.insert(0, {str(EXAMPLES / 'benchmarks')!r})
import gpu
from torchgeo_specdm.evaluation import quality
quality.has_lite0 = lambda: False
gpu.main(['run', *{[str(part) for part in (*arguments, *jobs)]!r}])
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=600)
    assert not done.returncode, done.stderr
    assert 'exact alignment, mIoU' in result(tmp_path, f'{LAND}-samples')['figures']


@pytest.mark.parametrize('name', slow_but(['oscd'], ['oscd', LAND]))
def test_the_quality_table_of_a_pack_is_that_of_the_original(
    name: str, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(site, tmp_path, '--only', name)
    monkeypatch.setattr(table_script, '_CONF', site / 'conf')
    checkpoint = tmp_path / 'work' / name / 'checkpoint'
    options = ['--n', '12', '--reference-n', '0', '--conditions-n', '0', '--given-n', '0', '--device', 'cpu']
    sources = {
        'pack': ['--pack', site / 'pack'],
        'original': ['--data', site / 'conf' / f'{name}.yaml', '--data.root', site / 'oscd'],
    }
    for source, given in sources.items():
        out = ['--out', tmp_path / f'{source}.json']
        table_script.main([str(word) for word in (checkpoint, *options, *given, *out)])
    rows = {source: json.loads((tmp_path / f'{source}.json').read_text())['rows'] for source in sources}
    assert len(rows['pack']) > 20
    assert rows['pack'] == rows['original']


def test_operations_and_spans_are_counted() -> None:
    device, square = torch.device('cpu'), torch.ones(64, 64)
    denoiser = JointDenoiser(3, 4, widths=(32,), depth=1).eval()

    def block() -> None:
        with torch.no_grad():
            denoiser(torch.zeros(1, 3, 4, 4), torch.zeros(1))
            torch.matmul(square, square)

    once, twice = rates.operations(block), rates.operations(lambda: (block(), block()))
    assert once['rest'] == 2 * 64**3
    # Its first convolution alone: 3 x 3 of 3 channels to 32, at 4 x 4 places
    assert once['denoiser'] > 2 * 3 * 3 * 3 * 32 * 4 * 4
    assert twice == {part: 2 * count for part, count in once.items()}
    assert rates._covered([(0, 2), (5, 6), (1, 3), (1, 2)]) == 4
    start = time.perf_counter()
    busy = rates.kernel_seconds(block, device)
    assert 0 < busy < time.perf_counter() - start
    assert rates.matrix_rate(device, scale=0.01) > 0


def test_the_plan_can_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main(['list'])
    assert capsys.readouterr().out.startswith('oscd-landcover           train         4 min')
