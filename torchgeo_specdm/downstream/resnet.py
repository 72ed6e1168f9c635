"""ResNet backbones of any number of bands, from timm."""

from typing import Any

import timm
from torch import nn

from torchgeo_specdm.errors import SpecDMError

BACKBONES = ('resnet18', 'resnet34', 'resnet50', 'resnet101')


def make_resnet(backbone: str, num_bands: int, weights: str | None) -> tuple[nn.Module, list[int]]:
    """A ResNet (He et al., CVPR 2016) without its classifier.

    Args:
        backbone: One of :data:`BACKBONES`.
        num_bands: C.
        weights: ``imagenet`` loads timm's weights, of which the first layer is adapted to the bands, or None.

    Returns:
        The network, from ``(B, C, H, W)`` to features at 1/4, 1/8, 1/16 and 1/32 of the resolution, and their channels.

    Raises:
        SpecDMError: There is no such backbone or weights.
    """
    if backbone not in BACKBONES:
        raise SpecDMError(f'backbone is {backbone!r}; it must be one of {", ".join(BACKBONES)}')
    require_weights(weights)
    network: Any = timm.create_model(
        backbone, features_only=True, out_indices=(1, 2, 3, 4), in_chans=num_bands, pretrained=weights is not None
    )
    return network, network.feature_info.channels()


def require_weights(weights: str | None) -> None:
    """Refuse weights that are neither None nor ``imagenet``.

    Raises:
        SpecDMError: Says what there is.
    """
    if weights not in (None, 'imagenet'):
        raise SpecDMError(f"weights is {weights!r}; it must be 'imagenet' or None. Others: use TorchGeo's own task")
