"""The files of SegMunich, and what can be wrong with them."""

import warnings
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image, ImageSequence
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from torchgeo_specdm.errors import RasterError, SpecDMError

PATCH_SIZE = 128
NUM_BANDS = 10

# Code in the label image (mostly CORINE level 2) -> class; every other code is an error
CODES = {0: 0, 21: 1, 22: 2, 23: 3, 31: 4, 5: 5, 32: 6, 33: 7, 41: 8, 13: 9, 14: 10, 11: 11, 12: 12}
_CLASS_OF_CODE = np.full(256, -1, np.int64)
_CLASS_OF_CODE[list(CODES)] = list(CODES.values())


def require_files(folder: Path, split: str) -> list[str]:
    """The stems of a split, each of which has an image and a label.

    Raises:
        SpecDMError: The list, or a file that it names, is missing.
    """
    listing = folder / 'dataset' / f'{split}.txt'
    if not listing.is_file():
        raise SpecDMError(f'{listing} is missing, so SegMunich is only partly extracted: extract its archive again')
    stems = [line.strip() for line in listing.read_text().splitlines() if line.strip()]
    for kind in ('img', 'label'):
        present = {path.stem for path in (folder / split / kind).glob('*.tif')}
        if missing := [stem for stem in stems if stem not in present]:
            path = folder / split / kind / f'{missing[0]}.tif'
            raise SpecDMError(
                f'{path} and {len(missing) - 1} more of the files named in {listing} are missing, '
                'so SegMunich is only partly extracted: extract its archive again'
            )
    return stems


def read_image(path: Path) -> NDArray[np.float32]:
    """The ten bands of a patch, ``(10, 128, 128)``, raw.

    Raises:
        RasterError: The file cannot be read or has the wrong size.
    """
    image = _read(path).astype(np.float32)
    if image.shape == (1, PATCH_SIZE, NUM_BANDS):
        # Common TIFF writers store an H x W x 10 array as H pages of W x 10, of which GDAL sees the first alone
        image = _read_pages(path).transpose(2, 0, 1)
    if image.shape != (NUM_BANDS, PATCH_SIZE, PATCH_SIZE):
        raise _wrong_size(path, image.shape, NUM_BANDS)
    return np.ascontiguousarray(image)


def read_label(path: Path) -> NDArray[np.int64]:
    """The class of each pixel of a patch, ``(128, 128)``.

    Raises:
        RasterError: The file cannot be read, has the wrong size or holds an unknown code.
    """
    # GDAL returns the indexes of a palette image, which are the codes
    label = _read(path)
    if label.shape != (1, PATCH_SIZE, PATCH_SIZE):
        raise _wrong_size(path, label.shape, 1)
    codes = label[0]
    if unknown := sorted(set(np.unique(codes).tolist()) - set(CODES)):
        raise RasterError(f'{path} holds the unknown label code {unknown[0]}; SegMunich has {sorted(CODES)}')
    classes: NDArray[np.int64] = _CLASS_OF_CODE[codes.astype(np.int64)]
    return classes


def _read(path: Path) -> NDArray[np.generic]:
    try:
        with warnings.catch_warnings():
            # Patches carry no coordinates
            warnings.simplefilter('ignore', NotGeoreferencedWarning)
            with rasterio.open(path) as raster:
                pixels: NDArray[np.generic] = raster.read()
    except RasterioError as error:
        raise RasterError(f'{path} cannot be read ({error}): extract the archive of SegMunich again') from error
    return pixels


def _read_pages(path: Path) -> NDArray[np.float32]:
    try:
        with Image.open(path) as pages:
            return np.stack([np.array(page, np.float32) for page in ImageSequence.Iterator(pages)])
    except (OSError, SyntaxError) as error:
        raise RasterError(f'{path} cannot be read ({error}): extract the archive of SegMunich again') from error


def _wrong_size(path: Path, shape: tuple[int, ...], bands: int) -> RasterError:
    count, height, width = shape
    return RasterError(
        f'{path} has {count} band(s) of {height} x {width} px instead of {bands} of {PATCH_SIZE} x {PATCH_SIZE} px'
    )
