"""One GeoTIFF with all that GDAL has a place for."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from torchgeo_specdm.plotting import class_colors
from torchgeo_specdm.spec import DatasetSpec


def write_raster(
    path: Path,
    values: NDArray[Any],
    place: Mapping[str, Any],
    tags: Mapping[str, Any],
    *,
    bands: Sequence[str] = (),
    wavelengths: Sequence[float] | None = None,
    unit: str = '',
    nodata: float | None = None,
    colors: Mapping[int, tuple[int, int, int]] | None = None,
) -> None:
    """Write a GeoTIFF, compressed without loss.

    Args:
        path: Where to.
        values: ``(C, H, W)``.
        place: ``crs`` and ``transform``.
        tags: Metadata of the file.
        bands: Description of each band.
        wavelengths: Centre wavelength of each band [nm].
        unit: Unit of the values, in words.
        nodata: The value of pixels that hold none.
        colors: RGB (0-255) by value, of a single band.

    Raises:
        OSError: The disk is full, or the file may not be written.
    """
    count, height, width = values.shape
    profile = {'count': count, 'height': height, 'width': width, 'dtype': values.dtype, 'nodata': nodata, **place}
    # TIFF has colour tables for these types alone
    colors = colors if values.dtype in (np.uint8, np.uint16) else None
    profile |= {'photometric': 'palette'} if colors else {}
    with MemoryFile() as memory:
        with memory.open(driver='GTiff', compress='deflate', **profile) as raster:
            if colors:
                raster.write_colormap(1, dict(colors))
            raster.write(values)
            raster.update_tags(**tags)
            for band, name in enumerate(bands, 1):
                raster.set_band_description(band, name)
            if unit:
                raster.units = (unit,) * count
            for band, wavelength in enumerate(wavelengths or (), 1):
                # As GDAL names what it finds in ENVI headers, and as it has named it in its own model since 3.10
                raster.update_tags(band, wavelength=wavelength, wavelength_units='nm')
                raster.update_tags(band, ns='IMAGERY', CENTRAL_WAVELENGTH_UM=f'{wavelength / 1000:.7g}')
        # By Python: GDAL reports a file as written of which a full disk has taken a part
        path.write_bytes(memory.getbuffer())


def palette(spec: DatasetSpec, values: Iterable[int] | None = None) -> dict[int, tuple[int, int, int]]:
    """The colour of each class, 0-255, by its value in the file: its index, or one of ``values``."""
    rows = np.rint(class_colors(spec) * 255).astype(int).tolist()
    return {value: (row[0], row[1], row[2]) for value, row in zip(_values(spec, values), rows, strict=True)}


def class_tags(spec: DatasetSpec, values: Iterable[int] | None = None) -> dict[str, Any]:
    """Names of the classes, by their values as in :func:`palette`, and the ignore index, as tags of a mask."""
    pairs = zip(_values(spec, values), spec.classes, strict=True)
    names: dict[str, Any] = {f'CLASS_{value}': name for value, name in pairs if name}
    return names if spec.ignore_index is None else names | {'IGNORE_INDEX': spec.ignore_index}


def _values(spec: DatasetSpec, values: Iterable[int] | None) -> Iterable[int]:
    return range(spec.num_classes) if values is None else values
