"""Arrays in HDF5 files, as Landslide4Sense and MATLAB 7.3 store them."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.data.torchgeo.data import write_landslides
from torchgeo_specdm.cli import main
from torchgeo_specdm.datasets import Declared, FolderDataset, SceneDataset
from torchgeo_specdm.datasets.arrays import load_array, open_image, open_mask
from torchgeo_specdm.datasets.splitters import ByPattern
from torchgeo_specdm.errors import RasterError

h5py = pytest.importorskip('h5py')
BANDS = [f'b{number}' for number in range(1, 15)]
DECLARED = Declared(['no landslide', 'landslide'], (0, 3), unit='not declared', band_names=BANDS)
IMAGE = np.arange(12 * 20 * 3, dtype=np.uint16).reshape(12, 20, 3)
MASK = (IMAGE[..., 0] % 7 > 3).astype(np.uint8)


def write(path: Path, matlab: bool = False, **arrays: np.ndarray) -> str:
    """As h5py writes, or as MATLAB does: 512 bytes of its own first, axes in reverse, a class for each array."""
    with h5py.File(path, 'w', userblock_size=512 if matlab else 0) as file:
        for name, values in arrays.items():
            file[name] = values.T if matlab else values
            if matlab:
                file[name].attrs['MATLAB_class'] = np.bytes_(values.dtype.name)
        if matlab:
            file['#refs#/a'] = np.zeros((2, 2))
    if matlab:
        with path.open('r+b') as raw:
            raw.write(b'MATLAB 7.3 MAT-file, Platform: GLNXA64')
    return str(path)


def test_landslide4sense_is_read_without_python(tmp_path: Path) -> None:
    write_landslides(tmp_path)
    dataset = FolderDataset(
        tmp_path, 'img/image_*.h5', 'mask/mask_*.h5', 16, DECLARED, splitter=ByPattern('*', '', ''), overlap=0.5
    )
    assert (len(dataset), dataset.names[1], dataset.spec.dtype) == (8 * 9, '2', 'float64')
    with h5py.File(tmp_path / 'img' / 'image_2.h5') as image, h5py.File(tmp_path / 'mask' / 'mask_2.h5') as mask:
        for place, (row, col) in enumerate([(0, 0), (0, 8), (0, 16), (8, 0)], 9):
            window = np.s_[row : row + 16, col : col + 16]
            assert np.array_equal(dataset[place]['image'], image['img'][window].transpose(2, 0, 1).astype(np.float32))
            assert np.array_equal(dataset[place]['mask'], mask['mask'][window])


@pytest.mark.parametrize('matlab', [False, True])
@pytest.mark.parametrize('suffix', ['.h5', '.hdf5', '.mat'])
def test_any_order_of_axes_is_read_by_windows(tmp_path: Path, suffix: str, matlab: bool) -> None:
    name = write(tmp_path / f'a{suffix}', matlab, last=IMAGE, first=IMAGE.transpose(2, 0, 1), mask=MASK[None])
    mask = open_mask(f'{name}#mask')
    assert np.array_equal(mask.read([0], 2, 3, 5, 6).values[0], MASK[2:7, 3:9])
    for variable in ('first', 'last'):
        image = open_image(f'{name}#{variable}', mask.shape)
        assert (image.shape, len(image.names), image.dtype) == ((12, 20), 3, 'uint16')
        assert np.array_equal(image.read([2, 0], 2, 3, 5, 6).values, IMAGE[2:7, 3:9].transpose(2, 0, 1)[[2, 0]])
    plane = write(tmp_path / f'b{suffix}', matlab, plane=IMAGE[..., 1])
    assert np.array_equal(open_image(plane, mask.shape).read([0], 0, 0, 12, 20).values[0], IMAGE[..., 1])


def test_a_scene_of_groups_is_read(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    mask = random.integers(2, size=(80, 80)).astype(np.int16)
    write(tmp_path / 'scene.h5', **{'data/image': random.random((14, 80, 80)), 'data/labels/mask': mask})
    scene = SceneDataset(tmp_path, 'scene.h5#data/image', 'scene.h5#data/labels/mask', 16, DECLARED)
    row, col = scene.origins[1]
    assert torch.equal(scene[1]['mask'], torch.from_numpy(mask[row : row + 16, col : col + 16]).long())


@pytest.mark.parametrize(
    ('arrays', 'variable', 'message'),
    [
        ({'image': IMAGE, 'mask': MASK}, '', 'has the arrays image, mask: name one'),
        ({'image': IMAGE}, 'gt', 'has the arrays image: name one'),
        ({'names': np.array([[b'a']])}, '', r'has the arrays \(none\)'),
    ],
)
def test_what_a_file_holds_is_said(tmp_path: Path, arrays: dict[str, Any], variable: str, message: str) -> None:
    with pytest.raises(RasterError, match=message):
        load_array(f'{write(tmp_path / "a.h5", **arrays)}#{variable}')


def test_files_that_a_file_points_to_are_not_read(tmp_path: Path) -> None:
    """HDF5 knows links to other files, and arrays whose bytes are those of any file."""
    write(tmp_path / 'other.h5', secret=MASK)
    (tmp_path / 'secret').write_bytes(bytes(range(64)))
    with h5py.File(tmp_path / 'a.h5', 'w') as file:
        file['link'] = h5py.ExternalLink('other.h5', 'secret')
        file.create_dataset('bytes', (8, 8), 'u1', external=[(str(tmp_path / 'secret'), 0, 64)])
        layout = h5py.VirtualLayout((12, 20), 'u1')
        layout[:] = h5py.VirtualSource(str(tmp_path / 'other.h5'), 'secret', (12, 20))
        file.create_virtual_dataset('virtual', layout)
    for variable in ('link', 'bytes', 'virtual'):
        with pytest.raises(RasterError, match=r'has the arrays \(none\)'):
            load_array(f'{tmp_path / "a.h5"}#{variable}')


def test_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / 'a.h5'
    path.write_text('no HDF5')
    with pytest.raises(RasterError, match=r'a.h5 is damaged .*replace the file'):
        load_array(path)
    with h5py.File(path, 'w') as file:
        file.create_dataset('x', data=MASK, compression='gzip', fletcher32=True)
        at = file['x'].id.get_chunk_info(0).byte_offset
    whole = bytearray(path.read_bytes())
    whole[at + 10] ^= 255
    path.write_bytes(whole)
    with pytest.raises(RasterError, match=r'a.h5#x cannot be read'):
        open_mask(str(path)).read([0], 0, 0, 4, 4)


def test_a_library_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_landslides(tmp_path)
    write(tmp_path / 'a.mat', True, x=MASK)
    monkeypatch.setitem(sys.modules, 'h5py', None)
    patterns = ['--image', 'img/image_*.h5', '--mask', 'mask/mask_*.h5', '--out', str(tmp_path / 'a.yaml')]
    assert main(['init', str(tmp_path), *patterns]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith('.h5 is HDF5, for which h5py is not installed: pip install h5py')
    with pytest.raises(RasterError, match='pip install h5py'):
        load_array(tmp_path / 'a.mat')
