"""Writes a tiny OSCD: the files and folders of the original release, or of the one with registered bands.

Like the real one it has bands at 10, 20 and 60 m, a second date that is a few pixels smaller, and masks with and
without colour channels, one of them noisy.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.transform import from_origin

from torchgeo_specdm.sensors import SENTINEL2_L1C

TITLE = 'Onera Satellite Change Detection dataset'
TRAIN_CITIES = ('abudhabi', 'beirut', 'paris', 'pisa', 'rennes')
TEST_CITIES = ('brasilia', 'dubai')
GRANULES = ('S2A_OPER_MSI_L1C_TL_EPA__20160101T000000_A000001_T31UDQ', 'T31UDQ_20180101T000000')
DEGREES_PER_10_M = 9e-5


def write_oscd(
    root: Path,
    train_cities: Sequence[str] = TRAIN_CITIES,
    test_cities: Sequence[str] = TEST_CITIES,
    height: int = 96,
    width: int = 112,
    registered: bool = False,
    seed: int = 0,
) -> None:
    """Write all cities below ``root``; the later date is brighter where the mask says that something changed."""
    rng = np.random.default_rng(seed)
    images = root / f'{TITLE} - Images'
    for part, cities in (('Train', train_cities), ('Test', test_cities)):
        labels = root / f'{TITLE} - {part} Labels'
        for index, city in enumerate(cities):
            mask = _change(rng, height, width)
            _write_labels(rng, labels / city / 'cm', mask, mode=('L', 'RGBA', 'RGB')[index % 3])
            _write_images(rng, images / city, mask, smaller=2 * (index == 0), registered=registered)
        (images / f'{part.lower()}.txt').write_text(','.join(cities))


def _change(rng: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    mask = np.zeros((height, width), bool)
    top, left = rng.integers(height // 2), rng.integers(width // 2)
    mask[top : top + height // 2, left : left + width // 2] = True
    return mask


def _write_labels(rng: np.random.Generator, folder: Path, mask: NDArray[np.bool_], mode: str) -> None:
    folder.mkdir(parents=True)
    grey = np.where(mask, 255, 0)
    if mode == 'RGB':
        grey = np.abs(grey - rng.integers(0, 90, mask.shape))
    Image.fromarray(grey.astype(np.uint8)).convert(mode).save(folder / 'cm.png')
    _write_raster(folder / f'{folder.parent.name}-cm.tif', mask.astype(np.uint8) + 1, 1)


def _write_images(
    rng: np.random.Generator, folder: Path, mask: NDArray[np.bool_], smaller: int, registered: bool
) -> None:
    for date, granule in enumerate(GRANULES, start=1):
        height, width = (length - smaller * (date == 2) for length in mask.shape)
        for number, band in enumerate(SENTINEL2_L1C.bands):
            step = int(band.gsd) // 10
            shape = -(-height // step), -(-width // step)
            level = 1000 + 100 * number + 800 * (date == 2) * _resize(mask, shape)
            values = (level + rng.integers(0, 100, shape)).astype(np.uint16)
            _write_raster(folder / f'imgs_{date}' / f'{granule}_{band.name}.tif', values, step)
            if registered:
                values = (2 * level.max() + rng.integers(0, 100, mask.shape)).astype(np.uint16)
                _write_raster(folder / f'imgs_{date}_rect' / f'{band.name}.tif', values, 1)
    (folder / 'dates.txt').write_text('date_1: 20160101\ndate_2: 20180101\n')


def _resize(mask: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.bool_]:
    rows, cols = (np.linspace(0, have - 1, want).astype(int) for have, want in zip(mask.shape, shape, strict=True))
    return mask[np.ix_(rows, cols)]


def _write_raster(path: Path, values: NDArray[np.uint16] | NDArray[np.uint8], step: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = values.shape
    pixel = step * DEGREES_PER_10_M
    profile = {'driver': 'GTiff', 'dtype': values.dtype, 'count': 1, 'height': height, 'width': width}
    with rasterio.open(path, 'w', crs='EPSG:4326', transform=from_origin(2, 48, pixel, pixel), **profile) as raster:
        raster.write(values, 1)
