"""Writes small rasters for the tests of datasets that read a user's files."""

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import from_origin
from scipy.io import netcdf_file

NAMES = ('blue', 'green', 'red', 'nir')
WAVELENGTHS = (490.0, 560.0, 665.0, 842.0)


def scene(height: int, width: int, bands: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Fields of 8 px: an image ``(C, H, W)`` of 16-bit numbers that follow the classes 0-2 of its mask ``(H, W)``."""
    random = np.random.default_rng(seed)
    fields = random.integers(3, size=(height // 8 + 1, width // 8 + 1))
    mask = fields.repeat(8, 0).repeat(8, 1)[:height, :width]
    image = 1000 + 500 * mask + random.integers(100, size=(bands, height, width))
    return image.astype(np.uint16), mask.astype(np.uint8)


def write_tif(path: Path, values: np.ndarray, **about: Any) -> None:
    """``values`` ``(C, H, W)`` as GeoTIFF; ``about`` are ``names``, ``wavelengths``, ``unit``, ``scale``, ``offset``
    and options of rasterio."""
    count, height, width = values.shape
    names, nm = about.pop('names', None), about.pop('wavelengths', None)
    unit, scale, offset = about.pop('unit', ''), about.pop('scale', 1.0), about.pop('offset', 0.0)
    path.parent.mkdir(parents=True, exist_ok=True)
    grid = {'crs': 'EPSG:32633', 'transform': from_origin(500_000, 5_000_000, 10, 10)}
    options = {'driver': 'GTiff', 'count': count, 'height': height, 'width': width, 'dtype': values.dtype}
    with rasterio.open(path, 'w', **(options | grid | about)) as file:
        file.write(values)
        file.scales, file.offsets, file.units = (scale,) * count, (offset,) * count, (unit,) * count
        for band in range(1, count + 1):
            if names:
                file.set_band_description(band, names[band - 1])
            if nm:
                file.update_tags(band, ns='IMAGERY', CENTRAL_WAVELENGTH_UM=str(nm[band - 1] / 1000))


def write_netcdf(path: Path, **variables: np.ndarray) -> None:
    """Variables ``(y, x)``, all but ``label`` as reflectance x 10 000 with a scale; of ``(wavelength, y, x)`` in nm."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with netcdf_file(path, 'w') as file:
        for axis, length in zip(('y', 'x'), next(iter(variables.values())).shape[-2:], strict=True):
            file.createDimension(axis, length)
        for name, values in variables.items():
            axes: tuple[str, ...] = ('y', 'x')
            if values.ndim == 3:
                file.createDimension('wavelength', len(values))
                centre = file.createVariable('wavelength', 'f4', ('wavelength',))
                centre[:], centre.units = WAVELENGTHS[: len(values)], 'nm'
                axes = ('wavelength', *axes)
            made = file.createVariable(name, 'i2', axes)
            made[:] = values.astype(np.int16)
            if name != 'label':
                made.units, made.scale_factor = 'reflectance', np.float64(1e-4)


def write_folder(root: Path, sizes: list[tuple[int, int]], **about: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """GeoTIFFs ``image/a0.tif`` and ``mask/a0.tif`` and so on; what is in them."""
    scenes = [scene(*size, seed=number) for number, size in enumerate(sizes)]
    for number, (image, mask) in enumerate(scenes):
        defaults = {'names': NAMES, 'wavelengths': WAVELENGTHS, 'unit': 'reflectance x 10000'}
        write_tif(root / 'image' / f'a{number}.tif', image, **(defaults | about))
        write_tif(root / 'mask' / f'a{number}.tif', mask[None])
    return scenes
