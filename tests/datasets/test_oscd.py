"""OSCD in patches, on fake files of both releases and, where they are, on the real ones."""

import pickle
import re
import shutil
from pathlib import Path

import kornia.augmentation as K
import matplotlib.pyplot as plt
import numpy as np
import pytest
import rasterio
import torch
import torchgeo.datasets
from PIL import Image
from rasterio.enums import Resampling
from torchgeo.datasets import DatasetNotFoundError, RGBBandsMissingError

from tests.data.oscd.data import TEST_CITIES, TITLE, TRAIN_CITIES, write_oscd
from torchgeo_specdm.datasets import oscd_files
from torchgeo_specdm.datasets.oscd import OSCD
from torchgeo_specdm.errors import RasterError, SpecDMError
from torchgeo_specdm.sensors import SPECDM_BANDS


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('oscd')
    write_oscd(folder)
    return folder


@pytest.fixture
def broken(root: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(root, tmp_path / 'oscd'))


def scenes(root: Path, split: str = 'train', **arguments: object) -> OSCD:
    return OSCD(root, split, patch_size=None, **arguments)  # type: ignore[arg-type]


def image_file(root: Path, city: str, date: int, band: str) -> Path:
    return next((root / f'{TITLE} - Images' / city / f'imgs_{date}').glob(f'*{band}.tif'))


def mask_file(root: Path, city: str) -> Path:
    return root / f'{TITLE} - Train Labels' / city / 'cm' / 'cm.png'


def test_sample_has_the_shapes_and_types_of_the_contract(root: Path) -> None:
    dataset = OSCD(root, patch_size=32)
    sample = dataset[0]
    assert set(sample) == {'image', 'mask'}
    assert (sample['image'].dtype, sample['mask'].dtype) == (torch.float32, torch.int64)
    assert tuple(sample['image'].shape) == dataset.spec.image_shape == (2, 10, 32, 32)
    assert tuple(sample['mask'].shape) == dataset.spec.mask_shape == (1, 32, 32)
    assert dataset.spec.bands == SPECDM_BANDS
    assert dataset.spec.wavelengths is not None
    assert dataset.spec.wavelengths[3] == 832.8


def test_splits_hold_their_cities_once_and_in_order(root: Path) -> None:
    val = ('pisa', 'abudhabi')
    train, held, test = (OSCD(root, split, patch_size=32, val_cities=val) for split in ('train', 'val', 'test'))
    assert [scene.region for scene in train.files] == sorted(set(TRAIN_CITIES) - set(val))
    assert [scene.region for scene in held.files] == sorted(val)
    assert [scene.region for scene in test.files] == sorted(TEST_CITIES)
    assert [scene.region for scene in OSCD(root, patch_size=32).files] == sorted(TRAIN_CITIES)
    assert train.windows == sorted(train.windows)
    assert len(train) == len(train.windows) == 3 * 3 * 4


def test_patches_are_windows_of_the_scene_in_the_bands_asked_for(root: Path) -> None:
    whole, patches = scenes(root), OSCD(root, bands=('B12', 'B02', 'B01'), patch_size=48, overlap=0.5)
    order = [SPECDM_BANDS.index(band) for band in ('B12', 'B02')]
    for sample, (scene, row, col) in zip((patches[i] for i in range(len(patches))), patches.windows, strict=True):
        expected = whole[scene]
        torch.testing.assert_close(
            sample['image'][:, :2], expected['image'][:, order, row : row + 48, col : col + 48], rtol=0, atol=0
        )
        assert torch.equal(sample['mask'], expected['mask'][..., row : row + 48, col : col + 48])


def test_masks_say_change_whatever_their_colours_and_noise(root: Path) -> None:
    for scene, sample in zip(scenes(root).files, scenes(root), strict=False):
        with rasterio.open(scene.mask.with_name(f'{scene.region}-cm.tif')) as raster:
            assert np.array_equal(sample['mask'][0].numpy(), raster.read(1) == 2)
    assert {Image.open(mask_file(root, city)).mode for city in TRAIN_CITIES} == {'L', 'RGB', 'RGBA'}


def test_native_bands_are_resampled_to_the_mask_and_nothing_else(root: Path) -> None:
    sample = scenes(root, bands=('B02', 'B11'))[0]
    with rasterio.open(image_file(root, 'abudhabi', 1, 'B02')) as raster:
        assert np.array_equal(sample['image'][0, 0].numpy(), raster.read(1))
    for date in (1, 2):
        with rasterio.open(image_file(root, 'abudhabi', date, 'B11')) as raster:
            expected = raster.read(1, out_shape=sample['mask'].shape[1:], resampling=Resampling.bilinear)
        assert np.array_equal(sample['image'][date - 1, 1].numpy(), expected)
    changed = sample['mask'][0] == 1
    rise = sample['image'][1] - sample['image'][0]
    assert rise[:, changed].mean() - rise[:, ~changed].mean() > 600


