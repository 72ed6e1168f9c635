"""Where exported samples are said to lie. They show no place on Earth, so the place is always an invention.

By default the coordinate system says so itself: it is an engineering one, without any relation to the Earth. Samples
lie side by side, so that software which asks for extents tells them apart.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyproj
import rasterio.crs
from pyproj.exceptions import CRSError
from rasterio.errors import CRSError as RasterioCRSError
from rasterio.transform import Affine

from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.spec import DatasetSpec

_COLUMNS = 100
_FICTITIOUS = (
    'ENGCRS["Fictitious grid of synthetic samples",EDATUM["Nowhere on Earth"],CS[Cartesian,2],'
    'AXIS["(E)",east,ORDER[1]],AXIS["(N)",north,ORDER[2]],LENGTHUNIT["metre",1]]'
)


@dataclass(frozen=True)
class Grid:
    """A plane with one tile per sample, in rows of 100 from left to right, row below row.

    Attributes:
        crs: Coordinate system in any words that pyproj knows (``EPSG:32632``); by default a fictitious one in metres.
        transform: From column and row of sample 0 [px] to coordinates, the six numbers a b c d e f of an affine
            transform as rasterio orders them: ``(10, 0, left, 0, -10, top)`` has pixels of 10 units. By default a
            pixel has the size of the dataset's [m], or 1, and the first sample begins a tile right of the origin.

    Raises:
        SpecDMError: The coordinate system is unknown or without a transform, or the transform is degenerate.
    """

    crs: str | None = None
    transform: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.crs is not None and self.transform is None:
            raise SpecDMError(
                f'the CRS {self.crs} needs a transform: six numbers, such as 10 0 LEFT 0 -10 TOP for pixels of 10 units'
            )
        if self.transform is not None:
            values = [float(value) for value in self.transform]
            if len(values) != 6 or not all(map(math.isfinite, values)) or Affine(*values).is_degenerate:
                raise SpecDMError(f'the transform {values} must be six numbers a b c d e f that give pixels an area')
        _ = self._rasterio_crs

    @property
    def note(self) -> str:
        """What the files say of the grid."""
        what = 'fictitious' if self.crs is None else 'chosen by the user'
        return f'{what}; the sample is synthetic and shows no place on Earth'

    def place(self, index: int, spec: DatasetSpec) -> dict[str, Any]:
        """``crs`` and ``transform`` of a sample, as rasterio takes them."""
        row, column = divmod(index, _COLUMNS)
        size, pixel = spec.patch_size, spec.gsd or 1.0
        # Not at the origin: with pixels of 1 that would be the identity, which GDAL takes for none
        default = (pixel, 0, size * pixel, 0, -pixel, 0)
        a, b, c, d, e, f = default if self.transform is None else self.transform
        x, y = column * size, row * size
        return {'crs': self._rasterio_crs, 'transform': Affine(a, b, c + a * x + b * y, d, e, f + d * x + e * y)}

    def to_dict(self) -> dict[str, Any]:
        """What the user chose, as JSON types."""
        return {'crs': self.crs, 'transform': self.transform and [float(value) for value in self.transform]}

    @cached_property
    def _rasterio_crs(self) -> Any:
        try:
            return rasterio.crs.CRS.from_wkt(pyproj.CRS.from_user_input(self.crs or _FICTITIOUS).to_wkt())
        except (CRSError, RasterioCRSError) as error:
            reason = str(error).splitlines()[0]
            raise SpecDMError(f'the CRS {self.crs!r} is unknown ({reason}): name one such as EPSG:32632') from error
