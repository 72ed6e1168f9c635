from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from tests.rasters import NAMES, WAVELENGTHS, scene, write_folder, write_netcdf, write_tif
from torchgeo_specdm.datasets import Declared, FolderDataset
from torchgeo_specdm.datasets.ground import ground, overlapping
from torchgeo_specdm.datasets.splitters import SPLITS, ByList, ByPattern, BySeed, Splitter
from torchgeo_specdm.errors import RasterError, SpecDMError

DECLARED = Declared(classes=['soil', 'crop', 'water'], value_range=(0.0, 5000.0), name='fields')
SIZES = [(16, 16), (20, 33), (16, 40), (37, 19), (16, 16), (24, 24), (16, 16), (18, 18)]


class AllTrain(Splitter):
    """Of a third party: one method."""

    def assign(self, names: Any, root: Path) -> list[str | None]:
        return ['train' for _ in names]


def folder(root: Path, declared: Declared = DECLARED, **arguments: Any) -> FolderDataset:
    given = {'image': 'image/*.tif', 'mask': 'mask/*.tif', 'patch_size': 16, 'splitter': AllTrain()} | arguments
    return FolderDataset(root, declared=declared, **given)


@pytest.mark.parametrize('overlap', [0.0, 0.5])
def test_every_pixel_is_in_a_patch_and_as_it_was_written(tmp_path: Path, overlap: float) -> None:
    scenes = write_folder(tmp_path, SIZES)
    dataset = folder(tmp_path, overlap=overlap)
    seen = [np.zeros(mask.shape, bool) for _, mask in scenes]
    for sample, (place, row, col) in zip((dataset[i] for i in range(len(dataset))), dataset.windows, strict=True):
        image, mask = scenes[place]
        window = (slice(row, row + 16), slice(col, col + 16))
        assert set(sample) == {'image', 'mask'}
        assert (sample['image'].dtype, sample['mask'].dtype) == (torch.float32, torch.int64)
        assert np.array_equal(sample['image'], image[:, *window])
        assert np.array_equal(sample['mask'], mask[window])
        seen[place][window] = True
    assert all(pixels.all() for pixels in seen)


def test_the_spec_is_what_the_files_say(tmp_path: Path) -> None:
    write_folder(tmp_path, SIZES)
    spec = folder(tmp_path).spec
    assert (spec.bands, spec.wavelengths) == (NAMES, WAVELENGTHS)
    assert (spec.unit, spec.dtype, spec.gsd) == ('reflectance x 10000', 'uint16', 10.0)
    assert (spec.task, spec.ignore_index, spec.name) == ('segmentation', 255, 'fields')


def test_a_scaled_raster_reads_back_in_its_unit(tmp_path: Path) -> None:
    ((image, _),) = write_folder(tmp_path, [(16, 16)], unit='surface reflectance', scale=1e-4, offset=-0.1)
    dataset = folder(tmp_path)
    np.testing.assert_allclose(dataset[0]['image'], image * 1e-4 - 0.1, atol=1e-6)
    assert (dataset.spec.unit, dataset.spec.dtype) == ('surface reflectance', 'float32')


@pytest.mark.parametrize('blank', [-9999.0, float('nan')])
def test_no_nodata_pixel_has_a_label_or_a_value(tmp_path: Path, blank: float) -> None:
    image, mask = scene(16, 16)
    image = image.astype(np.float32)
    image[1, 2:5, 3] = blank
    image[0, 0, 0] = np.inf
    mask[8, 8] = 77
    write_tif(tmp_path / 'image' / 'a.tif', image, names=NAMES, unit='DN', nodata=blank)
    write_tif(tmp_path / 'mask' / 'a.tif', mask[None], nodata=77)
    sample = folder(tmp_path)[0]
    ignored = torch.zeros(16, 16, dtype=torch.bool)
    ignored[2:5, 3] = ignored[0, 0] = ignored[8, 8] = True
    assert torch.equal(sample['mask'] == 255, ignored)
    assert torch.equal(
        sample['image'][1] == 0,
        torch.from_numpy(image[1] == image[1][2, 3]) | ~torch.isfinite(torch.from_numpy(image[1])),
    )
    assert sample['image'].isfinite().all()


def test_classes_have_the_codes_that_are_declared(tmp_path: Path) -> None:
    ((_, mask),) = write_folder(tmp_path, [(16, 16)])
    write_tif(tmp_path / 'mask' / 'a0.tif', (mask * 10)[None], nodata=0)
    found = folder(tmp_path, replace(DECLARED, classes={20: 'water', 0: 'soil'}, ignore=[10]))[0]['mask'].numpy()
    # What is declared a class is one, though the tag says nodata
    assert np.array_equal(found, np.array([1, 255, 0])[mask])
    with pytest.raises(RasterError, match=r'a0.tif holds 20, which is neither among the classes nor ignored'):
        folder(tmp_path, replace(DECLARED, classes={10: 'crop', 0: 'soil'}))[0]