def test_registered_release_agrees_with_torchgeo(tmp_path: Path) -> None:
    write_oscd(tmp_path, registered=True)
    ours = scenes(tmp_path, bands=OSCD.all_bands)
    theirs = torchgeo.datasets.OSCD(tmp_path, bands=OSCD.all_bands)
    assert len(ours) == len(theirs)
    samples = {file['region']: theirs[index] for index, file in enumerate(theirs.files)}
    for index, scene in enumerate(ours.files):
        assert torch.equal(ours[index]['image'], samples[scene.region]['image'])
    # TorchGeo takes every non-zero grey for change, so only the clean masks agree
    assert torch.equal(ours[0]['mask'], samples['abudhabi']['mask'])


def test_a_scene_is_decoded_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    original = oscd_files.read_band
    monkeypatch.setattr('torchgeo_specdm.datasets.oscd.read_band', lambda *a: read.append(a) or original(*a))
    dataset = OSCD(root, patch_size=32, bands=('B02', 'B03'))
    assert not read
    for _ in range(2):
        for index in range(len(dataset)):
            dataset[index]
    assert len(read) == len(set(read)) == 2 * 2 * len(TRAIN_CITIES)


def test_pickling_leaves_the_pixels_behind(root: Path) -> None:
    dataset = OSCD(root, patch_size=32)
    first = dataset[0]['image']
    copy = pickle.loads(pickle.dumps(dataset))  # noqa: S301
    assert copy._images == {}
    assert torch.equal(copy[0]['image'], first)
    assert dataset._images


def test_transforms_see_a_batch_of_one_as_in_torchgeo(root: Path) -> None:
    crop = K.AugmentationSequential(K.VideoSequential(K.CenterCrop(16)), data_keys=None, keepdim=True)
    plain, cropped = OSCD(root, patch_size=32)[5], OSCD(root, patch_size=32, transforms=crop)[5]
    assert tuple(cropped['mask'].shape) == (1, 16, 16)
    torch.testing.assert_close(cropped['image'], plain['image'][..., 8:24, 8:24])
    assert torch.equal(cropped['mask'].long(), plain['mask'][..., 8:24, 8:24])


def test_plot_shows_the_prediction_and_needs_the_visible_bands(root: Path) -> None:
    dataset = OSCD(root, patch_size=32)
    sample = dataset[0]
    assert len(dataset.plot(sample, suptitle='a').axes) == 3
    assert len(dataset.plot(sample | {'prediction': sample['mask']}, show_titles=False).axes) == 4
    with pytest.raises(RGBBandsMissingError):
        OSCD(root, bands=('B08',), patch_size=32).plot(sample)
    plt.close('all')


