"""One raster, whatever its format: its bands, and pixels of a window in the raster's unit.

GDAL reads GeoTIFF, ENVI, NetCDF and more; ``.npy``, ``.mat`` and ``.h5`` are read as arrays. A file with several
variables is named with one of them, ``FILE#VARIABLE``; without, the one-band variables of a NetCDF are its bands.
"""

import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from torchgeo_specdm.errors import RasterError

_NANOMETRES = {'nm': 1.0, 'nanometers': 1.0, 'nanometer': 1.0, 'nanometres': 1.0, 'nanometre': 1.0}
_NANOMETRES |= dict.fromkeys(('um', 'µm', 'μm', 'micrometers', 'micrometer', 'micrometres', 'micrometre'), 1000.0)
_OPTIONS = {
    # GDAL turns NetCDF upside down where it takes the rows to run south to north; other files keep their rows
    'GDAL_NETCDF_BOTTOMUP': 'NO',
    # TorchGeo's command line hides the files beside a raster from GDAL, of which an ENVI header is one
    'GDAL_DISABLE_READDIR_ON_OPEN': 'NO',
}
# What GDAL calls a band that the file gives no name
_NO_NAME = re.compile(r'[Bb]and[ _]?\d+')


class Pixels(NamedTuple):
    """``values`` in the raster's unit, scale and offset applied, and ``valid``, False at nodata; both ``(C, H, W)``."""

    values: NDArray[Any]
    valid: NDArray[np.bool_]


@dataclass(frozen=True)
class Raster(ABC):
    """A raster; a subclass reads it.

    Attributes:
        path: The file, with ``#VARIABLE`` where there is one.
        shape: Height and width [px].
        names: Name of each band, empty where the file gives none.
        wavelengths: Centre wavelength of each band [nm], None where the file does not say.
        units: Unit of each band, empty where the file does not say.
        dtype: Type of the values: as stored, or float32 where a scale or offset applies to them.
        nodata: The value of blank pixels as stored, where the file has one.
        gsd: Ground sampling distance [m], where the raster lies in a projection.
        place: Coordinate system and affine transform, where the file has both.
    """

    path: str
    shape: tuple[int, int]
    names: tuple[str, ...]
    wavelengths: tuple[float | None, ...]
    units: tuple[str, ...]
    dtype: str
    nodata: float | None = None
    gsd: float | None = None
    place: tuple[Any, Any] | None = None

    @abstractmethod
    def read(self, bands: Sequence[int], row: int, col: int, height: int, width: int) -> Pixels:
        """Pixels of a window.

        Args:
            bands: Which bands, from 0.
            row: The window's first row.
            col: Its first column.
            height: Its height [px].
            width: Its width [px].

        Raises:
            RasterError: The file cannot be read.
        """


@dataclass(frozen=True)
class GdalRaster(Raster):
    """A file that GDAL reads; it is opened for each window, so that worker processes share no handle.

    Attributes:
        sources: Name and band number (from 1) of the GDAL dataset that each band is in.
    """

    sources: tuple[tuple[str, int], ...] = ()

    def read(self, bands: Sequence[int], row: int, col: int, height: int, width: int) -> Pixels:
        """As for every raster."""
        chosen = [self.sources[band] for band in bands]
        values, valid, places = [], [], []
        for name in dict.fromkeys(name for name, _ in chosen):
            at = [place for place, (source, _) in enumerate(chosen) if source == name]
            numbers = [chosen[place][1] for place in at]
            with opened(name) as file:
                read = file.read(numbers, window=Window(col, row, width, height), masked=True)
                values.append(_in_unit(read.data, file.scales, file.offsets, numbers))
            valid.append(~np.ma.getmaskarray(read) & np.isfinite(read.data))
            places += at
        order = np.argsort(places)
        return Pixels(np.concatenate(values)[order], np.concatenate(valid)[order])


def _in_unit(stored: Any, scales: Sequence[float], offsets: Sequence[float], numbers: Sequence[int]) -> Any:
    scale = np.array([scales[number - 1] for number in numbers])[:, None, None]
    offset = np.array([offsets[number - 1] for number in numbers])[:, None, None]
    return stored if (scale == 1).all() and (offset == 0).all() else stored * scale + offset


