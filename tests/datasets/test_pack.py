"""A pack is the dataset that was packed: its samples are the same to the bit."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pack
import pytest
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.transform import from_origin

from tests.conftest import tiny_spec
from tests.data.oscd.data import write_oscd
from tests.fake import FakePairs
from torchgeo_specdm.datamodules import OSCDLandCoverDataModule, OSCDPatchesDataModule, PackedDataModule
from torchgeo_specdm.datasets.pack import Pack, Scene, write_pack
from torchgeo_specdm.datasets.packed import PackedPairs
from torchgeo_specdm.datasets.planes import decode_plane, encode_plane, resample
from torchgeo_specdm.errors import SpecDMError


@pytest.fixture(scope='module')
def oscd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``oscd`` and, of it, ``pack``."""
    folder = tmp_path_factory.mktemp('data')
    write_oscd(folder / 'oscd')
    pack.main(['--root', str(folder / 'oscd'), '--out', str(folder / 'pack'), '--limit', '0.4'])
    return folder


@pytest.mark.parametrize('kind', [OSCDPatchesDataModule, OSCDLandCoverDataModule])
@pytest.mark.parametrize('split', ['train', 'val', 'test'])
def test_a_pack_serves_the_samples_that_were_packed(kind: Any, split: str, oscd: Path) -> None:
    sizes: dict[str, Any] = {'patch_size': 40, 'overlap': 0.3}
    packed = PackedDataModule(oscd / 'pack', land_cover=kind is OSCDLandCoverDataModule, **sizes)
    found = []
    for module in (kind(oscd / 'oscd', **sizes), packed):
        module.setup('test' if split == 'test' else 'fit')
        found.append(getattr(module, f'{split}_dataset'))
    real, ours = found
    assert len(ours) == len(real) > 0
    assert ours.spec == real.spec
    assert ours.windows == list(real.windows)
    for index in range(len(real)):
        for name in ('image', 'mask'):
            assert torch.equal(ours[index][name], real[index][name])
            assert ours[index][name].dtype == real[index][name].dtype
    with pytest.raises(IndexError):
        ours[len(ours)]


def test_bands_of_coarser_pixels_are_stored_as_they_were(oscd: Path) -> None:
    packed = {path: path.stat().st_size for path in (oscd / 'pack').glob('part-*')}
    assert len(packed) > 1
    assert max(packed.values()) < 500_000
    # 16 bits of noise do not compress, and 6 of 10 bands have a quarter of the pixels
    pixels = sum(scene.height * scene.width for scene in Pack.open(oscd / 'pack').scenes.values())
    assert sum(packed.values()) < 2 * pixels * (4 + 6 / 4) * 1.3


def raster(values: NDArray[Any], shape: tuple[int, int], folder: Path) -> NDArray[Any]:
    """What GDAL makes of ``values`` on a grid of that shape."""
    profile = {'driver': 'GTiff', 'dtype': values.dtype, 'count': 1, 'crs': 'EPSG:4326'}
    size = {'height': values.shape[0], 'width': values.shape[1], 'transform': from_origin(2, 48, 1e-4, 1e-4)}
    with rasterio.open(folder / 'band.tif', 'w', **profile, **size) as file:
        file.write(values, 1)
    with rasterio.open(folder / 'band.tif') as file:
        return np.asarray(file.read(1, out_shape=shape, resampling=Resampling.bilinear))


@pytest.mark.parametrize('shape', [(62, 80), (61, 80), (40, 45), (31, 40)])
@pytest.mark.parametrize('kind', [np.uint8, np.uint16])
def test_planes_come_back_as_they_were(shape: tuple[int, int], kind: Any, tmp_path: Path) -> None:
    native = np.random.default_rng(0).integers(np.iinfo(kind).max, size=(31, 40), endpoint=True).astype(kind)
    plane = raster(native, shape, tmp_path)
    # GDAL computes in another order, so that a rounding may fall to the other side
    assert np.abs(resample(native, shape).astype(int) - plane).max() <= 1
    for stored in (encode_plane(plane), encode_plane(plane, native)):
        assert np.array_equal(decode_plane(stored, shape), plane)
        assert decode_plane(stored, shape).dtype == kind
    # Noise does not compress, and the code has some bytes of its own
    assert encode_plane(plane, native)['code'].size < 1.2 * native.nbytes + 200


def test_what_was_not_resampled_so_is_stored_as_it_is() -> None:
    drawn = np.random.default_rng(0)
    plane, other = (drawn.integers(1000, size=size).astype(np.uint16) for size in ((8, 8), (4, 4)))
    stored = encode_plane(plane, other)
    assert set(stored) == {'code'}
    assert np.array_equal(decode_plane(stored, plane.shape), plane)


