"""PFSegNet: a feature pyramid in which semantics flow downwards through points.

Li et al., "PointFlow: Flowing Semantics Through Points for Aerial Image Segmentation", CVPR 2021,
https://arxiv.org/abs/2103.06564. The backbone is a plain ResNet, without its authors' dilation and deep stem.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from torchgeo_specdm.downstream.base import DenseModel, resize
from torchgeo_specdm.downstream.pointflow import PointFlow, balanced_boundary_loss
from torchgeo_specdm.downstream.resnet import make_resnet

# Channels of the pyramid
WIDTH = 256


def _convolution(channels: int, width: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(width), nn.ReLU()
    )


class PyramidPooling(nn.Module):
    """Features and their means over 1, 2 x 2, 3 x 3 and 6 x 6 cells (Zhao et al., CVPR 2017, section 3.2)."""

    def __init__(self, channels: int, width: int, cells: Sequence[int] = (1, 2, 3, 6)) -> None:
        super().__init__()
        self.means = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(count), nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width))
            for count in cells
        )
        self.fuse = nn.Sequential(_convolution(channels + len(cells) * width, width, 1), nn.Dropout2d(0.1))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, channels, H, W)`` to ``(B, width, H, W)``."""
        return self.fuse(torch.cat([x, *(resize(mean(x), x) for mean in self.means)], 1))  # type: ignore[no-any-return]


class PointFlowPyramid(nn.Module):
    """The decoder: pyramid pooling of the coarsest features, then a PointFlow module from each scale to the next.

    Args:
        channels: Channels of the features, from the highest resolution to the lowest.
        num_classes: K.
        salient_cells: As for :class:`~torchgeo_specdm.downstream.pointflow.PointFlow`, like the next two.
        boundary_cells: See there.
        boundary_points: See there.
    """

    def __init__(
        self, channels: Sequence[int], num_classes: int, salient_cells: int, boundary_cells: int, boundary_points: int
    ) -> None:
        super().__init__()
        self.pool = PyramidPooling(channels[-1], WIDTH)
        self.lateral = nn.ModuleList(_convolution(each, WIDTH, 1) for each in channels[:-1])
        self.flows = nn.ModuleList(
            PointFlow(WIDTH, 64, salient_cells, boundary_cells, boundary_points) for _ in channels[:-1]
        )
        self.smooth = nn.ModuleList(_convolution(WIDTH, WIDTH, 3) for _ in channels[:-1])
        self.head = nn.Sequential(_convolution(len(channels) * WIDTH, WIDTH, 3), nn.Conv2d(WIDTH, num_classes, 1))

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Returns logits and boundary maps.

        Args:
            features: ``(B, C_i, H / 2^(i+2), W / 2^(i+2))``, i = 0 ... 3.

        Returns:
            Logits ``(B, K, H / 4, W / 4)``, and boundary logits ``(B, 1, H / s, W / s)`` for s = 32, 16, 8.
        """
        x = self.pool(features[-1])
        levels, edges = [x], []
        parts = list(zip(self.lateral, self.flows, self.smooth, features[:-1], strict=True))
        for lateral, flow, smooth, scale in reversed(parts):
            fine = lateral(scale)
            moved, edge = flow(x, fine)
            x = fine + moved
            levels.append(smooth(x))
            edges.append(edge)
        finest = levels[-1]
        return self.head(torch.cat([resize(level, finest) for level in reversed(levels)], 1)), edges


class PFSegNet(DenseModel):
    """PFSegNet for semantic segmentation.

    Features ``(B, C_i, H / 2^(i+2), W / 2^(i+2))``, with ResNet-50 of 256, 512, 1024 and 2048 channels; pyramid of 256
    channels at the same scales; logits ``(B, K, H/4, W/4)``, interpolated to ``(B, K, H, W)``. Batch normalisation of
    the image's mean needs more than one image in a train batch.

    Args:
        num_bands: C.
        num_classes: K.
        backbone: One of :data:`~torchgeo_specdm.downstream.resnet.BACKBONES`.
        weights: ``imagenet`` or None.
        salient_cells: Cells per side of the grid whose maxima are salient points; as its authors train on iSAID, like
            the next ones.
        boundary_cells: Cells per side over which saliency is averaged.
        boundary_points: Points on boundaries.
        boundary_weight: Weight of the boundary loss.

    Raises:
        SpecDMError: There is no such backbone or weights.
    """

    def __init__(
        self,
        num_bands: int,
        num_classes: int,
        *,
        backbone: str = 'resnet50',
        weights: str | None = None,
        salient_cells: int = 14,
        boundary_cells: int = 9,
        boundary_points: int = 128,
        boundary_weight: float = 25.0,
    ) -> None:
        super().__init__(num_bands, num_classes)
        self.boundary_weight = boundary_weight
        self.encoder, channels = make_resnet(backbone, num_bands, weights)
        self.decoder = PointFlowPyramid(channels, num_classes, salient_cells, boundary_cells, boundary_points)
        self._boundaries: list[Tensor] = []

    def logits(self, image: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, K, H, W)``."""
        logits, edges = self.decoder(self.encoder(image))
        # Whoever trains asks for the loss of these; kept otherwise, they would only take memory
        self._boundaries = [resize(edge, image) for edge in edges] if self.training else []
        return resize(logits, image)

    def extra_loss(self, mask: Tensor) -> Tensor | None:
        """Loss of the predicted boundaries, summed over the three modules; see the base class."""
        mask = mask.reshape(len(mask), *mask.shape[-2:])
        height, width = mask.shape[-2:]
        losses = [balanced_boundary_loss(edge[..., :height, :width], mask) for edge in self._boundaries]
        self._boundaries = []
        return self.boundary_weight * torch.stack(losses).sum() if losses else None
