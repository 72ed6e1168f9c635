"""GeoTIFF of any dataset: ``image/000000.tif`` (``_t1``, ``_t2`` for two dates) and ``mask/000000.tif``.

:class:`~torchgeo_specdm.datasets.exported.ExportedPairs` reads them.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from torchgeo_specdm.datasets.exported import sample_files
from torchgeo_specdm.exporting.base import Format, Item, Write
from torchgeo_specdm.exporting.raster import class_tags, palette, write_raster


class GeoTIFF(Format):
    """One raster per date, with all its bands, and one for the mask."""

    name = 'geotiff'

    def files(self, unit: int) -> dict[str, Write]:  # noqa: D102
        images, mask = sample_files(Path(), unit, self.spec)
        dates: dict[str, Write] = {path.as_posix(): partial(self._image, date) for date, path in enumerate(images)}
        return dates | {mask.as_posix(): self._mask}

    def _image(self, date: int, path: Path, items: Sequence[Item]) -> None:
        (item,), spec = items, self.spec
        write_raster(
            path,
            item.image[date],
            self.grid.place(item.index, spec),
            {**item.tags, 'SCALE': spec.scale},
            bands=spec.bands,
            wavelengths=spec.wavelengths,
            unit=spec.unit,
        )

    def _mask(self, path: Path, items: Sequence[Item]) -> None:
        (item,), spec = items, self.spec
        write_raster(
            path,
            item.mask[None],
            self.grid.place(item.index, spec),
            {**item.tags, **class_tags(spec)},
            bands=('class',),
            nodata=spec.ignore_index,
            colors=palette(spec),
        )
