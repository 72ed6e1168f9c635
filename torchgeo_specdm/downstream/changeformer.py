"""ChangeFormer: a Siamese transformer for change detection.

Bandara & Patel, "A Transformer-Based Siamese Network for Change Detection", IGARSS 2022, https://arxiv.org/abs/2201.01293.
Its authors number their versions: V6 is the one of the paper, V3 a smaller one that takes absolute differences. Where
the paper leaves a detail open, the published numbers of parameters decide (32.66 M and 41.03 M at three bands).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torchgeo_specdm.downstream.base import SiameseModel, each_date, resize
from torchgeo_specdm.downstream.mix_transformer import MixTransformer
from torchgeo_specdm.errors import SpecDMError

WIDTHS = (64, 128, 320, 512)


class AbsoluteDifferenceDecoder(nn.Module):
    """The decoder of V3: differences of embedded features, fused and shuffled to full resolution.

    The released V3 puts a ReLU on the logits. It is left out: a single logit could not say *no change* with it.

    Args:
        widths: Channels of the features.
        embedding: Channels that they are projected to.
        num_classes: K.
    """

    def __init__(self, widths: Sequence[int], embedding: int, num_classes: int) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Conv2d(width, embedding, 1) for width in widths)
        self.fuse = nn.Conv2d(len(widths) * embedding, embedding, 1)
        self.head = nn.Sequential(nn.Conv2d(embedding, 16 * num_classes, 3, padding=1), nn.PixelShuffle(4))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Features ``(B, 2, C_i, H / 2^(i+2), W / 2^(i+2))``, i = 0 ... 3, to logits ``(B, K, H, W)``."""
        differences = []
        for project, scale in zip(self.project, features, strict=True):
            first, second = each_date(project, scale).unbind(1)
            differences.append((second - first).abs())
        fused = self.fuse(torch.cat([resize(each, differences[0]) for each in differences], 1))
        return self.head(fused)  # type: ignore[no-any-return]


class Difference(nn.Sequential):
    """The paper's *difference module*: learns from concatenated features how far apart they are.

    The paper writes one convolution and a batch normalisation; with two convolutions the published number of parameters
    is met.
    """

    def __init__(self, width: int) -> None:
        super().__init__(
            nn.Conv2d(2 * width, width, 3, padding=1),
            nn.ReLU(),
            nn.BatchNorm2d(width),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
        )


class Residual(nn.Module):
    """Two convolutions whose output is added at a tenth of its size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same shape."""
        return x + 0.1 * self.conv2(F.relu(self.conv1(x)))  # type: ignore[no-any-return]


class LearntDifferenceDecoder(nn.Module):
    """The decoder of V6: learnt differences, coarse ones added to finer ones, fused and upsampled by convolutions.

    The released V6 has a head at every scale for a loss of its own, which the paper does not use; they are left out
    (0.05 % of the parameters).

    Args:
        widths: Channels of the features.
        embedding: Channels that they are projected to.
        num_classes: K.
    """

    def __init__(self, widths: Sequence[int], embedding: int, num_classes: int) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Conv2d(width, embedding, 1) for width in widths)
        self.differences = nn.ModuleList(Difference(embedding) for _ in widths)
        self.fuse = nn.Sequential(nn.Conv2d(len(widths) * embedding, embedding, 1), nn.BatchNorm2d(embedding))
        self.head = nn.Sequential(
            nn.ConvTranspose2d(embedding, embedding, 4, 2, padding=1),
            Residual(embedding),
            nn.ConvTranspose2d(embedding, embedding, 4, 2, padding=1),
            Residual(embedding),
            nn.Conv2d(embedding, num_classes, 3, padding=1),
        )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Features ``(B, 2, C_i, H / 2^(i+2), W / 2^(i+2))``, i = 0 ... 3, to logits ``(B, K, H, W)``."""
        found: list[Tensor] = []
        parts = list(zip(self.project, self.differences, features, strict=True))
        for project, difference, scale in reversed(parts):
            both = each_date(project, scale).flatten(1, 2)
            here = difference(both)
            found.append(here + resize(found[-1], here) if found else here)
        fused = self.fuse(torch.cat([resize(each, found[-1]) for each in found], 1))
        return self.head(fused)  # type: ignore[no-any-return]


class ChangeFormer(SiameseModel):
    """ChangeFormer for images of two dates.

    ======= ================= ================== ====================================
    stage   V3, V6: features  blocks of V3, V6   of an image of H x W px
    ======= ================= ================== ====================================
    1       64                3, 3               ``(B, 2, 64, H/4, W/4)``
    2       128               4, 3               ``(B, 2, 128, H/8, W/8)``
    3       320               6, 4               ``(B, 2, 320, H/16, W/16)``
    4       512               3, 3               ``(B, 2, 512, H/32, W/32)``
    fused   64, 256                              ``(B, 64 or 256, H/4, W/4)``
    logits  K                                    ``(B, K, H, W)``
    ======= ================= ================== ====================================

    V3 does not tell the dates apart; V6 does.

    Args:
        num_bands: Bands of one date.
        num_classes: K.
        version: ``v3`` or ``v6``.

    Raises:
        SpecDMError: There is no such version.
    """

    def __init__(self, num_bands: int, num_classes: int, *, version: str = 'v6') -> None:
        super().__init__(num_bands, num_classes)
        if version == 'v3':
            self.encoder = MixTransformer(num_bands, (3, 4, 6, 3), WIDTHS)
            self.decoder = AbsoluteDifferenceDecoder(WIDTHS, 64, num_classes)
        elif version == 'v6':
            self.encoder = MixTransformer(num_bands, (3, 3, 4, 3), WIDTHS, dropout=0.1)
            self.decoder = LearntDifferenceDecoder(WIDTHS, 256, num_classes)
        else:
            raise SpecDMError(f'version of ChangeFormer is {version!r}; it must be v3 or v6')

    def logits(self, image: Tensor) -> Tensor:
        """``(B, 2, C, H, W)`` to ``(B, K, H, W)``."""
        return self.decoder(self.features(image))  # type: ignore[no-any-return]
