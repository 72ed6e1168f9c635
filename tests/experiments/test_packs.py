"""Experiments on a pack: the numbers of the original rasters to the bit, where none of TorchGeo is installed."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pack
import pytest
import torch

from tests.data.oscd.data import TITLE, write_oscd
from tests.test_layers import ABSENT
from torchgeo_specdm.cli import main
from torchgeo_specdm.datasets.cache_home import VARIABLE, default_home
from torchgeo_specdm.datasets.oscd import oscd_spec
from torchgeo_specdm.datasets.ruled import land_cover_spec
from torchgeo_specdm.downstream import make_model
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.evaluation.cache import fingerprint
from torchgeo_specdm.experiments.data import Data, open_data
from torchgeo_specdm.experiments.toy import write_toy_generator
from torchgeo_specdm.sensors import SPECDM_BANDS

CHANGE = oscd_spec(SPECDM_BANDS, 32)
SPECS = {'change': CHANGE, 'land cover': land_cover_spec(CHANGE, SPECDM_BANDS)}


@pytest.fixture(scope='module')
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``oscd`` and, of it, ``pack``."""
    folder = tmp_path_factory.mktemp('site')
    write_oscd(folder / 'oscd', height=48, width=64)
    pack.main(['--root', str(folder / 'oscd'), '--out', str(folder / 'pack')])
    return folder


def require_same(first: Data, second: Data) -> None:
    """All that a cell is made of."""
    assert first.spec == second.spec
    assert first.count == second.count
    assert torch.equal(first.mean, second.mean)
    assert torch.equal(first.std, second.std)
    pairs: list[tuple[Any, Any, int]] = [
        (getattr(first, name), getattr(second, name), len(getattr(first, name))) for name in ('pool', 'held_out')
    ]
    pairs.append((first.drawn(), second.drawn(), first.count))
    for name in ('val', 'test'):
        ours, theirs = getattr(first, name), getattr(second, name)
        assert ours.names == theirs.names
        pairs.append((ours.samples, theirs.samples, len(ours.names)))
    for ours, theirs, count in pairs:
        assert len(ours) == len(theirs) == count > 0
        # What cells are found by
        assert fingerprint(ours, range(count)) == fingerprint(theirs, range(count))
        for index in range(count):
            for name in ('image', 'mask'):
                assert ours[index][name].dtype == theirs[index][name].dtype
                assert torch.equal(ours[index][name], theirs[index][name])


@pytest.mark.parametrize('kind', SPECS)
@pytest.mark.parametrize(('protocol', 'cities'), [('paper', ()), ('scenes', ('rennes', 'paris'))])
def test_a_pack_has_the_data_of_the_rasters(kind: str, protocol: str, cities: tuple[str, ...], site: Path) -> None:
    packed, original = (open_data(SPECS[kind], site / name, protocol, cities) for name in ('pack', 'oscd'))
    assert type(packed.pool) is not type(original.pool)
    require_same(packed, original)


@pytest.mark.parametrize('kind', SPECS)
def test_a_pack_of_real_cities(kind: str, shared_data: Path, tmp_path: Path) -> None:
    """Of the small ones."""
    for part, cities in {
        'Images': ('bercy', 'rennes', 'norcia'),
        'Train': ('bercy', 'rennes'),
        'Test': ('norcia',),
    }.items():
        name = f'{TITLE} - {part}' if part == 'Images' else f'{TITLE} - {part} Labels'
        (tmp_path / 'oscd' / name).mkdir(parents=True)
        for city in cities:
            (tmp_path / 'oscd' / name / city).symlink_to(shared_data / 'oscd' / name / city)
    pack.main(['--root', str(tmp_path / 'oscd'), '--out', str(tmp_path / 'pack')])
    spec = replace(SPECS[kind], patch_size=128)
    packed, original = (open_data(spec, tmp_path / name, val_cities=('rennes',)) for name in ('pack', 'oscd'))
    require_same(packed, original)


def run_bare(code: str, *call: str) -> None:
    """Run some code, and then ``specdm``, where none of TorchGeo is installed."""
    code = f"""
import sys
sys.modules.update(dict.fromkeys({ABSENT!r}))
from torchgeo_specdm.cli import main
{code}
sys.exit(main({list(call)!r}))
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=600)
    assert not done.returncode, done.stderr


def options(site: Path, root: str, checkpoint: Path, out: Path) -> list[str]:
    fixed = ['--seeds', '0', '--steps', '1', '--batch-size', '2', '--lr', '1e-3', '--device', 'cpu']
    fixed += ['--sampling-steps', '2']
    named = ['--root', str(site / root), '--checkpoint', str(checkpoint), '--out', str(out)]
    return ['experiment', 'augmentation', *named, *fixed, '--model', 'siamcrnn:resnet18']


def cells(out: Path) -> dict[str, Any]:
    """Records by the names of their files, without what they took."""
    return {path.name: json.loads(path.read_text()) | {'seconds': 0} for path in (out / 'cells').glob('*.json')}


# The other models of the paper that need no further library; without memory, as drawing weights takes seconds
_OTHERS = """
import torch
from torchgeo_specdm.downstream import make_model
with torch.device('meta'):
    assert make_model('pfsegnet', 3, 4, backbone='resnet18').eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 4, 64, 64)
    assert make_model('changeformer', 3, 2, version='v3').eval()(torch.zeros(1, 2, 3, 32, 32)).shape == (1, 2, 32, 32)
"""


@pytest.mark.slow
def test_cells_are_the_same_without_torchgeo(site: Path, tmp_path: Path) -> None:
    """So that a cell that was computed in one way is found by the other."""
    checkpoint = write_toy_generator(tmp_path / 'checkpoint', open_data(CHANGE, site / 'oscd'), 0)
    run_bare(_OTHERS, *options(site, 'pack', checkpoint, tmp_path / 'bare'))
    assert main(options(site, 'oscd', checkpoint, tmp_path / 'rasters')) == 0
    bare, original = cells(tmp_path / 'bare'), cells(tmp_path / 'rasters')
    assert len(bare) == 3
    assert bare == original


def test_what_a_pack_cannot_serve_is_said(site: Path, tmp_path: Path) -> None:
    few = oscd_spec(('B02', 'B04'), 32)
    with pytest.raises(SpecDMError, match=r'is a pack of OSCD with the bands B02 B03 .* imitates OSCD with B02 B04'):
        open_data(few, site / 'pack')
    with pytest.raises(SpecDMError, match=r'rome is no train city of the pack .*abudhabi, beirut'):
        open_data(CHANGE, site / 'pack', val_cities=('rome',))
    for path in (site / 'pack').iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    described = json.loads((tmp_path / 'pack.json').read_text())
    (tmp_path / 'pack.json').write_text(json.dumps({**described, 'val': {}}))
    with pytest.raises(SpecDMError, match=r'names no city to validate on: name some of abudhabi, .*--val-cities'):
        open_data(CHANGE, tmp_path)


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'platformdirs', None)
    assert default_home() == Path(os.environ[VARIABLE])
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(SpecDMError, match=r'name a folder in \$SPECDM_CACHE'):
        default_home()
    for name, library in (('segformer', 'segmentation_models_pytorch'), ('changevit', 'torchgeo')):
        monkeypatch.setitem(sys.modules, library, None)
        for module in ('segformer', 'library'):
            monkeypatch.delitem(sys.modules, f'torchgeo_specdm.downstream.{module}', raising=False)
        with pytest.raises(SpecDMError, match=r'needs .* which is not installed'):
            make_model(name, 3, 2)
