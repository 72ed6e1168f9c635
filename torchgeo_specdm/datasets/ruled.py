"""What images of Sentinel-2 are called whose masks are land cover by the rule of ``functional/landcover.py``."""

from collections.abc import Sequence
from dataclasses import replace

from torchgeo_specdm.functional.landcover import LAND_COVER_CLASSES
from torchgeo_specdm.spec import DatasetSpec

_PALETTE = {
    'water': (60, 140, 230),
    'sparse vegetation': (166, 217, 106),
    'dense vegetation': (26, 120, 50),
    'bare': (205, 170, 110),
    'built-up or dry': (200, 60, 60),
    'bright surface': (240, 230, 210),
}


def land_cover_spec(scenes: DatasetSpec, bands: Sequence[str]) -> DatasetSpec:
    """The spec of land cover on OSCD's imagery; no label of OSCD is in the data, and its licence does not apply.

    Args:
        scenes: Describes OSCD.
        bands: The first of its bands, those of a sample.
    """
    assert scenes.wavelengths is not None
    return replace(
        scenes,
        name='OSCD landcover',
        task='segmentation',
        bands=tuple(bands),
        wavelengths=scenes.wavelengths[: len(bands)],
        classes=LAND_COVER_CLASSES,
        palette=tuple(_PALETTE[name] for name in LAND_COVER_CLASSES),
        licence='Copernicus Sentinel data terms',
        attribution='Contains modified Copernicus Sentinel data 2015-2018',
    )
