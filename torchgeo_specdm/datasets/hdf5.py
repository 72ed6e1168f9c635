"""Arrays in HDF5 files, which ``.h5`` and ``.mat`` of version 7.3 are: a window is read at a time.

The library h5py is imported when such a file is opened.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torchgeo_specdm.datasets.rasters import Pixels, Raster
from torchgeo_specdm.errors import RasterError

SUFFIXES = ('.h5', '.hdf5')
_SIGNATURE = b'\x89HDF\r\n\x1a\n'
# What h5py raises for a file or an array that is damaged
_DAMAGE = (OSError, EOFError, MemoryError, RuntimeError, ValueError, TypeError, LookupError)


@dataclass(frozen=True)
class HDF5Array:
    """An array that is not read yet.

    Attributes:
        path: The file.
        variable: The array's name in it, with those of its groups.
        shape: As rows, columns and bands are meant; MATLAB stores its axes in reverse.
        dtype: Type of the numbers.
        reverse: Whether the axes are stored in reverse.
    """

    path: str
    variable: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    reverse: bool

    def read(self, window: tuple[slice, ...]) -> NDArray[Any]:
        """A part of it, one slice an axis.

        Raises:
            RasterError: It cannot be read.
        """
        h5py = _library(self.path)
        try:
            with h5py.File(self.path, 'r') as file:
                values = np.asarray(file[self.variable][window[::-1] if self.reverse else window])
        except _DAMAGE as error:
            raise RasterError(f'{self.path}#{self.variable} cannot be read ({error}): replace the file') from error
        return values.T if self.reverse else values


def planes(values: NDArray[Any], axes: str) -> NDArray[Any]:
    """An array as ``(C, H, W)``.

    Args:
        values: With two or more axes.
        axes: What each is: ``b``, the bands, ``r``, the rows, ``c``, the columns, or ``1``, a single entry.
    """
    order = sorted(range(len(axes)), key=lambda axis: '1brc'.index(axes[axis]))
    turned = values.transpose(order)
    return turned.reshape(-1, *turned.shape[-2:])


@dataclass(frozen=True)
class HDF5Raster(Raster):
    """An array as a raster; its file is opened for each window, so that worker processes share no handle.

    Attributes:
        array: Where the numbers are.
        axes: As for :func:`planes`.
    """

    array: HDF5Array = field(kw_only=True)
    axes: str = field(kw_only=True)

    @classmethod
    def of(cls, array: HDF5Array, axes: str, path: str) -> 'HDF5Raster':
        """The raster of an array, which says nothing of its bands."""
        sizes = dict(zip(axes, array.shape, strict=True))
        count = sizes.get('b', 1)
        about = (path, (sizes['r'], sizes['c']), ('',) * count, (None,) * count, ('',) * count, str(array.dtype))
        return cls(*about, array=array, axes=axes)

    def read(self, bands: Sequence[int], row: int, col: int, height: int, width: int) -> Pixels:
        """As for every raster."""
        parts = {'r': slice(row, row + height), 'c': slice(col, col + width)}
        values = planes(self.array.read(tuple(parts.get(axis, slice(None)) for axis in self.axes)), self.axes)
        chosen = values[list(bands)]
        return Pixels(chosen, np.isfinite(chosen))


def is_hdf5(path: str) -> bool:
    """Whether a file is HDF5, by its first bytes; MATLAB writes 512 of its own before them."""
    with Path(path).open('rb') as file:
        head = file.read(512 + len(_SIGNATURE))
    return _SIGNATURE in (head[: len(_SIGNATURE)], head[512:])


def find_array(path: str, variable: str) -> HDF5Array:
    """The array of numbers in a file, or the one of several that is named.

    Links to other files are not followed, and arrays whose numbers lie in other files are not read.

    Args:
        path: The file.
        variable: Name of the array, with those of its groups (``data/image``); empty where there is one alone.

    Raises:
        RasterError: h5py is not installed, the file is damaged, or there is no such array.
    """
    h5py, found = _library(path), {}

    def visit(name: str, item: Any) -> None:
        kept_here = isinstance(item, h5py.Dataset) and not item.external and not item.is_virtual
        # MATLAB keeps what cells refer to in #refs#
        if kept_here and item.ndim > 1 and item.dtype.kind in 'biuf' and not name.startswith('#'):
            reverse = 'MATLAB_class' in item.attrs
            shape = item.shape[::-1] if reverse else item.shape
            found[name] = HDF5Array(path, name, shape, item.dtype, reverse)

    try:
        with h5py.File(path, 'r') as file:
            file.visititems(visit)
    except _DAMAGE as error:
        raise RasterError(f'{path} is damaged ({error}): replace the file') from error
    if variable not in found and (variable or len(found) != 1):
        raise RasterError(f'{path} has the arrays {", ".join(found) or "(none)"}: name one, {path}#VARIABLE')
    return found[variable or next(iter(found))]


def _library(path: str) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise RasterError(f'{path} is HDF5, for which h5py is not installed: pip install h5py') from error
    return h5py