def open_raster(name: str | Path) -> GdalRaster:
    """Read what a file that GDAL knows says of itself; no pixel is read.

    Args:
        name: The file, or ``FILE#VARIABLE``.

    Raises:
        RasterError: It is missing, no raster, or its variables have different sizes.
    """
    path, _, variable = str(name).partition('#')
    if not Path(path).is_file():
        raise RasterError(f'{path} is missing')
    with opened(path) as file:
        parts = [part for part in file.subdatasets if not variable or part.rpartition(':')[-1].strip('/"') == variable]
        own = not file.subdatasets and (not variable or file.tags(1).get('NETCDF_VARNAME') == variable)
    if not parts and not own:
        raise RasterError(f'{path} has no variable {variable!r}; {_variables(path)}')
    described = [_describe(part) for part in (parts or [path])]
    if len({each.shape for each in described}) > 1:
        raise RasterError(f'{path} has variables of different sizes: name one, {path}#VARIABLE; {_variables(path)}')
    first = described[0]
    return GdalRaster(
        path=str(name),
        shape=first.shape,
        names=tuple(n for each in described for n in each.names),
        wavelengths=tuple(w for each in described for w in each.wavelengths),
        units=tuple(u for each in described for u in each.units),
        dtype=str(np.result_type(*(each.dtype for each in described))),
        nodata=first.nodata,
        gsd=first.gsd,
        place=first.place,
        sources=tuple(source for each in described for source in each.sources),
    )


def _variables(path: str) -> str:
    with opened(path) as file:
        names = [part.rpartition(':')[-1].strip('/"') for part in file.subdatasets] or [
            file.tags(1).get('NETCDF_VARNAME')
        ]
    return f'it has {", ".join(map(str, names))}'


def _describe(name: str) -> GdalRaster:
    with opened(name) as file:
        numbers = range(1, file.count + 1)
        tags = [file.tags(number) for number in numbers]
        variable = tags[0].get('NETCDF_VARNAME', '') if file.count == 1 else ''
        scaled = any(scale != 1 for scale in file.scales) or any(file.offsets)
        projected = file.crs is not None and file.crs.is_projected
        return GdalRaster(
            path=name,
            shape=(file.height, file.width),
            names=tuple('' if _NO_NAME.fullmatch(text or '') else text or variable for text in file.descriptions),
            wavelengths=tuple(_wavelength(file, number, tags[number - 1]) for number in numbers),
            units=tuple(unit or '' for unit in file.units),
            dtype='float32' if scaled else str(np.result_type(*file.dtypes)),
            nodata=file.nodata,
            gsd=float(file.res[0] * file.crs.linear_units_factor[1]) if projected else None,
            place=(file.crs, file.transform) if file.crs is not None else None,
            sources=tuple((name, number) for number in numbers),
        )


def _wavelength(file: Any, number: int, tags: dict[str, str]) -> float | None:
    """Centre wavelength of a band [nm] by the tag of ENVI, GDAL or NetCDF; None where there is none with a unit."""
    micrometres = file.tags(number, ns='IMAGERY').get('CENTRAL_WAVELENGTH_UM')
    # Three decimals of a micrometre are what GDAL keeps of ENVI, whose own tag is exact
    if micrometres and 'wavelength' not in tags:
        return round(float(micrometres) * 1000, 4)
    value, unit = tags.get('wavelength'), tags.get('wavelength_units', '')
    if value is None:
        value, unit = tags.get('NETCDF_DIM_wavelength'), file.tags().get('wavelength#units', '')
    factor = _NANOMETRES.get(unit.strip().lower())
    return None if value is None or factor is None else round(float(value) * factor, 4)


@contextmanager
def opened(name: str) -> Iterator[Any]:
    """A file opened with rasterio.

    Raises:
        RasterError: It cannot be read.
    """
    try:
        with warnings.catch_warnings():
            # Where a raster lies does not matter to whoever cuts patches
            warnings.simplefilter('ignore', NotGeoreferencedWarning)
            with rasterio.Env(**_OPTIONS), rasterio.open(name) as file:
                yield file
    except (RasterioError, UnicodeDecodeError) as error:
        # The second one for tags in another encoding than UTF-8
        raise RasterError(f'{name} cannot be read as a raster ({error}): replace the file') from error
