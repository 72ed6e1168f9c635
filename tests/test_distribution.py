"""What is released: wheel and sdist are complete, hold nothing else, and work where no clone is."""

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest

import torchgeo_specdm

pytest.importorskip('hatchling', reason="needs hatchling, of the extra 'tests'")
ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'torchgeo_specdm'
# The checkpoints that ship may take 30 MB; an index of packages takes 100 MB
MOST_WHEEL, MOST_SDIST = 31e6, 52e6
SMALL_DEMO = """
import dataclasses
from pathlib import Path
from torchgeo_specdm.demo import run_case
from torchgeo_specdm.demo_cases import CASES, Budget
case = dataclasses.replace(CASES['indian-pines'](None), budget=Budget(4, 5, 0.5, 2, 4, 1))
run_case(case, Path('out'))
"""


def hatch(target: str, source: Path, folder: Path) -> Path:
    """Build in this environment: nothing is downloaded."""
    command = [sys.executable, '-m', 'hatchling', 'build', '-t', target, '-d', str(folder)]
    built = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope='module')
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hatch('sdist', ROOT, tmp_path_factory.mktemp('sdist'))


@pytest.fixture(scope='module')
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made of the sdist, as an installer does that finds no wheel."""
    with tarfile.open(sdist) as tar:
        tar.extractall(folder := tmp_path_factory.mktemp('unpacked'), filter='data')
    (source,) = folder.iterdir()
    return hatch('wheel', source, tmp_path_factory.mktemp('wheel'))


@pytest.fixture(scope='module')
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('installed')
    pip = [sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps', '--no-index', '--target', str(folder)]
    subprocess.run([*pip, str(wheel)], check=True, timeout=300)
    return folder


def run(installed: Path, folder: Path, *arguments: str) -> str:
    """Run Python in ``folder`` with the installed package, which wins over the one that is tested otherwise."""
    environment = os.environ | {'PYTHONPATH': str(installed), 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith('/')}
    about = {name for name in names if '.dist-info/' in name}
    source = {path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob('*') if path.is_file()}
    assert names - about == {name for name in source if '__pycache__' not in name}
    assert {'torchgeo_specdm/py.typed', 'torchgeo_specdm/checkpoints/indian-pines/specdm.json'} < names
    kinds = {PurePosixPath(name).suffix for name in names - about}
    assert kinds <= {'.py', '.typed', '.json', '.safetensors', '.md', ''}, 'other files than code and checkpoints'
    licences = {name.partition('/licenses/')[2] for name in about if '/licenses/' in name}
    shipped = {path.relative_to(ROOT).as_posix() for path in PACKAGE.glob('checkpoints/*/LICENSE')}
    assert licences == {'LICENSE', *shipped}
    assert len(shipped) == len(list(PACKAGE.glob('checkpoints/*/specdm.json')))


def test_the_sdist_holds_what_its_tests_need(sdist: Path) -> None:
    with tarfile.open(sdist) as tar:
        names = {name.partition('/')[2] for name in tar.getnames()}
    wanted = [*ROOT.glob('*.md'), *ROOT.glob('*.toml'), *ROOT.glob('LICENSE'), *ROOT.glob('*.cff')]
    for folder in ('torchgeo_specdm', 'tests', 'docs', 'examples'):
        wanted += [path for path in (ROOT / folder).rglob('*') if path.is_file() and '__pycache__' not in path.parts]
    assert {path.relative_to(ROOT).as_posix() for path in wanted} - names == set()
    strange = re.compile(r'(runs|site|data|lightning_logs)/|.*(\.pyc|\.ckpt|\.tif|\.npy)$')
    assert [name for name in names if strange.match(name)] == []


def test_sizes_are_bounded(wheel: Path, sdist: Path) -> None:
    assert wheel.stat().st_size < MOST_WHEEL
    assert sdist.stat().st_size < MOST_SDIST


def test_the_metadata_says_what_is_declared(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith('.dist-info/METADATA'))
        text = archive.read(name).decode()
    assert f'Version: {torchgeo_specdm.__version__}\n' in text
    assert 'License-Expression: MIT\n' in text
    extras = {'demo', 'docs', 'evaluate', 'hdf5', 'tests', 'all'}
    assert extras == set(re.findall(r'^Provides-Extra: (.*)$', text, re.M))


def test_the_installed_command_runs_outside_of_a_clone(installed: Path, tmp_path: Path) -> None:
    where = run(installed, tmp_path, '-c', 'import torchgeo_specdm; print(torchgeo_specdm.__file__)')
    assert Path(where.strip()).is_relative_to(installed)
    help_text = run(installed, tmp_path, '-m', 'torchgeo_specdm', '--help')
    assert {'fit', 'sample', 'evaluate', 'demo'} < set(re.findall(r'^    (\w+) ', help_text, re.MULTILINE))
    listed = run(installed, tmp_path, str(installed / 'bin' / 'specdm'), 'checkpoints')
    places = dict(re.findall(r'^(\S+)\n    (?:folder   |not here )(.*)$', listed, re.MULTILINE))
    for name in ('indian-pines', 'oscd-landcover'):
        assert places[name].startswith(str(installed / 'torchgeo_specdm' / 'checkpoints' / name))
    # Its licence keeps it out of the package
    assert str(installed) not in places['oscd-change']
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_installed_demo_runs_with_the_checkpoint_that_ships(installed: Path, tmp_path: Path) -> None:
    pytest.importorskip('tensorly.datasets', reason="the scene needs the extra 'demo'")
    assert 'Sampling 2 labelled patches' in run(installed, tmp_path, '-c', SMALL_DEMO)
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['metrics.json', 'report.html']
