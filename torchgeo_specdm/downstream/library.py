"""Models of segmentation-models-pytorch and TorchGeo, by the names that TorchGeo's tasks give them.

TorchGeo is imported by those that are its own, the others do without.
"""

from typing import Any

import segmentation_models_pytorch as smp
from torch import Tensor, nn

from torchgeo_specdm.downstream.base import DenseModel
from torchgeo_specdm.downstream.resnet import require_weights
from torchgeo_specdm.spec import Task, fold_dates


class StackedModel(DenseModel):
    """A segmentation network; the dates of change detection are stacked as bands, as TorchGeo does it.

    Args:
        num_bands: Bands of one date.
        num_classes: K.
        task: Decides how many dates there are.
        backbone: Any encoder of segmentation-models-pytorch.
        weights: ``imagenet`` or None.

    Raises:
        SpecDMError: There are no such weights.
    """

    architecture: type[Any]

    def __init__(
        self,
        num_bands: int,
        num_classes: int,
        *,
        task: Task = 'segmentation',
        backbone: str = 'resnet50',
        weights: str | None = None,
    ) -> None:
        super().__init__(num_bands, num_classes)
        require_weights(weights)
        self.num_dates = 2 if task == 'change' else 1
        network = self.architecture(
            backbone, encoder_weights=weights, in_channels=self.num_dates * num_bands, classes=num_classes
        )
        self.encoder, self.decoder, self.head = network.encoder, network.decoder, network.segmentation_head

    def logits(self, image: Tensor) -> Tensor:
        """``(B, C, H, W)`` or ``(B, 2, C, H, W)`` to ``(B, K, H, W)``."""
        return self.head(self.decoder(self.encoder(fold_dates(image))))  # type: ignore[no-any-return]


class UNet(StackedModel):
    """U-Net (Ronneberger et al., MICCAI 2015)."""

    architecture = smp.Unet


class DeepLabV3Plus(StackedModel):
    """DeepLabV3+ (Chen et al., ECCV 2018)."""

    architecture = smp.DeepLabV3Plus


class UPerNet(StackedModel):
    """UPerNet (Xiao et al., ECCV 2018)."""

    architecture = smp.UPerNet


class TorchGeoChangeModel(DenseModel):
    """A network of TorchGeo that takes ``(B, 2, C, H, W)``.

    Args:
        num_bands: Bands of one date.
        num_classes: K.
        network: The network.
        multiple: Height and width must be multiples of it [px].
    """

    num_dates = 2

    def __init__(self, num_bands: int, num_classes: int, network: nn.Module, multiple: int) -> None:
        super().__init__(num_bands, num_classes)
        self.multiple = multiple
        self.network = network

    @property
    def encoder(self) -> nn.Module:  # type: ignore[override]
        """What sees each date."""
        return self.network.encoder  # type: ignore[return-value]

    @property
    def decoder(self) -> nn.Module:  # type: ignore[override]
        """What sees the features of both dates."""
        return self.network.decoder  # type: ignore[return-value]

    def logits(self, image: Tensor) -> Tensor:
        """``(B, 2, C, H, W)`` to ``(B, K, H, W)``."""
        return self.network(image)  # type: ignore[no-any-return]


def fcsiamdiff(
    num_bands: int, num_classes: int, *, backbone: str = 'resnet50', weights: str | None = None
) -> DenseModel:
    """FC-Siam-diff (Caye Daudt et al., ICIP 2018), TorchGeo's."""
    return _fcsiam('FCSiamDiff', num_bands, num_classes, backbone, weights)


def fcsiamconc(
    num_bands: int, num_classes: int, *, backbone: str = 'resnet50', weights: str | None = None
) -> DenseModel:
    """FC-Siam-conc (Caye Daudt et al., ICIP 2018), TorchGeo's."""
    return _fcsiam('FCSiamConc', num_bands, num_classes, backbone, weights)


def _fcsiam(kind: str, num_bands: int, num_classes: int, backbone: str, weights: str | None) -> DenseModel:
    from torchgeo import models

    require_weights(weights)
    make = getattr(models, kind)
    network = make(encoder_name=backbone, encoder_weights=weights, in_channels=num_bands, classes=num_classes)
    return TorchGeoChangeModel(num_bands, num_classes, network, 32)


def changevit(
    num_bands: int, num_classes: int, *, backbone: str = 'vit_small_patch16_224', weights: str | None = None
) -> DenseModel:
    """ChangeViT (Zhu et al., 2024), TorchGeo's; the backbone is a plain vision transformer of timm."""
    from torchgeo.models import ChangeViT

    require_weights(weights)
    network = ChangeViT(backbone, in_channels=num_bands, num_classes=num_classes, pretrained=weights is not None)
    return TorchGeoChangeModel(num_bands, num_classes, network, network.encoder.patch_embed.patch_size[0])
