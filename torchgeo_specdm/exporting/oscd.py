"""The files of OSCD's train split, each sample a city of its own, as this package's OSCD and TorchGeo's read them."""

import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from torchgeo_specdm.datasets.oscd import OSCD, TITLE, oscd_spec
from torchgeo_specdm.exporting.base import Format, Item, Write, differences
from torchgeo_specdm.exporting.grid import Grid
from torchgeo_specdm.exporting.raster import write_raster
from torchgeo_specdm.sensors import SENTINEL2_L1C
from torchgeo_specdm.spec import DatasetSpec


class OSCDLayout(Format):
    """The release with registered bands: ``imgs_1_rect/B02.tif``, ``dates.txt`` and ``cm/cm.png``.

    TorchGeo's class finds a band by its place among all 13, so there is a file of each. Bands that the dataset has not
    are zero and declared as nodata.
    """

    name = 'oscd'

    def __init__(self, spec: DatasetSpec, grid: Grid | None = None, shard_size: int | None = None) -> None:
        super().__init__(spec, grid, shard_size)
        if absent := [band for band in OSCD.all_bands if band not in spec.bands]:
            warnings.warn(
                f'the samples have no band {", ".join(absent)}, which the format oscd holds as zeros: read them '
                f'with bands={spec.bands}',
                stacklevel=2,
            )

    def files(self, unit: int) -> dict[str, Write]:  # noqa: D102
        images = f'{TITLE} - Images/{_city(unit)}'
        bands: dict[str, Write] = {
            f'{images}/imgs_{date}_rect/{band}.tif': partial(self._band, date, band)
            for date in (1, 2)
            for band in OSCD.all_bands
        }
        # A reader lists the labels, so they come last
        labels: dict[str, Write] = {f'{TITLE} - Train Labels/{_city(unit)}/cm/cm.png': self._mask}
        return bands | {f'{images}/dates.txt': _write_dates} | labels

    def lists(self, count: int) -> dict[str, str]:  # noqa: D102
        return {f'{TITLE} - Images/train.txt': ','.join(map(_city, range(count)))}

    def misfits(self) -> list[str]:  # noqa: D102
        known = set(self.spec.bands) <= set(OSCD.all_bands)
        fitting = oscd_spec(self.spec.bands if known else OSCD.all_bands, self.spec.patch_size)
        lines = differences(fitting, self.spec)
        if self.spec.dtype not in ('uint8', 'uint16'):
            lines.append(f'dtype: {fitting.dtype} against {self.spec.dtype}')
        return lines

    def _band(self, date: int, band: str, path: Path, items: Sequence[Item]) -> None:
        (item,), spec = items, self.spec
        present = band in spec.bands
        values = item.image[date - 1, spec.bands.index(band)] if present else np.zeros(item.mask.shape)
        tags: dict[str, Any] = {**item.tags, 'SCALE': spec.scale}
        write_raster(
            path,
            values[None].astype(np.uint16),
            self.grid.place(item.index, spec),
            tags if present else tags | {'ABSENT': 'this band was not generated'},
            bands=(band,),
            wavelengths=[SENTINEL2_L1C.band(band).wavelength],
            unit=spec.unit,
            nodata=None if present else 0,
        )

    def _mask(self, path: Path, items: Sequence[Item]) -> None:
        (item,) = items
        texts = PngImagePlugin.PngInfo()
        for name, value in {**item.tags, 'CLASS_0': 'no change', 'CLASS_255': 'change'}.items():
            texts.add_text(name, str(value))
        Image.fromarray((255 * item.mask).astype(np.uint8)).save(path, 'PNG', pnginfo=texts)


def _city(index: int) -> str:
    return f'synthetic{index:06d}'


def _write_dates(path: Path, items: Sequence[Item]) -> None:
    # Readers take the last word of each line; a synthetic image has no date
    path.write_text('date_1: synthetic\ndate_2: synthetic\n', encoding='utf-8')
