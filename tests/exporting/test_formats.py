"""What a format writes is read again as it was, by whoever it is written for."""

import dataclasses
import io
import json
import shutil
import subprocess
import tarfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
import torchgeo.datasets
from numpy.typing import NDArray
from PIL import Image

from tests.conftest import tiny_spec
from torchgeo_specdm.checkpoint import write_json
from torchgeo_specdm.commands.sample import FORMATS as OFFERED
from torchgeo_specdm.datasets.exported import DESCRIPTION, ExportedPairs
from torchgeo_specdm.datasets.oscd import OSCD, oscd_spec
from torchgeo_specdm.datasets.segmunich import SegMunich, segmunich_spec
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.exporting import FORMATS, Grid, make_format
from torchgeo_specdm.sensors import SPECDM_BANDS
from torchgeo_specdm.spec import DatasetSpec

TAGS = {'SYNTHETIC': 'torchgeo_specdm', 'GENERATOR': 'tiny', 'CHECKPOINT_SHA256': 'ab12', 'SEED': 7}
SPECS = {
    'integer': tiny_spec('segmentation'),
    'float': dataclasses.replace(tiny_spec('segmentation'), dtype='float32', gsd=None, bands=('', '', '')),
    'half': dataclasses.replace(tiny_spec('segmentation'), dtype='float16', wavelengths=None, unit=''),
    'signed': dataclasses.replace(tiny_spec('change'), dtype='int16'),
    **{name: dataclasses.replace(tiny_spec('segmentation'), dtype=name) for name in ('int32', 'uint32')},
    **{name: dataclasses.replace(tiny_spec('change'), dtype=name) for name in ('int64', 'uint64')},
    'two dates': tiny_spec('change'),
    'ignored': dataclasses.replace(tiny_spec('segmentation'), ignore_index=255),
    'ignored below zero': dataclasses.replace(tiny_spec('change'), ignore_index=-1),
}


def make_sample(spec: DatasetSpec, index: int = 0) -> dict[str, Any]:
    """Values from all over the type; the mask has every value that it may have."""
    rng = np.random.default_rng(index)
    image: NDArray[Any] = rng.normal(1500, 500, spec.image_shape).astype(np.float32)
    if np.dtype(spec.dtype).kind != 'f':
        limits = np.iinfo(spec.dtype)
        image = image.round().clip(limits.min, limits.max)
        # Of 32 bits and more, the largest one is no float32
        largest = np.float32(limits.max)
        image.flat[:2] = limits.min, largest if int(largest) <= limits.max else np.nextafter(largest, np.float32(0))
    values = [*range(spec.num_classes), *([] if spec.ignore_index is None else [spec.ignore_index])]
    mask = np.resize(np.array(values), spec.mask_shape)
    return {'image': torch.from_numpy(image), 'mask': torch.from_numpy(mask)}


