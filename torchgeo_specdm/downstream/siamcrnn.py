"""SiamCRNN: a Siamese convolutional encoder, then a recurrent network that reads the two dates in order.

Chen et al., "Change Detection in Multisource VHR Images via Deep Siamese Convolutional Multiple-Layers Recurrent Neural
Network", TGRS 58(4), 2020, https://doi.org/10.1109/TGRS.2019.2956756. The paper classifies the central pixel of a
patch. Here is the fully convolutional form of its authors, in which a ResNet encodes and a convolutional LSTM (Shi et
al., NeurIPS 2015) reads each scale; they publish its number of parameters with ResNet-101 in ChangeMamba (Chen et al.,
TGRS 2024): 63.44 M.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torchgeo_specdm.downstream.base import SiameseModel, resize
from torchgeo_specdm.downstream.resnet import make_resnet


class ConvLSTM(nn.Module):
    """One layer of a convolutional LSTM (eq. 3 of Shi et al., without peepholes), from a state of zeros.

    Args:
        channels: C of the input.
        hidden: Channels of the state.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.gates = nn.Conv2d(channels + hidden, 4 * hidden, 3, padding=1)

    def forward(self, sequence: Tensor) -> Tensor:
        """The output after the last date: ``(B, T, C, H, W)`` to ``(B, hidden, H, W)``."""
        batch, _, _, height, width = sequence.shape
        output = cell = sequence.new_zeros(batch, self.hidden, height, width)
        for x in sequence.unbind(1):
            gates = self.gates(torch.cat([x, output.to(x.dtype)], 1))
            keep_in, forget, show, new = gates.chunk(4, 1)
            cell = forget.sigmoid() * cell + keep_in.sigmoid() * new.tanh()
            output = show.sigmoid() * cell.tanh()
        return output


class ResidualSmoothing(nn.Module):
    """Two convolutions with a residual connection, without biases as batch normalisation follows them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same shape."""
        return F.relu(x + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))


class RecurrentDecoder(nn.Module):
    """A convolutional LSTM at each scale; coarse outputs are added to finer ones and smoothed.

    Args:
        channels: Channels of the features, from the highest resolution to the lowest.
        hidden: Channels of the states.
        num_classes: K.
    """

    def __init__(self, channels: Sequence[int], hidden: int, num_classes: int) -> None:
        super().__init__()
        self.recurrent = nn.ModuleList(ConvLSTM(each, hidden) for each in channels)
        self.smooth = nn.ModuleList(ResidualSmoothing(hidden) for _ in channels[:-1])
        self.head = nn.Conv2d(hidden, num_classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Features ``(B, 2, C_i, H / 2^(i+2), W / 2^(i+2))``, i = 0 ... 3, to logits ``(B, K, H / 4, W / 4)``."""
        x = self.recurrent[-1](features[-1])
        for recurrent, smooth, scale in reversed(
            list(zip(self.recurrent[:-1], self.smooth, features[:-1], strict=True))
        ):
            here = recurrent(scale)
            x = smooth(here + resize(x, here))
        return self.head(x)  # type: ignore[no-any-return]


class SiamCRNN(SiameseModel):
    """SiamCRNN for images of two dates.

    With ResNet-18 and -34 the features have 64, 128, 256 and 512 channels, with ResNet-50 and -101 four times as many:
    ``(B, 2, C_i, H / 2^(i+2), W / 2^(i+2))``. The decoder has 128 channels; its logits, ``(B, K, H/4, W/4)``, are
    interpolated to ``(B, K, H, W)``.

    Args:
        num_bands: Bands of one date.
        num_classes: K.
        backbone: One of :data:`~torchgeo_specdm.downstream.resnet.BACKBONES`.
        weights: ``imagenet`` or None.

    Raises:
        SpecDMError: There is no such backbone or weights.
    """

    def __init__(
        self, num_bands: int, num_classes: int, *, backbone: str = 'resnet18', weights: str | None = None
    ) -> None:
        super().__init__(num_bands, num_classes)
        self.encoder, channels = make_resnet(backbone, num_bands, weights)
        self.decoder = RecurrentDecoder(channels, 128, num_classes)

    def logits(self, image: Tensor) -> Tensor:
        """``(B, 2, C, H, W)`` to ``(B, K, H, W)``."""
        return resize(self.decoder(self.features(image)), image)
