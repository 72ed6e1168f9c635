from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from matplotlib import pyplot as plt
from scipy.io import savemat

from tests.rasters import NAMES, WAVELENGTHS, scene, write_tif
from torchgeo_specdm.datasets import Declared, SceneDataset
from torchgeo_specdm.datasets.areas import Area, AreaSplitter, Blocks
from torchgeo_specdm.datasets.ground import ground, overlapping
from torchgeo_specdm.datasets.splitters import SPLITS
from torchgeo_specdm.errors import RasterError, SpecDMError

DECLARED = Declared(classes=['soil', 'crop', 'water'], value_range=(0.0, 5000.0), name='valley')
SIZE = (100, 123)


class Halves(AreaSplitter):
    """Of a third party: one method."""

    def areas(self, height: int, width: int, patch_size: int, count: Any) -> dict[str, list[Area]]:
        half = height // 2
        return {'train': [Area(0, 0, half, width)], 'val': [Area(half, 0, height - half, width)]}


def write(root: Path, size: tuple[int, int] = SIZE, **about: Any) -> tuple[np.ndarray, np.ndarray]:
    image, mask = scene(*size)
    defaults = {'names': NAMES, 'wavelengths': WAVELENGTHS, 'unit': 'reflectance x 10000'}
    write_tif(root / 'image.tif', image, **(defaults | about))
    write_tif(root / 'mask.tif', mask[None])
    return image, mask


def opened(root: Path, declared: Declared = DECLARED, **arguments: Any) -> SceneDataset:
    return SceneDataset(
        root, declared=declared, **({'image': 'image.tif', 'mask': 'mask.tif', 'patch_size': 16} | arguments)
    )


def painted(dataset: SceneDataset, size: tuple[int, int] = SIZE) -> np.ndarray:
    pixels = np.zeros(size, bool)
    for row, col in dataset.origins:
        pixels[row : row + dataset.patch_size, col : col + dataset.patch_size] = True
    return pixels


@pytest.mark.parametrize('gap', [0, 5])
@pytest.mark.parametrize('overlap', [0.0, 0.75])
def test_splits_are_apart_by_the_gap(tmp_path: Path, gap: int, overlap: float) -> None:
    write(tmp_path)
    datasets = [opened(tmp_path, split=split, splitter=Blocks(gap=gap), overlap=overlap) for split in SPLITS]
    for first, second in combinations(datasets, 2):
        assert not overlapping(ground(first), ground(second), 16).any()
        a, b = (np.argwhere(painted(dataset)) for dataset in (first, second))
        # Chebyshev distance of the nearest pixels; 1 where they touch
        nearest = min(np.abs(b - pixel).max(1).min() for pixel in a)
        assert nearest > gap


@pytest.mark.parametrize('split', SPLITS)
def test_patches_are_the_scene_and_cover_their_areas(tmp_path: Path, split: str) -> None:
    image, mask = write(tmp_path)
    dataset = opened(tmp_path, split=split)
    times = np.zeros(SIZE, int)
    for sample, (row, col) in zip((dataset[i] for i in range(len(dataset))), dataset.origins, strict=True):
        window = (slice(row, row + 16), slice(col, col + 16))
        labelled = sample['mask'].numpy() != 255
        assert np.array_equal(sample['image'], image[:, *window])
        assert np.array_equal(sample['mask'].numpy()[labelled], mask[window][labelled])
        times[window] += labelled
    assert (times[painted(dataset)] == 1).all() or split == 'train'
    area = np.zeros(SIZE, bool)
    for row, col, height, width in dataset.areas:
        area[row : row + height, col : col + width] = True
    assert np.array_equal(area, painted(dataset))
    assert list(dataset.class_counts().values()) == np.bincount(mask[area], minlength=3).tolist()


def test_each_class_is_in_each_split_where_it_can_be(tmp_path: Path) -> None:
    _, mask = write(tmp_path)
    mask[:] = 0
    # One class in the north, one in the west: of all deals, only some have both in train and test
    mask[:20, ::2] = 1
    mask[::2, :20] = 2
    write_tif(tmp_path / 'mask.tif', mask[None])
    for split in ('train', 'test'):
        assert min(opened(tmp_path, split=split, splitter=Blocks(0.2, 0.3)).class_counts().values()) > 0


