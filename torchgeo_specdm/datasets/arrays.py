"""Rasters that are plain arrays: ``.npy`` and the matrices of ``.mat`` (up to version 7). Nothing is unpickled."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from torchgeo_specdm.datasets.rasters import Pixels, Raster
from torchgeo_specdm.errors import RasterError

SUFFIXES = ('.npy', '.mat')


@dataclass(frozen=True)
class ArrayRaster(Raster):
    """An array as a raster.

    Attributes:
        array: ``(C, H, W)``.
    """

    array: NDArray[Any] = field(default_factory=lambda: np.zeros((0, 0, 0)), repr=False, compare=False)

    @classmethod
    def of(cls, array: NDArray[Any], path: str) -> 'ArrayRaster':
        """The raster of an array ``(C, H, W)``, which says nothing of its bands."""
        count, height, width = array.shape
        return cls(path, (height, width), ('',) * count, (None,) * count, ('',) * count, str(array.dtype), array=array)

    def read(self, bands: Sequence[int], row: int, col: int, height: int, width: int) -> Pixels:
        """As for every raster."""
        values = np.array(self.array[list(bands), row : row + height, col : col + width])
        return Pixels(values, np.isfinite(values))


def load_array(name: str | Path) -> NDArray[Any]:
    """The array of a ``.npy`` file (mapped, not read) or a ``.mat`` file.

    Args:
        name: The file, or ``FILE#VARIABLE`` for a ``.mat`` file with several.

    Raises:
        RasterError: It is missing, damaged, holds objects, or the variable is not there.
    """
    path, _, variable = str(name).partition('#')
    if not Path(path).is_file():
        raise RasterError(f'{path} is missing')
    try:
        array = np.load(path, 'r', allow_pickle=False) if path.endswith('.npy') else _matrix(path, variable)
    except (OSError, EOFError, ValueError, NotImplementedError, MatReadError) as error:
        if isinstance(error, RasterError):
            raise
        raise RasterError(f'{path} is damaged or holds objects: store its numbers as .npy, ENVI or GeoTIFF') from error
    if array.dtype.kind not in 'biuf':
        raise RasterError(f'{name} holds {array.dtype}, no numbers')
    return array


def _matrix(path: str, variable: str) -> NDArray[Any]:
    found = {key: value for key, value in loadmat(path).items() if not key.startswith('__')}
    found = {key: value for key, value in found.items() if value.dtype.kind in 'biuf' and value.ndim > 1}
    if variable not in found and (variable or len(found) != 1):
        raise RasterError(f'{path} has the arrays {", ".join(found) or "(none)"}: name one, {path}#VARIABLE')
    return np.asarray(found[variable or next(iter(found))])


def image_and_mask(image: NDArray[Any], mask: NDArray[Any], path: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both with bands first, ``(C, H, W)`` and ``(1, H, W)``; the size of the mask tells the bands from the rows.

    Args:
        image: ``(C, H, W)`` or ``(H, W, C)``.
        mask: ``(H, W)``, with axes of one entry anywhere.
        path: Of the image, for messages.

    Raises:
        RasterError: The sizes do not fit, or fit both ways.
    """
    labels = mask.squeeze()
    if labels.ndim != 2 or image.ndim != 3:
        raise RasterError(f'{path} is {image.shape} and its mask {mask.shape}: an image has 3 axes and a mask 2')
    last, first = image.shape[:2] == labels.shape, image.shape[1:] == labels.shape
    if last == first:
        how = 'both ways' if last else 'in neither way'
        raise RasterError(f'{path} is {image.shape} and its mask {labels.shape}, which fit {how}: store it as GeoTIFF')
    return (np.moveaxis(image, 2, 0) if last else image), labels[None]
