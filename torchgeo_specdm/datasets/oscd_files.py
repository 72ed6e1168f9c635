"""The files of one OSCD city, and what can be wrong with them.

The original release has the bands at their native resolution (``imgs_1/<granule>_B05.tif``); a later one adds bands
that are registered on the grid of the mask (``imgs_1_rect/B05.tif``).
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from torchgeo_specdm.errors import RasterError, SpecDMError
from torchgeo_specdm.sensors import SENTINEL2_L1C

# Native bands are cut on grids of 10, 20 and 60 m, and the second date of four cities is up to 1.6 % smaller than the
# mask although it shows the same extent
_NATIVE_TOLERANCE = 0.03


class Scene(NamedTuple):
    """The files of one city; one raster per band and date."""

    region: str
    images1: tuple[Path, ...]
    images2: tuple[Path, ...]
    mask: Path


def find_scene(images: Path, labels: Path, bands: Sequence[str], registered: bool) -> Scene:
    """Look for the files of one city.

    Args:
        images: Folder of the city's images.
        labels: Folder of the city's labels.
        bands: Names of the bands.
        registered: Whether to read the registered bands instead of the native ones.

    Raises:
        SpecDMError: A folder or a band is missing.
    """
    suffix = '_rect' if registered else ''
    first, second = (require_folder(images / f'imgs_{date}{suffix}') for date in (1, 2))
    return Scene(
        region=images.name,
        images1=tuple(_band_file(first, band) for band in bands),
        images2=tuple(_band_file(second, band) for band in bands),
        mask=labels / 'cm' / 'cm.png',
    )


def require_folder(folder: Path) -> Path:
    """The folder itself.

    Raises:
        SpecDMError: It does not exist.
    """
    if not folder.is_dir():
        raise SpecDMError(f'{folder} is missing, so OSCD is only partly extracted: extract its archives again')
    return folder


def _band_file(folder: Path, band: str) -> Path:
    paths = list(folder.glob(f'*{band}.tif'))
    if len(paths) != 1:
        raise RasterError(
            f'{folder} holds {len(paths)} rasters *{band}.tif instead of one: extract the archives of OSCD again'
        )
    return paths[0]


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Where the map of change is white, ``(H, W)``; some cities have colour channels, one has noise from resampling.

    Raises:
        RasterError: The file is missing or cannot be read.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert('L')) > 127
    except (OSError, SyntaxError) as error:
        raise RasterError(f'{path} is missing or cannot be read ({error}): extract the label archive again') from error


def check_size(path: Path, shape: tuple[int, ...]) -> None:
    """Compare the size of a band with its mask's, given the resolution of both; reads no pixels.

    Args:
        path: A native or registered band.
        shape: ``(H, W)`` of the mask [px of 10 m].

    Raises:
        RasterError: The sizes do not fit, or the file cannot be read.
    """
    registered = path.parent.name.endswith('_rect')
    step = 1.0 if registered else SENTINEL2_L1C.band(path.stem[-3:]).gsd / 10
    expected = [length / step for length in shape]
    allowed = [0.0 if registered else 1 + _NATIVE_TOLERANCE * length for length in expected]
    with _opened(path) as raster:
        found = (raster.height, raster.width)
        off = [abs(have - want) for have, want in zip(found, expected, strict=True)]
        if raster.count != 1 or any(o > a for o, a in zip(off, allowed, strict=True)):
            raise RasterError(
                f'{path} has {raster.count} band(s) of {found[0]} x {found[1]} px '
                f'instead of one of {expected[0]:.0f} x {expected[1]:.0f} px, the size of its mask of change'
            )


def read_band(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint16]:
    """One band resampled bilinearly to ``shape`` ``(H, W)``; digital numbers.

    Raises:
        RasterError: The file cannot be read.
    """
    with _opened(path) as raster:
        band: NDArray[np.uint16] = raster.read(1, out_shape=shape, out_dtype='uint16', resampling=Resampling.bilinear)
    return band


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with warnings.catch_warnings():
            # The size is all that matters here
            warnings.simplefilter('ignore', NotGeoreferencedWarning)
            with rasterio.open(path) as raster:
                yield raster
    except RasterioError as error:
        raise RasterError(f'{path} cannot be read ({error}): extract the image archive again') from error
