"""Images and masks as the photographs that RGB networks know.

The bands nearest to red, green and blue become shares of the dataset's value range and go through the transfer
function of sRGB (IEC 61966-2-1), in which photographs are encoded as well: dark ground is spread, clouds do not
saturate, and one exposure serves all images, so that radiometry counts. Masks are drawn in the dataset's palette.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from torchgeo_specdm.extractors.base import scale_to_unit
from torchgeo_specdm.plotting import rgb_bands, to_colors
from torchgeo_specdm.spec import DatasetSpec


def render_images(image: Tensor, spec: DatasetSpec) -> Tensor:
    """Images ``(B, C, H, W)`` in raw units as sRGB ``(B, 3, H, W)`` between 0 and 1."""
    linear = scale_to_unit(image[:, list(rgb_bands(spec))], spec).clamp(0, 1)
    return torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp_min(1e-9) ** (1 / 2.4) - 0.055)


def palette(spec: DatasetSpec) -> Tensor:
    """Colours of all classes and, last, of pixels without one, ``(K + 1, 3)`` between 0 and 1."""
    return torch.from_numpy(to_colors(torch.arange(spec.num_classes + 1).unsqueeze(0), spec)[0]).float()


def render_masks(mask: Tensor, spec: DatasetSpec) -> Tensor:
    """Masks ``(B, H, W)`` as colours ``(B, 3, H, W)`` between 0 and 1."""
    labelled = (mask >= 0) & (mask < spec.num_classes)
    index = torch.where(labelled, mask, spec.num_classes)
    return palette(spec).to(mask.device)[index].movedim(-1, 1)


def resize_images(image: Tensor, size: int) -> Tensor:
    """Images ``(B, C, H, W)`` at ``size`` px; bilinear, with antialiasing where they shrink."""
    return interpolate(image, (size, size), mode='bilinear', antialias=True)


def resize_masks(picture: Tensor, size: int) -> Tensor:
    """Pictures of masks ``(B, 3, H, W)`` at ``size`` px; nearest neighbour, as there is no class between two."""
    return interpolate(picture, (size, size), mode='nearest-exact')


def describe_images(spec: DatasetSpec) -> dict[str, Any]:
    """What :func:`render_images` does, as JSON types."""
    return {
        'bands': [spec.bands[band] or band for band in rgb_bands(spec)],
        'stretch': {'value_range': list(spec.value_range), 'transfer': 'sRGB', 'clipped': True},
    }


def describe_masks(spec: DatasetSpec) -> dict[str, Any]:
    """What :func:`render_masks` does, as JSON types."""
    *classes, unlabelled = (255 * palette(spec)).round().int().tolist()
    return {'palette': classes, 'unlabelled': unlabelled}