@pytest.mark.parametrize('task', ['segmentation', 'change'])
def test_any_dataset_of_integers_can_be_packed(task: str, tmp_path: Path) -> None:
    """A dataset of patches is one of small scenes."""
    real = FakePairs(tiny_spec(task))

    def scenes() -> Iterator[Scene]:
        for index in range(len(real)):
            sample = real[index]
            image = sample['image'].numpy().astype(np.uint16)
            split = 'test' if index == 7 else 'train'
            mask = sample['mask'].numpy()
            yield Scene(f'{index}', split, image if task == 'change' else image[None], mask.reshape(mask.shape[-2:]))

    write_pack(tmp_path, scenes(), real.spec)
    module = PackedDataModule(tmp_path, patch_size=16, val_scenes=['6'])
    module.setup('fit')
    module.setup('test')
    splits = (module.train_dataset, module.val_dataset, module.test_dataset)
    served = [dataset[i] for dataset in splits for i in range(len(dataset))]  # type: ignore[arg-type,index]
    assert [len(dataset) for dataset in splits] == [6, 1, 1]  # type: ignore[arg-type]
    for index, sample in enumerate(served):
        assert all(torch.equal(sample[name], real[index][name]) for name in ('image', 'mask'))


def test_refusals(oscd: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecDMError, match='no pack in'):
        PackedDataModule(tmp_path)
    with pytest.raises(SpecDMError, match='rome is no train scene of the pack; it has abudhabi'):
        PackedDataModule(oscd / 'pack', val_scenes=['rome'])
    opened = Pack.open(oscd / 'pack')
    with pytest.raises(SpecDMError, match='OSCD abudhabi: patch_size 200 px is larger'):
        PackedPairs(opened, ['abudhabi'], 200)
    for path in opened.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    copy = Pack.open(tmp_path)
    (tmp_path / 'part-0.safetensors').write_bytes(b'0' * 100)
    with pytest.raises(SpecDMError, match=r'part-0.* is not the file'):
        copy.read(['abudhabi'])
    (tmp_path / 'part-0.safetensors').unlink()
    with pytest.raises(SpecDMError, match=r'part-0.* is missing'):
        copy.read(['abudhabi'])
    (tmp_path / 'pack.json').write_text('{"format": 2}')
    with pytest.raises(SpecDMError, match='pack format 2'):
        Pack.open(tmp_path)
    with pytest.raises(SpecDMError, match='not float32'):
        encode_plane(np.zeros((4, 4), np.float32))
    scene = Scene('a', 'train', np.zeros((1, 1, 4, 4), np.uint16), np.full((4, 4), -1))
    with pytest.raises(SpecDMError, match='the mask of a holds values'):
        write_pack(tmp_path / 'b', [scene], opened.spec)


# What pack.json may be made to say, and what the error says of it
WRONG: dict[str, tuple[Callable[[Any], Any], str]] = {
    'scenes': (lambda told: told.update(scenes=None), 'scenes of .*pack.json is None'),
    'val': (lambda told: told.update(val=[]), 'val of .*pack.json is a list'),
    'a name in val': (lambda told: told.update(val={'mask': [7]}), 'val of .*entry 0 is 7, which is no str'),
    'no part': (lambda told: told.update(sha256=[]), "'abudhabi' with .* is no scene of OSCD"),
    'a word': (lambda told: told['scenes'][0].update(height='x'), "height of .* is 'x', which is no int"),
    'bands': (lambda told: told['scenes'][0].update(bands=10**7), '10000000 bands'),
    'dates': (lambda told: told['scenes'][0].update(dates=10**7), '10000000 dates'),
    'one date': (lambda told: told['scenes'][0].update(dates=1), '1 dates'),
    'below zero': (lambda told: told['scenes'][0].update(width=-4), '-4 px'),
    'twice': (lambda told: told['scenes'].append(told['scenes'][0]), 'two scenes of one name'),
    'another split': (lambda told: told['scenes'][0].update(split='val'), "split of .* is 'val'"),
}


@pytest.mark.parametrize('name', WRONG)
def test_a_description_that_cannot_be_is_refused(name: str, oscd: Path, tmp_path: Path) -> None:
    told = json.loads((oscd / 'pack' / 'pack.json').read_text())
    change, message = WRONG[name]
    change(told)
    (tmp_path / 'pack.json').write_text(json.dumps(told))
    with pytest.raises(SpecDMError, match=message):
        Pack.open(tmp_path)


@pytest.mark.parametrize('size', [31, 33, 10**9])
def test_a_scene_of_another_size_than_it_was_packed_with_is_refused(size: int, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(1000, size=(1, 3, 32, 32)).astype(np.uint16)
    write_pack(tmp_path, [Scene('a', 'train', image, np.zeros((32, 32), np.uint8))], tiny_spec('segmentation'))
    told = json.loads((tmp_path / 'pack.json').read_text())
    told['scenes'][0]['height'] = size
    (tmp_path / 'pack.json').write_text(json.dumps(told))
    with pytest.raises(SpecDMError, match=r'part-0.*a/mask: a plane has'):
        Pack.open(tmp_path).read(['a'])


def test_more_dates_than_were_packed_are_refused(tmp_path: Path) -> None:
    image = np.zeros((1, 3, 8, 8), np.uint16)
    write_pack(tmp_path, [Scene('a', 'train', image, np.zeros((8, 8), np.uint8))], tiny_spec('segmentation'))
    told = json.loads((tmp_path / 'pack.json').read_text())
    told['scenes'][0]['dates'] = 10**9
    (tmp_path / 'pack.json').write_text(json.dumps(told))
    with pytest.raises(SpecDMError, match='holds less than'):
        Pack.open(tmp_path).read(['a'])
