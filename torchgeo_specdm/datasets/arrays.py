"""Rasters that are plain arrays: ``.npy``, ``.h5`` and the matrices of ``.mat``. Nothing is unpickled."""

import tokenize
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from torchgeo_specdm.datasets import hdf5
from torchgeo_specdm.datasets.hdf5 import HDF5Array, HDF5Raster, planes
from torchgeo_specdm.datasets.rasters import Pixels, Raster
from torchgeo_specdm.errors import RasterError

SUFFIXES = ('.npy', '.mat', *hdf5.SUFFIXES)
# What NumPy and SciPy raise for bytes that are no array; a size that no memory holds is among them
_DAMAGE = (
    *(OSError, EOFError, MatReadError, zlib.error, tokenize.TokenError, SyntaxError, MemoryError, NotImplementedError),
    *(ValueError, TypeError, LookupError, NameError, AttributeError, ArithmeticError),
)


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


def load_array(name: str | Path) -> NDArray[Any] | HDF5Array:
    """The array of a ``.npy`` file (mapped, not read), of a ``.mat`` file, or of an HDF5 file (not read).

    Args:
        name: The file, or ``FILE#VARIABLE`` for one with several.

    Raises:
        RasterError: It is missing, damaged, holds objects, the variable is not there, or h5py is not installed.
    """
    path, _, variable = str(name).partition('#')
    if not Path(path).is_file():
        raise RasterError(f'{path} is missing')
    if path.endswith(hdf5.SUFFIXES) or (path.endswith('.mat') and hdf5.is_hdf5(path)):
        return hdf5.find_array(path, variable)
    try:
        array = np.load(path, 'r', allow_pickle=False) if path.endswith('.npy') else _matrix(path, variable)
    except RasterError:
        raise
    except _DAMAGE as error:
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


def open_mask(name: str) -> Raster:
    """The mask in an array ``(H, W)``, with axes of one entry anywhere.

    Raises:
        RasterError: It cannot be read, or has more axes.
    """
    array = load_array(name)
    if sum(size != 1 for size in array.shape) != 2:
        raise RasterError(f'{name} is {array.shape}; a mask has two axes, rows and columns')
    rows_then_columns = iter('rc')
    return _raster(array, ''.join('1' if size == 1 else next(rows_then_columns) for size in array.shape), name)


def open_image(name: str, shape: tuple[int, int]) -> Raster:
    """The image in an array ``(C, H, W)``, ``(H, W, C)`` or, of one band, ``(H, W)``.

    Args:
        name: As for :func:`load_array`.
        shape: Height and width of the mask, which tell the bands from the rows.

    Raises:
        RasterError: It cannot be read, or its sizes do not fit, or fit both ways.
    """
    array = load_array(name)
    if array.shape == shape:
        return _raster(array, 'rc', name)
    first, last = array.shape[1:] == shape, array.shape[:-1] == shape
    if len(array.shape) != 3 or first == last:
        how = 'both ways: store it as GeoTIFF' if first and last else 'in no way: an image has rows, columns and bands'
        raise RasterError(f'{name} is {array.shape} and its mask {shape}, which fit {how}')
    return _raster(array, 'brc' if first else 'rcb', name)


def _raster(array: NDArray[Any] | HDF5Array, axes: str, name: str) -> Raster:
    if isinstance(array, HDF5Array):
        return HDF5Raster.of(array, axes, name)
    return ArrayRaster.of(planes(array, axes), name)