@pytest.mark.parametrize('bands', [['nir', 'red'], [842, 670.0], ['nir', 665]])
def test_bands_are_chosen_by_name_or_wavelength(tmp_path: Path, bands: list[Any]) -> None:
    ((image, _),) = write_folder(tmp_path, [(16, 16)])
    dataset = folder(tmp_path, replace(DECLARED, bands=bands))
    assert np.array_equal(dataset[0]['image'], image[[3, 2]])
    assert (dataset.spec.bands, dataset.spec.wavelengths) == (('nir', 'red'), (842.0, 665.0))
    assert folder(tmp_path, replace(DECLARED, exclude=[(500, 700)])).spec.bands == ('blue', 'nir')


def test_two_dates_are_change_detection(tmp_path: Path) -> None:
    ((image, mask),) = write_folder(tmp_path, [(16, 24)])
    write_tif(
        tmp_path / 'later' / 'a0.tif', image + 1, names=NAMES, wavelengths=WAVELENGTHS, unit='reflectance x 10000'
    )
    write_tif(tmp_path / 'mask' / 'a0.tif', (mask > 1).astype(np.uint8)[None])
    dataset = folder(tmp_path, replace(DECLARED, classes=['no change', 'change']), later_image='later/*.tif')
    sample = dataset[0]
    assert (sample['image'].shape, sample['mask'].shape) == (dataset.spec.image_shape, dataset.spec.mask_shape)
    assert torch.equal(sample['image'][1], sample['image'][0] + 1)
    plt.close(dataset.plot(sample))


def test_netcdf_has_its_bands_as_variables_or_as_an_axis(tmp_path: Path) -> None:
    image, mask = scene(16, 16)
    write_netcdf(tmp_path / 'many' / 'a.nc', **dict(zip(NAMES, image, strict=True)), label=mask)
    write_netcdf(tmp_path / 'one' / 'a.nc', refl=image)
    write_tif(tmp_path / 'one' / 'a.tif', mask[None])
    many = folder(tmp_path, replace(DECLARED, bands=NAMES), image='many/*.nc', mask='many/*.nc#label')
    one = folder(tmp_path, image='one/*.nc', mask='one/*.tif')
    for dataset in (many, one):
        np.testing.assert_allclose(dataset[0]['image'], image * 1e-4, atol=1e-6)
        assert np.array_equal(dataset[0]['mask'], mask)
        assert dataset.spec.unit == 'reflectance'
    assert (many.spec.bands, one.spec.wavelengths) == (NAMES, WAVELENGTHS)
    with pytest.raises(RasterError, match=r"no variable 'labels'; it has blue, green, red, nir, label"):
        folder(tmp_path, image='many/*.nc', mask='many/*.nc#labels')


def write_lists(root: Path) -> None:
    (root / 'train.txt').write_text('a0\na2\na4\n')
    (root / 'val.txt').write_text('a1\n\n')
    (root / 'test.txt').write_text('a3')


@pytest.mark.parametrize(
    'splitter',
    [BySeed(0.25, 0.25), ByList(test='test.txt'), ByPattern('a[0-3]', 'a[45]', 'a6')],
    ids=['seed', 'list', 'pattern'],
)
def test_splits_share_no_ground(tmp_path: Path, splitter: Splitter) -> None:
    write_folder(tmp_path, SIZES)
    write_lists(tmp_path)
    datasets = [folder(tmp_path, split=split, splitter=splitter, overlap=0.5) for split in SPLITS]
    for number, first in enumerate(datasets):
        for second in datasets[:number]:
            assert not set(first.names) & set(second.names)
            assert not overlapping(ground(first), ground(second), 16).any()
    assert sum(len(d.names) for d in datasets) == (
        8 if isinstance(splitter, BySeed) else len(set().union(*(d.names for d in datasets)))
    )


def test_a_seed_is_a_split() -> None:
    names = [f'{number}' for number in range(40)]
    first, again, other = (BySeed(0.1, 0.2, seed).assign(names, Path()) for seed in (0, 0, 1))
    assert first == again != other
    assert [first.count(split) for split in SPLITS] == [28, 4, 8]
    assert BySeed(0.01, 0.0).assign(names, Path()).count('val') == 1


def test_sub_folders_are_splits_and_names(tmp_path: Path) -> None:
    for split in ('train', 'val'):
        write_folder(tmp_path / split, [(16, 16), (16, 32)])
    dataset = folder(tmp_path, image='*/image/*.tif', mask='*/mask/*.tif', splitter=ByPattern(), split='val')
    assert dataset.names == ['val/a0', 'val/a1']


