"""The files of SegMunich's train split, which :class:`~torchgeo_specdm.datasets.SegMunich` reads."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from torchgeo_specdm.datasets.segmunich import segmunich_spec
from torchgeo_specdm.datasets.segmunich_files import CODES
from torchgeo_specdm.exporting.base import Format, Item, Write, differences
from torchgeo_specdm.exporting.raster import class_tags, palette, write_raster
from torchgeo_specdm.sensors import SENTINEL2_L1C, SPECDM_BANDS

_CODE_OF_CLASS = np.array([code for code, _ in sorted(CODES.items(), key=lambda pair: pair[1])], np.uint8)


class SegMunichLayout(Format):
    """``train/img`` (ten bands, float32), ``train/label`` (palette images of codes) and ``dataset/train.txt``."""

    name = 'segmunich'

    def files(self, unit: int) -> dict[str, Write]:  # noqa: D102
        stem = _stem(unit)
        return {f'train/img/{stem}.tif': self._image, f'train/label/{stem}.tif': self._label}

    def lists(self, count: int) -> dict[str, str]:  # noqa: D102
        return {'dataset/train.txt': '\n'.join([*map(_stem, range(count)), ''])}

    def misfits(self) -> list[str]:  # noqa: D102
        # Files have one order of the bands, a spec may have another
        complete = sorted(self.spec.bands) == sorted(SPECDM_BANDS)
        return differences(segmunich_spec(self.spec.bands if complete else SPECDM_BANDS), self.spec)

    def _image(self, path: Path, items: Sequence[Item]) -> None:
        (item,), spec = items, self.spec
        write_raster(
            path,
            item.image[0, [spec.bands.index(band) for band in SPECDM_BANDS]].astype(np.float32),
            self.grid.place(item.index, spec),
            {**item.tags, 'SCALE': spec.scale},
            bands=SPECDM_BANDS,
            wavelengths=[SENTINEL2_L1C.band(band).wavelength for band in SPECDM_BANDS],
            unit=spec.unit,
        )

    def _label(self, path: Path, items: Sequence[Item]) -> None:
        (item,), spec = items, self.spec
        codes = _CODE_OF_CLASS.tolist()
        write_raster(
            path,
            _CODE_OF_CLASS[item.mask][None],
            self.grid.place(item.index, spec),
            {**item.tags, **class_tags(spec, codes)},
            bands=('code',),
            colors=palette(spec, codes),
        )


def _stem(index: int) -> str:
    return f'synthetic_{index:06d}'