def test_blocks_without_labels_are_left_out(tmp_path: Path) -> None:
    _, mask = write(tmp_path)
    mask[:, 60:] = 9
    write_tif(tmp_path / 'mask.tif', mask[None])
    declared = replace(DECLARED, ignore=[9])
    for split in SPLITS:
        assert all(area.col < 60 for area in opened(tmp_path, declared, split=split).areas)


def test_a_seed_is_a_deal(tmp_path: Path) -> None:
    write(tmp_path)
    first, again, other = (opened(tmp_path, splitter=Blocks(seed=seed)).origins for seed in (0, 0, 1))
    assert first == again != other
    halves = opened(tmp_path, splitter=Halves(), split='val')
    assert min(row for row, _ in halves.origins) == 50
    with pytest.raises(SpecDMError, match='split test'):
        opened(tmp_path, splitter=Halves(), split='test')


def write_envi(root: Path, unit: str) -> np.ndarray:
    """An ENVI file of six bands with wavelengths in its header."""
    image, mask = scene(*SIZE, bands=6)
    about = {'driver': 'ENVI', 'count': 6, 'height': SIZE[0], 'width': SIZE[1], 'dtype': 'uint16'}
    root.mkdir(parents=True, exist_ok=True)
    with rasterio.open(root / 'image.img', 'w', **about) as file:
        file.write(image)
    centres = [0.45, 0.55, 0.65, 1.4, 1.6, 2.2] if unit == 'Micrometers' else [450, 550, 650, 1400, 1600, 2200]
    header = (root / 'image.hdr').read_text()
    header = '\n'.join(line for line in header.splitlines() if not line.startswith(('band names', 'Band ')))
    text = f'wavelength units = {unit}\nwavelength = {{{", ".join(map(str, centres))}}}\n'
    (root / 'image.hdr').write_text(f'{header}\n{text}')
    np.save(root / 'mask.npy', mask)
    return image