def test_patches_with_too_few_labels_are_left_out(tmp_path: Path) -> None:
    ((_, mask),) = write_folder(tmp_path, [(16, 48)])
    mask[:, 16:40] = 9
    write_tif(tmp_path / 'mask' / 'a0.tif', mask[None])
    declared = replace(DECLARED, ignore=[9])
    counts = {share: len(folder(tmp_path, declared, min_labelled=share)) for share in (0.0, 0.01, 0.5, 0.6)}
    assert counts == {0.0: 3, 0.01: 2, 0.5: 2, 0.6: 1}


@pytest.mark.parametrize(
    ('about', 'declared', 'message'),
    [
        ({'unit': ''}, {}, 'does not say what its values are: declare the unit'),
        ({'names': None, 'wavelengths': None}, {}, 'gives its band 1 no name: declare band_names'),
        ({'wavelengths': None}, {'bands': [665]}, 'declare wavelengths'),
        ({'wavelengths': None}, {'exclude': [(0, 1)]}, 'declare wavelengths'),
        ({}, {'bands': [750]}, 'the nearest is 85 nm away'),
        ({}, {'bands': ['swir']}, "no bands called 'swir'; it has blue, green, red, nir"),
        ({}, {'bands': ['red', 665]}, 'one band twice'),
        ({}, {'band_names': ['a']}, 'band_names has 1 entries for the 4 bands'),
    ],
)
def test_what_is_neither_declared_nor_in_the_files_is_asked_for(
    about: dict[str, Any], declared: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write_folder(tmp_path, [(16, 16)], **about)
    with pytest.raises(SpecDMError, match=message):
        folder(tmp_path, replace(DECLARED, **declared))


def test_what_is_declared_wins(tmp_path: Path) -> None:
    write_folder(tmp_path, [(16, 16)], names=None, wavelengths=None)
    spec = folder(
        tmp_path, replace(DECLARED, band_names=list('abcd'), wavelengths=[1, 2, 3, 4], unit='DN', gsd=2.5)
    ).spec
    assert (spec.bands, spec.wavelengths, spec.unit, spec.gsd) == (('a', 'b', 'c', 'd'), (1, 2, 3, 4), 'DN', 2.5)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'root': 'absent'}, 'no folder'),
        ({'split': 'all'}, 'train, val, test'),
        ({'image': 'pictures/*.tif'}, 'no file in .* matches pictures'),
        ({'image': '../*.tif'}, 'must stay inside'),
        ({'patch_size': 17}, r'mask/a0.tif: patch_size 17 px is larger'),
        ({'splitter': BySeed(), 'split': 'val'}, 'has 2 pairs, too few for train and val, test: add some'),
        ({'splitter': ByPattern('a*', '*0')}, 'a0 is in train and val'),
        ({'splitter': ByPattern('b*')}, 'none of the 2 pairs'),
        ({'splitter': ByList()}, 'no list of files'),
        ({'splitter': ByList('wrong.txt')}, "lists 'a9'"),
    ],
)
def test_bad_arguments(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    write_folder(tmp_path, [(16, 16), (16, 32)])
    (tmp_path / 'wrong.txt').write_text('a9')
    with pytest.raises(SpecDMError, match=message):
        folder(tmp_path / arguments.pop('root', '.'), **arguments)


def test_files_that_do_not_go_together_are_named(tmp_path: Path) -> None:
    write_folder(tmp_path, [(16, 16), (16, 16)])
    image, mask = scene(16, 32)
    write_tif(tmp_path / 'mask' / 'a1.tif', mask[None])
    with pytest.raises(RasterError, match=r'a1.tif is \(16, 16\) px and its mask'):
        folder(tmp_path)
    write_tif(tmp_path / 'mask' / 'a1.tif', mask[None, :, :16], crs='EPSG:32634')
    with pytest.raises(RasterError, match='different grids'):
        folder(tmp_path)
    write_tif(tmp_path / 'mask' / 'a1.tif', mask[None, :, :16])
    write_tif(tmp_path / 'image' / 'a1.tif', image[:, :, :16], names=NAMES, unit='counts')
    with pytest.raises(RasterError, match=r'a0.tif and .*a1.tif have different wavelengths'):
        folder(tmp_path)
    (tmp_path / 'image' / 'a1.tif').write_text('no raster')
    with pytest.raises(RasterError, match=r'a1.tif cannot be read as a raster'):
        folder(tmp_path)
    (tmp_path / 'image' / 'a1.tif').unlink()
    with pytest.raises(SpecDMError, match=r'1 of 2 files mask/\*.tif in .* have no partner image/\*.tif: .*a1.tif'):
        folder(tmp_path)


@pytest.mark.parametrize('classes', [[], ['a', 'a'], ['a', '']])
def test_classes_need_names(classes: list[str]) -> None:
    with pytest.raises(SpecDMError, match='classes must have names'):
        Declared(classes, (0, 1))