def write(name: str, spec: DatasetSpec, folder: Path, count: int = 2, **arguments: Any) -> list[dict[str, Any]]:
    """Write ``count`` samples as an export does."""
    layout = make_format(name, spec, **arguments)
    samples = [make_sample(spec, index) for index in range(count)]
    write_json(folder / DESCRIPTION, {'count': count, 'spec': spec.to_dict(), 'format': name})
    items = [layout.item(index, sample, TAGS) for index, sample in enumerate(samples)]
    for unit in range(-(-count // layout.unit_size)):
        part = items[unit * layout.unit_size : (unit + 1) * layout.unit_size]
        assert not layout.is_complete(folder, unit, len(part))
        layout.write(folder, unit, part)
        assert layout.is_complete(folder, unit, len(part))
    layout.finish(folder, count)
    assert not list(folder.rglob('.*'))
    return samples


def same(read: Any, samples: list[dict[str, Any]]) -> None:
    assert len(read) == len(samples)
    for index, sample in enumerate(samples):
        for name, value in sample.items():
            assert torch.equal(read[index][name], value), (index, name)


@pytest.mark.parametrize('kind', SPECS)
def test_geotiff_is_lossless(kind: str, tmp_path: Path) -> None:
    spec = SPECS[kind]
    samples = write('geotiff', spec, tmp_path)
    same(ExportedPairs(tmp_path), samples)


@pytest.mark.parametrize('kind', SPECS)
def test_arrays_are_lossless_and_hold_no_pickle(kind: str, tmp_path: Path) -> None:
    spec = SPECS[kind]
    samples = write('npz', spec, tmp_path / 'npz')
    write('webdataset', spec, tmp_path / 'tar', shard_size=2)
    with tarfile.open(tmp_path / 'tar' / '000000.tar') as tar:
        members = {name: io.BytesIO(tar.extractfile(name).read()) for name in tar.getnames()}  # type: ignore[union-attr]
        assert list(members)[:3] == ['000000.image.npy', '000000.mask.npy', '000000.json']
        for index, sample in enumerate(samples):
            with np.load(tmp_path / 'npz' / f'{index:06d}.npz', allow_pickle=False) as arrays:
                metadata = json.loads(str(arrays['metadata']))
                assert metadata == json.load(members[f'{index:06d}.json'])
                for name in ('image', 'mask'):
                    np.testing.assert_array_equal(arrays[name], sample[name].numpy())
                    again = np.load(members[f'{index:06d}.{name}.npy'], allow_pickle=False)
                    np.testing.assert_array_equal(again, arrays[name])
                    assert again.dtype == arrays[name].dtype
            assert (TAGS | {'INDEX': index}).items() <= metadata.items()
            assert DatasetSpec.from_dict(metadata['spec']) == spec
            assert 'Nowhere on Earth' in metadata['crs'] or 'Fictitious' in metadata['crs']
            assert len(metadata['transform']) == 6


@pytest.mark.parametrize('dtype', ['int16', 'int32', 'uint32', 'int64', 'uint64'])
def test_what_is_larger_than_the_type_is_written_as_its_largest(dtype: str) -> None:
    """As of images that were given, whose largest value float32 rounds up."""
    spec = dataclasses.replace(tiny_spec('segmentation'), dtype=dtype)
    sample = make_sample(spec) | {'image': torch.full(spec.image_shape, float(np.iinfo(dtype).max))}
    image = make_format('npz', spec).item(0, sample, TAGS).image
    assert image.dtype == dtype
    assert (image > 0.999 * float(np.iinfo(dtype).max)).all()


def test_the_same_samples_make_the_same_files(tmp_path: Path) -> None:
    for name in FORMATS:
        spec = {'segmunich': segmunich_spec(), 'oscd': oscd_spec(OSCD.all_bands, 16)}.get(name, SPECS['integer'])
        contents = []
        for folder in (tmp_path / name / '1', tmp_path / name / '2'):
            write(name, spec, folder, 1)
            contents.append({p.relative_to(folder): p.read_bytes() for p in folder.rglob('*') if p.is_file()})
        assert contents[0] == contents[1], name


def test_geotiff_says_all_that_gdal_has_a_place_for(tmp_path: Path) -> None:
    spec = SPECS['ignored']
    write('geotiff', spec, tmp_path)
    with rasterio.open(tmp_path / 'image' / '000001.tif') as raster:
        assert raster.descriptions == spec.bands
        assert raster.units == (spec.unit,) * 3
        assert raster.tags(2)['wavelength'] == '559.8'
        assert raster.tags(2, ns='IMAGERY') == {'CENTRAL_WAVELENGTH_UM': '0.5598'}
        assert raster.nodata is None
        assert raster.crs.to_wkt().startswith('LOCAL_CS["Fictitious')
        assert raster.tags()['GRID'].startswith('fictitious')
        assert {name: str(value) for name, value in (TAGS | {'INDEX': 1}).items()}.items() <= raster.tags().items()
        # Samples lie side by side
        assert raster.bounds == (320, -160, 480, 0)
    with rasterio.open(tmp_path / 'mask' / '000001.tif') as raster:
        assert raster.nodata == 255
        assert len({raster.colormap(1)[value] for value in range(4)}) == 4
        assert [raster.tags()[f'CLASS_{value}'] for value in range(4)] == list(spec.classes)


@pytest.mark.skipif(shutil.which('gdalinfo') is None, reason='gdalinfo is not installed')
def test_gdalinfo_opens_the_files(tmp_path: Path) -> None:
    write('geotiff', SPECS['ignored'], tmp_path, 1)
    for path in tmp_path.rglob('*.tif'):
        output = subprocess.run(['gdalinfo', '-json', path], check=True, capture_output=True, timeout=60).stdout
        assert json.loads(output)['metadata']['']['SYNTHETIC'] == 'torchgeo_specdm'


def test_segmunich_files_load_in_segmunich(tmp_path: Path) -> None:
    turned = segmunich_spec(SPECDM_BANDS[::-1])
    samples = write('segmunich', turned, tmp_path)
    same(SegMunich(tmp_path, bands=turned.bands), samples)
    with Image.open(tmp_path / 'train' / 'label' / 'synthetic_000000.tif') as label:
        assert label.mode == 'P'
        palette = label.getpalette() or []
    # 13 is the code of class 9
    assert tuple(palette[3 * 13 : 3 * 13 + 3]) == SegMunich.colormap['mine and dump sites']
    with rasterio.open(tmp_path / 'train' / 'img' / 'synthetic_000000.tif') as raster:
        assert raster.descriptions == SPECDM_BANDS
        assert raster.dtypes == ('float32',) * 10


@pytest.mark.parametrize('bands', [OSCD.all_bands, SPECDM_BANDS, ('B04', 'B03', 'B8A')])
def test_oscd_files_load_in_both_classes(bands: tuple[str, ...], tmp_path: Path) -> None:
    spec = oscd_spec(bands, 16)
    with warnings.catch_warnings():
        warnings.simplefilter('error' if len(bands) == 13 else 'ignore')
        samples = write('oscd', spec, tmp_path, 3)
    same(OSCD(tmp_path, bands=bands, patch_size=16), samples)
    theirs = torchgeo.datasets.OSCD(str(tmp_path), 'train', bands=bands)
    theirs.files.sort(key=lambda files: files['region'])
    same(theirs, samples)
    with Image.open(next(tmp_path.rglob('synthetic000002/cm/cm.png'))) as mask:
        assert mask.info['INDEX'] == '2'
        assert set(np.unique(np.asarray(mask))) == {0, 255}


def test_bands_that_oscd_has_and_the_samples_have_not_are_nodata(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match='no band B01, B09, B10'):
        write('oscd', oscd_spec(SPECDM_BANDS, 16), tmp_path, 1)
    for band in OSCD.all_bands:
        with rasterio.open(next(tmp_path.rglob(f'imgs_2_rect/{band}.tif'))) as raster:
            assert raster.read(1, masked=True).mask.all() == (band not in SPECDM_BANDS)
            assert ('ABSENT' in raster.tags()) == (band not in SPECDM_BANDS)


@pytest.mark.parametrize(
    ('name', 'spec', 'reason'),
    [
        ('oscd', tiny_spec('segmentation'), 'change against segmentation'),
        ('oscd', dataclasses.replace(tiny_spec('change'), dtype='float32'), 'uint16 against float32'),
        (
            'oscd',
            dataclasses.replace(tiny_spec('change'), bands=('B02', 'B03', 'red')),
            'against B02 B03 red',
        ),
        ('oscd', dataclasses.replace(tiny_spec('change'), bands=('', '', '')), 'bands without names'),
        ('oscd', dataclasses.replace(tiny_spec('change'), ignore_index=255), 'None against 255'),
        ('segmunich', tiny_spec('segmentation'), 'classes: .*patch_size: 128 against 16'),
        ('segmunich', dataclasses.replace(segmunich_spec(), ignore_index=13, unit=''), 'None against 13'),
        ('segmunich', segmunich_spec(SPECDM_BANDS[:3]), 'bands: '),
        ('geotiff', dataclasses.replace(tiny_spec('change'), dtype='bool'), 'only integers and floats'),
        ('shapefile', tiny_spec('change'), 'must be one of geotiff'),
    ],
)
def test_a_dataset_that_does_not_fit_is_refused(name: str, spec: DatasetSpec, reason: str) -> None:
    with pytest.raises(SpecDMError, match=reason) as error:
        make_format(name, spec)
    assert len(str(error.value).splitlines()) == 1


def test_only_shards_have_a_size() -> None:
    with pytest.raises(SpecDMError, match='one sample each'):
        make_format('npz', SPECS['integer'], shard_size=4)
    with pytest.raises(SpecDMError, match='at least 1'):
        make_format('webdataset', SPECS['integer'], shard_size=0)


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    (tmp_path / '000000.tar').write_bytes(b'no tar' * 200)
    with pytest.raises(SpecDMError, match=r'000000\.tar'):
        make_format('webdataset', SPECS['integer']).is_complete(tmp_path, 0, 1)


def test_the_command_knows_the_formats() -> None:
    assert tuple(FORMATS) == OFFERED


def test_the_user_chooses_the_grid(tmp_path: Path) -> None:
    grid = Grid('EPSG:32632', (10, 0, 600_000, 0, -10, 5_300_000))
    write('geotiff', SPECS['two dates'], tmp_path, grid=grid)
    with rasterio.open(tmp_path / 'image' / '000001_t2.tif') as raster:
        assert raster.crs == rasterio.crs.CRS.from_epsg(32632)
        assert raster.transform == rasterio.Affine(10, 0, 600_160, 0, -10, 5_300_000)
        assert raster.tags()['GRID'].startswith('chosen by the user; the sample is synthetic')
    spec = SPECS['two dates']
    transforms = [grid.place(index, spec)['transform'] for index in range(250)]
    corners = {(t.c, t.f) for t in transforms}
    assert len(corners) == 250
    assert (transforms[100].c, transforms[100].f) == (600_000, 5_300_000 - 160)


@pytest.mark.parametrize(
    ('crs', 'transform', 'reason'),
    [
        ('EPSG:32632', None, 'needs a transform'),
        ('no such thing', (10, 0, 0, 0, -10, 0), "'no such thing' is unknown"),
        (None, (10, 0, 0, 0, 0, 0), 'give pixels an area'),
        (None, (10, 0, 0, 0, -10), 'six numbers'),
        (None, (10, 0, float('nan'), 0, -10, 0), 'six numbers'),
    ],
)
def test_bad_grids_are_refused(crs: str | None, transform: tuple[float, ...] | None, reason: str) -> None:
    with pytest.raises(SpecDMError, match=reason):
        Grid(crs, transform)
