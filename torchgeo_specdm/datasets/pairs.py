"""A labelled raster: an image per date and a mask on one grid, read window by window in the shapes of ``spec.py``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.transform import Affine
from torch import Tensor

from torchgeo_specdm.datasets.arrays import SUFFIXES, open_image, open_mask
from torchgeo_specdm.datasets.declared import IGNORE_INDEX, Declared
from torchgeo_specdm.datasets.patches import patch_origins
from torchgeo_specdm.datasets.rasters import Raster, open_raster
from torchgeo_specdm.errors import RasterError, SpecDMError
from torchgeo_specdm.spec import DatasetSpec

# A band whose centre is farther from the wavelength that was asked for [nm] is another band
_TOLERANCE = 20.0


class Bands(NamedTuple):
    """The bands of a sample: their numbers in the file (from 0), names, centre wavelengths [nm] and unit."""

    numbers: tuple[int, ...]
    names: tuple[str, ...]
    wavelengths: tuple[float, ...] | None
    unit: str


@dataclass(frozen=True)
class LabelledRaster:
    """Images of one place and their mask.

    Attributes:
        images: One per date.
        mask: Has one band.
        bands: Which bands of the images a sample holds.
        codes: The index of each value of the mask.
    """

    images: tuple[Raster, ...]
    mask: Raster
    bands: Bands
    codes: Mapping[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width [px]."""
        return self.mask.shape

    def read(self, row: int, col: int, size: int) -> dict[str, Tensor]:
        """The square window whose upper left pixel is (row, col).

        Returns:
            ``image``, float32, 0 where nodata is, and ``mask``, int64, 255 where a band of any date is nodata or there
            is no label.

        Raises:
            RasterError: A file cannot be read, or the mask holds a value that was not declared.
        """
        dates = [image.read(self.bands.numbers, row, col, size, size) for image in self.images]
        with np.errstate(over='ignore'):
            values = np.stack([date.values.astype(np.float32) for date in dates])
        # What is too large for float32 is infinite now
        valid = np.stack([date.valid for date in dates]) & np.isfinite(values)
        values[~valid] = 0
        labels = np.where(valid.all((0, 1)), self.labels(row, col, size, size), IGNORE_INDEX)
        if len(dates) == 1:
            return {'image': torch.from_numpy(values[0]), 'mask': torch.from_numpy(labels)}
        return {'image': torch.from_numpy(values), 'mask': torch.from_numpy(labels[None])}

    def origins(
        self, row: int, col: int, height: int, width: int, *, size: int, overlap: float, min_labelled: float = 0.0
    ) -> list[tuple[int, int]]:
        """Upper left pixels of the patches of ``size`` px that cover a window and have labels on enough pixels.

        Args:
            row: First row of the window.
            col: Its first column.
            height: Its height [px].
            width: Its width [px].
            size: Height and width of a patch [px].
            overlap: Share of a patch that its neighbour covers too.
            min_labelled: Smallest share of pixels with a label; above 0, the mask is read.

        Raises:
            RasterError: The mask cannot be read.
            SpecDMError: No patch fits, or the overlap is out of range.
        """
        try:
            origins = patch_origins(height, width, size, overlap)
        except SpecDMError as error:
            raise SpecDMError(f'{self.mask.path}: {error}') from error
        if min_labelled > 0:
            labelled = self.labels(row, col, height, width) != IGNORE_INDEX
            origins = [(r, c) for r, c in origins if np.mean(labelled[r : r + size, c : c + size]) >= min_labelled]
        return [(row + r, col + c) for r, c in origins]

    def labels(self, row: int, col: int, height: int, width: int) -> NDArray[np.int64]:
        """The class index of each pixel of a window, ``(height, width)``."""
        values, where = np.unique(self.mask.read([0], row, col, height, width).values, return_inverse=True)
        kept = values.tolist()
        # A float mask has NaN where it is blank
        blank = {self.mask.nodata} | {value for value in kept if value != value}
        codes = dict.fromkeys(blank, IGNORE_INDEX) | dict(self.codes)
        if unknown := [value for value in kept if value not in codes]:
            raise RasterError(
                f'{self.mask.path} holds {", ".join(f"{value:g}" for value in unknown[:5])}, which is neither among '
                'the classes nor ignored: declare it in one of the two'
            )
        found: NDArray[np.int64] = np.array([codes[value] for value in kept], np.int64)[where]
        return found.reshape(height, width)


def open_pair(images: Sequence[str], mask: str, declared: Declared) -> LabelledRaster:
    """Open the images of one place, one per date, and their mask; no pixel is read.

    Args:
        images: Files, or ``FILE#VARIABLE``.
        mask: Likewise.
        declared: What is known of them.

    Raises:
        RasterError: A file is missing or cannot be read, or they do not lie on one grid.
        SpecDMError: A band or unit is neither declared nor in the files.
    """
    rasters, target = open_rasters(images, mask)
    for raster in rasters:
        _require_one_grid(raster, target)
    bands = [choose_bands(raster, declared) for raster in rasters]
    require_like(bands[0], bands[-1], rasters[0].path, rasters[-1].path)
    return LabelledRaster(tuple(rasters), target, bands[0], declared.codes)


def open_rasters(images: Sequence[str], mask: str) -> tuple[list[Raster], Raster]:
    """The images of one place and their mask, as :func:`open_pair` opens them; nothing is compared.

    Raises:
        RasterError: A file is missing or cannot be read.
    """
    target = open_mask(mask) if _is_array(mask) else open_raster(mask)
    rasters = [open_image(name, target.shape) if _is_array(name) else open_raster(name) for name in images]
    return rasters, target


