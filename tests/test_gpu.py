"""gpu.py rehearsed in small: its whole plan, what happens when it is stopped or killed, and what comes back."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from tests.data.oscd.data import write_oscd

EXAMPLES = Path(__file__).parents[1] / 'examples'
MODULES = ('gpu', 'gpu_jobs', 'gpu_parts', 'gpu_plan', 'gpu_report', 'gpu_rows', 'gpu_speed', 'gpu_train', 'pack')


@pytest.fixture(scope='module')
def scripts() -> Iterator[SimpleNamespace]:
    """The modules of gpu.py, which lie outside of the package."""
    sys.path.insert(0, str(EXAMPLES / 'benchmarks'))
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})
    sys.path.remove(str(EXAMPLES / 'benchmarks'))


@pytest.fixture(scope='module')
def site(tmp_path_factory: pytest.TempPathFactory, scripts: SimpleNamespace) -> Path:
    """A folder with ``pack``, of a tiny OSCD, and ``conf``, the presets with tiny networks."""
    folder = tmp_path_factory.mktemp('gpu')
    write_oscd(folder / 'oscd', height=48, width=64)
    scripts.pack.main(['--root', str(folder / 'oscd'), '--out', str(folder / 'pack')])
    (folder / 'conf').mkdir()
    for name in ('oscd', 'oscd-landcover'):
        config = yaml.safe_load((EXAMPLES / 'conf' / f'{name}.yaml').read_text())
        first, second = config['stages'][:2]
        config['data']['init_args'] |= {'patch_size': 16, 'overlap': 0.25, 'batch_size': 4, 'num_workers': 0}
        second['data'] = {'init_args': {'batch_size': 4}}
        first['model']['init_args'] |= {'width': [32, 16], 'depth': 1}
        second['model']['init_args'] |= {'widths': [32, 32], 'depth': 1}
        for stage in (first, second):
            stage['trainer']['max_steps'] = 6
        (folder / 'conf' / f'{name}.yaml').write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture(autouse=True)
def one_extractor(scripts: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network of the other one takes longer than all else."""
    monkeypatch.setattr(scripts.gpu_rows, 'has_lite0', lambda: False)


def call(scripts: SimpleNamespace, site: Path, folder: Path, *options: str) -> None:
    """One slice at a hundredth of the time, in ``folder``."""
    given = {'--pack': site / 'pack', '--conf': site / 'conf', '--work': folder / 'work', '--out': folder / 'out'}
    fixed = [str(part) for pair in given.items() for part in pair]
    import time

    scripts.gpu.main(['run', *fixed, '--scale', '0.01', *options], start=time.monotonic())


def test_the_whole_plan(
    scripts: SimpleNamespace, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call(scripts, site, tmp_path)
    assert 'all that is finished is sent' in capsys.readouterr().out
    scripts.gpu.main(['join', '--shards', str(tmp_path / 'out'), '--work', str(tmp_path / 'back')])
    assert 'all of it is in' in capsys.readouterr().out
    scripts.gpu.main(['report', '--work', str(tmp_path / 'back')])
    print(capsys.readouterr().out, file=sys.stderr)