def test_whole_scenes_have_no_spec(root: Path) -> None:
    with pytest.raises(SpecDMError, match='choose a patch_size'):
        _ = scenes(root).spec


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ({'split': 'valid'}, "no split 'valid'; choose from train, val, test"),
        ({'bands': ('B02', 'B8')}, "no band 'B8'; choose from B01, B02"),
        ({'bands': ()}, 'at least one band'),
        ({'val_cities': ('pisa', 'brasilia')}, "no train city 'brasilia'; choose from abudhabi"),
        ({'val_cities': TRAIN_CITIES}, 'no train city in'),
        ({'split': 'val'}, 'no val city in'),
        ({'patch_size': 97}, 'OSCD abudhabi: patch_size 97 px is larger than the scene of 96 x 112 px'),
        ({'overlap': 1.5}, 'overlap is 1.5'),
    ],
)
def test_arguments_that_cannot_work_are_refused(root: Path, arguments: dict[str, object], words: str) -> None:
    with pytest.raises(SpecDMError, match=re.escape(words)):
        OSCD(root, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize('nested', [False, True])
def test_missing_root(root: Path, tmp_path: Path, nested: bool) -> None:
    with pytest.raises(DatasetNotFoundError, match='root='):
        OSCD(root.parent if nested else tmp_path / 'nowhere')


@pytest.mark.parametrize(
    ('lost', 'found_missing'),
    [
        (f'{TITLE} - Train Labels', 'Train Labels is missing'),
        (f'{TITLE} - Images', 'Images is missing'),
        (f'{TITLE} - Images/paris', 'paris/imgs_1 is missing'),
        (f'{TITLE} - Images/paris/imgs_2', 'paris/imgs_2 is missing'),
        (f'{TITLE} - Train Labels/paris', 'paris/cm/cm.png is missing'),
    ],
)
def test_half_extracted_dataset_names_what_is_missing(broken: Path, lost: str, found_missing: str) -> None:
    shutil.rmtree(broken / lost)
    with pytest.raises(SpecDMError, match=f'{found_missing}.*extract'):
        OSCD(broken, patch_size=32)


def test_missing_band_is_named(broken: Path) -> None:
    image_file(broken, 'pisa', 2, 'B05').unlink()
    with pytest.raises(RasterError, match=r'pisa/imgs_2 holds 0 rasters \*B05\.tif'):
        OSCD(broken, patch_size=32)
    assert len(OSCD(broken, bands=('B02',), patch_size=32))


def test_damaged_archive(tmp_path: Path) -> None:
    (tmp_path / f'{TITLE} - Images.zip').write_bytes(b'PK\x03\x04 and no more')
    with pytest.raises(SpecDMError, match=r'Images\.zip is damaged'):
        OSCD(tmp_path)


def test_archives_are_extracted(root: Path, tmp_path: Path) -> None:
    for part in ('Images', 'Train Labels'):
        shutil.make_archive(str(tmp_path / f'{TITLE} - {part}'), 'zip', root, f'{TITLE} - {part}')
    assert torch.equal(OSCD(tmp_path, patch_size=32)[3]['image'], OSCD(root, patch_size=32)[3]['image'])


@pytest.mark.parametrize('content', [b'', b'not a raster'])
def test_unreadable_rasters_are_named_at_once(broken: Path, content: bytes) -> None:
    band = image_file(broken, 'pisa', 1, 'B11')
    band.write_bytes(content)
    with pytest.raises(RasterError, match=f'{band.name} cannot be read'):
        OSCD(broken, patch_size=32)
    mask_file(broken, 'pisa').write_bytes(content)
    with pytest.raises(RasterError, match=r'pisa/cm/cm\.png is missing or cannot be read'):
        OSCD(broken, patch_size=32)


def test_truncated_rasters_are_named(broken: Path) -> None:
    band = image_file(broken, 'pisa', 1, 'B02')
    band.write_bytes(band.read_bytes()[:-4000])
    with pytest.raises(RasterError, match=f'{band.name} cannot be read'):
        list(OSCD(broken, patch_size=32))
    mask = mask_file(broken, 'beirut')
    mask.write_bytes(mask.read_bytes()[:-40])
    with pytest.raises(RasterError, match=r'beirut/cm/cm\.png is missing or cannot be read'):
        OSCD(broken, patch_size=32)


def test_raster_of_the_wrong_size_is_named(broken: Path) -> None:
    small, fine = (image_file(broken, 'pisa', 1, band) for band in ('B11', 'B02'))
    small.write_bytes(image_file(broken, 'pisa', 1, 'B01').read_bytes())
    with pytest.raises(RasterError, match=f'{small.name} has 1 band.* 16 x 19 px instead of one of 48 x 56 px'):
        OSCD(broken, patch_size=32)
    Image.fromarray(np.zeros((90, 112), np.uint8)).save(mask_file(broken, 'pisa'))
    with pytest.raises(RasterError, match=f'{fine.name} has 1 band.* 96 x 112 px instead of one of 90 x 112 px'):
        OSCD(broken, patch_size=32)


@pytest.mark.parametrize(
    ('split', 'cities', 'pixels', 'changed'), [('train', 14, 6_517_578, 149_190), ('test', 10, 3_077_936, 159_077)]
)
def test_real_masks_count_what_was_published(
    shared_data: Path, split: str, cities: int, pixels: int, changed: int
) -> None:
    masks = [sample['mask'] for sample in scenes(shared_data / 'oscd', split, bands=('B02',))]
    assert len(masks) == cities
    assert sum(mask.numel() for mask in masks) == pixels
    assert sum(int(mask.sum()) for mask in masks) == changed


def test_real_patches_cover_the_val_cities(shared_data: Path) -> None:
    patches = OSCD(shared_data / 'oscd', 'val', patch_size=256, val_cities=('pisa', 'abudhabi', 'rennes'))
    assert [scene.region for scene in patches.files] == ['abudhabi', 'pisa', 'rennes']
    covered = [np.zeros(mask.shape, bool) for mask in patches.masks]
    for scene, row, col in patches.windows:
        covered[scene][row : row + 256, col : col + 256] = True
    assert all(mask.all() for mask in covered)
    image = patches[len(patches) - 1]['image']
    assert image.shape == (2, 10, 256, 256)
    assert 300 < image.mean() < 5000