@pytest.mark.parametrize('unit', ['Nanometers', 'Micrometers'])
@pytest.mark.parametrize('listed', ['NO', 'EMPTY_DIR'], ids=['', 'as in TorchGeos command line'])
def test_wavelengths_of_an_envi_header_reach_the_spec(
    tmp_path: Path, unit: str, listed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = write_envi(tmp_path, unit)
    monkeypatch.setenv('GDAL_DISABLE_READDIR_ON_OPEN', listed)
    declared = replace(DECLARED, unit='reflectance x 10000', exclude=[(1340, 1460)])
    dataset = opened(tmp_path, declared, image='image.img', mask='mask.npy')
    assert dataset.spec.wavelengths == (450, 550, 650, 1600, 2200)
    row, col = dataset.origins[3]
    assert np.array_equal(dataset[3]['image'], image[[0, 1, 2, 4, 5], row : row + 16, col : col + 16])


@pytest.mark.parametrize('first', [True, False], ids=['bands first', 'bands last'])
@pytest.mark.parametrize('kind', ['npy', 'mat'])
def test_arrays_are_scenes(tmp_path: Path, kind: str, first: bool) -> None:
    image, mask = scene(*SIZE)
    stored = image if first else np.moveaxis(image, 0, 2)
    names = {'image': f'image.{kind}', 'mask': f'mask.{kind}'}
    if kind == 'npy':
        np.save(tmp_path / 'image.npy', stored)
        np.save(tmp_path / 'mask.npy', mask)
    else:
        savemat(tmp_path / 'image.mat', {'cube': stored, 'other': np.eye(3)})
        savemat(tmp_path / 'mask.mat', {'gt': mask})
        names['image'] += '#cube'
    declared = replace(DECLARED, unit='counts', band_names=list(NAMES), wavelengths=list(WAVELENGTHS))
    dataset = opened(tmp_path, declared, **names)
    row, col = dataset.origins[-1]
    assert np.array_equal(dataset[len(dataset) - 1]['image'], image[:, row : row + 16, col : col + 16])
    assert dataset.spec.wavelengths == WAVELENGTHS


def test_two_dates_are_change_detection(tmp_path: Path) -> None:
    image, mask = write(tmp_path)
    write_tif(tmp_path / 'later.tif', image + 1, names=NAMES, wavelengths=WAVELENGTHS, unit='reflectance x 10000')
    write_tif(tmp_path / 'mask.tif', (mask > 1).astype(np.uint8)[None])
    declared = replace(DECLARED, classes=['no change', 'change'])
    dataset = opened(tmp_path, declared, later_image='later.tif', split='val')
    for index in range(len(dataset)):
        sample = dataset[index]
        assert (sample['image'].shape, sample['mask'].shape) == (dataset.spec.image_shape, dataset.spec.mask_shape)
        assert sample['mask'].max() <= 1
        assert torch.equal(sample['image'][1], sample['image'][0] + 1)
    plt.close(dataset.plot(sample))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'image': 'absent.tif'}, 'absent.tif is missing'),
        ({'split': 'all'}, 'train, val, test'),
        ({'patch_size': 101}, r'mask.tif: patch_size 101 px is larger than the scene of 100 x 123 px'),
        ({'patch_size': 64}, r'has 1 blocks with labels of 100 x 123 px, too few for train, val and test'),
        ({'patch_size': 'large'}, 'number of pixels or auto'),
        ({'overlap': 1.0}, 'overlap'),
        ({'min_labelled': 1.1}, 'has enough labels'),
    ],
)
def test_bad_arguments(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    write(tmp_path)
    with pytest.raises(SpecDMError, match=message):
        opened(tmp_path, **arguments)
    with pytest.raises(SpecDMError, match='leave something for train'):
        Blocks(0.5, 0.5)


def test_a_real_scene(shared_data: Path, tmp_path: Path) -> None:
    """Sentinel-2 over Slovenia, 101 x 100 px; the mask's classes have no names."""
    folder = shared_data / 'eolearn_s2_lulc'
    mask = next(folder.rglob('LULC.npy'), None)
    if mask is None:
        pytest.skip('the scene is not there')
    dates = np.load(folder / 'REFERENCE_SCENES.npy')
    np.save(tmp_path / 'image.npy', dates[0])
    np.save(tmp_path / 'mask.npy', np.load(mask))
    declared = Declared(
        classes={value: f'class {value}' for value in (1, 2, 3, 4, 8)},
        ignore=[0],
        value_range=(0.0, 1.0),
        unit='reflectance',
        band_names=[f'b{number}' for number in range(13)],
    )
    datasets = [
        SceneDataset(tmp_path, 'image.npy', 'mask.npy', 'auto', declared, split=split, overlap=0.5) for split in SPLITS
    ]
    assert {dataset.patch_size for dataset in datasets} == {32}
    assert not any((painted(a, (101, 100)) & painted(b, (101, 100))).any() for a, b in combinations(datasets, 2))
    assert sum(datasets[0].class_counts().values()) > 2000
    sample = datasets[0][0]
    assert 0 <= sample['image'].min() <= sample['image'].max() < 1


def test_the_mask_must_fit(tmp_path: Path) -> None:
    write(tmp_path)
    write_tif(tmp_path / 'mask.tif', np.zeros((1, 16, 16), np.uint8))
    with pytest.raises(RasterError, match='and its mask'):
        opened(tmp_path)


@pytest.mark.parametrize(
    ('image', 'mask', 'message'),
    [
        ((16, 16, 16), (16, 16), 'which fit both ways: store it as GeoTIFF'),
        ((3, 16, 17), (16, 16), 'which fit in no way'),
        ((5, 16, 16, 3), (16, 16), 'which fit in no way'),
        ((3, 16, 16), (2, 16, 16), 'a mask has two axes'),
    ],
)
def test_arrays_must_fit(tmp_path: Path, image: tuple[int, ...], mask: tuple[int, ...], message: str) -> None:
    np.save(tmp_path / 'image.npy', np.zeros(image))
    np.save(tmp_path / 'mask.npy', np.zeros(mask, np.uint8))
    with pytest.raises(RasterError, match=message):
        opened(tmp_path, image='image.npy', mask='mask.npy')


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    write(tmp_path)
    np.save(tmp_path / 'image.npy', np.array([{}], object), allow_pickle=True)
    with pytest.raises(RasterError, match='damaged or holds objects'):
        opened(tmp_path, image='image.npy')