def _is_array(name: str) -> bool:
    return name.partition('#')[0].endswith(SUFFIXES)


def _require_one_grid(image: Raster, mask: Raster) -> None:
    if len(mask.names) != 1:
        raise RasterError(f'{mask.path} has {len(mask.names)} bands; a mask has one, whose values are the classes')
    if image.shape != mask.shape:
        raise RasterError(f'{image.path} is {image.shape} px and its mask {mask.path} {mask.shape} px')
    if image.place and mask.place:
        (crs, grid), (other_crs, other_grid) = image.place, mask.place
        corners = ((0, 0), image.shape[::-1])
        apart = [
            abs(a - b)
            for at in corners
            for a, b in zip(_on_ground(grid, *at), _on_ground(other_grid, *at), strict=True)
        ]
        if crs != other_crs or max(apart) > max(abs(grid.a), abs(grid.b)) / 2:
            raise RasterError(f'{image.path} and its mask {mask.path} lie on different grids: warp one to the other')


def _on_ground(grid: Affine, column: float, row: float) -> tuple[float, float]:
    # The product of the library is written as * or as @, depending on its release
    return grid.a * column + grid.b * row + grid.c, grid.d * column + grid.e * row + grid.f


def choose_bands(raster: Raster, declared: Declared) -> Bands:
    """The bands of a raster that are declared.

    Raises:
        SpecDMError: A band is not there, or names, wavelengths or unit are neither in the file nor declared.
    """
    count = len(raster.names)
    for what in ('band_names', 'wavelengths'):
        given = getattr(declared, what)
        if given is not None and len(given) != count:
            raise SpecDMError(f'{what} has {len(given)} entries for the {count} bands of {raster.path}')
    known = raster.wavelengths if declared.wavelengths is None else tuple(declared.wavelengths)
    names = raster.names if declared.band_names is None else tuple(declared.band_names)
    names = tuple(name or (f'{nm:g} nm' if nm is not None else '') for name, nm in zip(names, known, strict=True))
    wanted = range(count) if declared.bands is None else [_find(b, names, known, raster.path) for b in declared.bands]
    numbers = [number for number in wanted if not _excluded(known[number], declared, raster.path)]
    if not numbers or len(set(numbers)) < len(numbers):
        raise SpecDMError(f'bands and exclude leave {len(numbers)} bands of {raster.path}, or one band twice')
    if nameless := [str(number + 1) for number in numbers if not names[number]]:
        raise SpecDMError(f'{raster.path} gives its band {nameless[0]} no name: declare band_names, one for each band')
    chosen = tuple(nm for number in numbers if (nm := known[number]) is not None)
    return Bands(
        tuple(numbers),
        tuple(names[number] for number in numbers),
        chosen if len(chosen) == len(numbers) else None,
        declared.unit or _unit(raster, numbers),
    )


def _find(band: float | str, names: Sequence[str], wavelengths: Sequence[float | None], path: str) -> int:
    if isinstance(band, str):
        if names.count(band) != 1:
            known = ', '.join(name or '(no name)' for name in names)
            raise SpecDMError(f'{path} has {names.count(band) or "no"} bands called {band!r}; it has {known}')
        return names.index(band)
    near = {abs(nm - band): number for number, nm in reversed(list(enumerate(wavelengths))) if nm is not None}
    if not near or min(near) > _TOLERANCE:
        known = f'the nearest is {min(near):g} nm away' if near else 'no band says its wavelength: declare wavelengths'
        raise SpecDMError(f'{path} has no band at {band:g} nm; {known}')
    return near[min(near)]


def _excluded(wavelength: float | None, declared: Declared, path: str) -> bool:
    if not declared.exclude:
        return False
    if wavelength is None:
        raise SpecDMError(f'exclude needs the wavelength of each band, which {path} does not say: declare wavelengths')
    return any(low <= wavelength <= high for low, high in declared.exclude)


def _unit(raster: Raster, numbers: Sequence[int]) -> str:
    units = {raster.units[number] for number in numbers}
    if units == {''} or len(units) > 1:
        found = 'does not say what its values are' if units == {''} else f'has the units {", ".join(sorted(units))}'
        raise SpecDMError(f'{raster.path} {found}: declare the unit ("surface reflectance", "radiance [W/m2/sr/um]")')
    return units.pop()


def require_like(first: Bands, other: Bands, path: str, other_path: str) -> None:
    """Refuse a raster whose bands are others than those of the first one.

    Raises:
        RasterError: Names both files, and what differs.
    """
    for what in ('numbers', 'names', 'wavelengths', 'unit'):
        mine, theirs = getattr(first, what), getattr(other, what)
        if mine != theirs:
            raise RasterError(
                f'{path} and {other_path} have different {what} of bands ({mine} and {theirs}): store them alike'
            )


def describe(pairs: Sequence[LabelledRaster], declared: Declared, patch_size: int) -> DatasetSpec:
    """The spec of patches of labelled rasters that agree.

    Raises:
        SpecDMError: What is declared contradicts itself.
    """
    first = pairs[0]
    return DatasetSpec(
        name=declared.name,
        task='change' if len(first.images) == 2 else 'segmentation',
        bands=first.bands.names,
        classes=declared.class_names,
        patch_size=patch_size,
        unit=first.bands.unit,
        scale=declared.scale,
        value_range=declared.value_range,
        dtype=declared.dtype or str(np.result_type(*(image.dtype for pair in pairs for image in pair.images))),
        wavelengths=first.bands.wavelengths,
        ignore_index=IGNORE_INDEX,
        gsd=declared.gsd or first.images[0].gsd,
        licence=declared.licence,
        attribution=declared.attribution,
    )
