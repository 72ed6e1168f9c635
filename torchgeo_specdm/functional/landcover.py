"""Land cover of Sentinel-2 by a rule, so that a label is exact by construction: a known function of the spectrum.

With r the reflectance, brightness = mean(r_B02, r_B03, r_B04) and normalised differences (a - b) / (a + b), namely
NDVI (B08, B04), NDWI (B03, B08) and NDBI (B11, B08), a pixel is *bare*, and then what the last of these lines says that
applies to it::

    sparse vegetation   NDVI > 0.3
    dense vegetation    NDVI > 0.5
    built-up or dry     NDVI <= 0.3, NDBI > 0, brightness < 0.22
    bright surface      NDVI <= 0.3, brightness >= 0.22
    water               NDWI > 0, r_B08 < 0.15

The majority of a window makes regions of what would be noise. The rule is no map of anything: its point is that it can
be applied to a synthetic image, and then says exactly whether image and mask belong together.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from torchgeo_specdm.errors import SpecDMError

LAND_COVER_BANDS = ('B02', 'B03', 'B04', 'B08', 'B11')
LAND_COVER_CLASSES = (
    'water',
    'sparse vegetation',
    'dense vegetation',
    'bare',
    'built-up or dry',
    'bright surface',
)
_WATER, _SPARSE, _DENSE, _BARE, _BUILT, _BRIGHT = range(len(LAND_COVER_CLASSES))


def land_cover(image: Tensor, bands: Sequence[str], window: int = 7) -> Tensor:
    """The class of each pixel: the rule, then the majority around it.

    Args:
        image: ``(..., C, H, W)`` [reflectance]; negative values count as 0.
        bands: Names of the C bands, B02, B03, B04, B08 and B11 among them.
        window: Height and width of the window of the majority [px], odd; 1 leaves the rule alone.

    Returns:
        ``(..., H, W)`` int64, numbered as :data:`LAND_COVER_CLASSES`.

    Raises:
        SpecDMError: A band is missing, or the window has no centre.
    """
    return majority(pixel_land_cover(image, bands), len(LAND_COVER_CLASSES), window)


def pixel_land_cover(image: Tensor, bands: Sequence[str]) -> Tensor:
    """The rule, pixel by pixel; arguments and result as of :func:`land_cover`.

    Raises:
        SpecDMError: A band is missing.
    """
    if missing := [band for band in LAND_COVER_BANDS if band not in bands]:
        raise SpecDMError(f'land cover needs {", ".join(missing)}, which is not among the bands {", ".join(bands)}')
    channels = [list(bands).index(band) for band in LAND_COVER_BANDS]
    blue, green, red, nir, swir = (image.select(-3, channel).clamp_min(0) for channel in channels)
    brightness = (blue + green + red) / 3
    # Multiplied out, because a black pixel has no normalised difference
    sparse = nir - red > 0.3 * (nir + red)
    mask = torch.full(nir.shape, _BARE, device=image.device)
    mask.masked_fill_(sparse, _SPARSE)
    mask.masked_fill_(nir - red > 0.5 * (nir + red), _DENSE)
    mask.masked_fill_(~sparse & (swir > nir) & (brightness < 0.22), _BUILT)
    mask.masked_fill_(~sparse & (brightness >= 0.22), _BRIGHT)
    return mask.masked_fill_((green > nir) & (nir < 0.15), _WATER)


def majority(mask: Tensor, num_classes: int, window: int) -> Tensor:
    """The most frequent class in a window around each pixel; of equally frequent ones, the first.

    Windows end at the border.

    Args:
        mask: ``(..., H, W)`` of classes 0 to K - 1.
        num_classes: Number of classes, K.
        window: Height and width of the window [px], odd.

    Returns:
        ``(..., H, W)`` int64.

    Raises:
        SpecDMError: The window has no centre.
    """
    if window < 1 or window % 2 == 0:
        raise SpecDMError(f'window is {window} px; it must be odd, so that it has a centre')
    height, width = mask.shape[-2:]
    # 16 bits are faster to add, and hold what any sensible window needs
    kind = torch.int16 if num_classes * window**2 < 2**15 else torch.int32
    members = torch.stack([mask == number for number in range(num_classes)]).to(kind)
    members = pad(members, (window // 2,) * 4)
    rows = torch.zeros_like(members[..., :height, :])
    for start in range(window):
        rows += members[..., start : start + height, :]
    counts = torch.zeros_like(rows[..., :width])
    for start in range(window):
        counts += rows[..., start : start + width]
    # One number holds count and class: the largest is the most frequent and, of equals, the first class
    numbers = torch.arange(num_classes, dtype=kind, device=mask.device).view(-1, *(1,) * mask.ndim)
    best = (num_classes * counts + (num_classes - 1 - numbers)).amax(0)
    return (num_classes - 1 - best % num_classes).long()
