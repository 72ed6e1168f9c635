"""No autoencoder at all: joint diffusion of pixels, in the manner of SatSynth (Toker et al., CVPR 2024).

The mask is written in analog bits (Chen et al., ICLR 2023): class k as the binary digits of k, each -1 or 1.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.models.autoencoder import PairAutoencoder, Posterior, Stream
from torchgeo_specdm.spec import Task

# What a posterior without spread has as its log variance
_NO_SPREAD = -30.0


class PixelAutoencoder(PairAutoencoder):
    """The identity on normalised images beside the analog bits of the mask; it has nothing to train.

    Args:
        task: Decides the shapes of images and masks, see :mod:`torchgeo_specdm.spec`.
        num_bands: Bands of one date.
        num_classes: Number of classes, K.
        ignore_index: Mask value of unlabelled pixels: encoded as zeros, between the bits.
    """

    kind = 'pixels'

    def __init__(self, task: Task, num_bands: int, num_classes: int, ignore_index: int | None = None) -> None:
        bits, dates = max(1, (num_classes - 1).bit_length()), 2 if task == 'change' else 1
        streams = [Stream('image', dates * num_bands, dates), Stream('mask', bits)]
        super().__init__(task, num_bands, num_classes, ignore_index, 1, streams, {})
        # No buffer: networks are built without memory before their weights are loaded
        self.codes = [[(number >> bit) % 2 * 2 - 1 for bit in range(bits)] for number in range(num_classes)]

    def _posterior(self, x: Tensor, y: Tensor) -> Posterior:
        z = torch.cat([x, self._bits(y)], 1)
        return Posterior(z, torch.full_like(z, _NO_SPREAD))

    def _decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        bits = self.streams[-1].channels
        # The nearest code has the largest product, as all codes are equally long; the factor sharpens the softmax
        return z[:, :-bits], 10 * conv2d(z[:, -bits:], z.new_tensor(self.codes)[:, :, None, None])

    def _given_parts(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        parts = {}
        for name, value in given.items():
            if name not in ('image', 'mask'):
                raise SpecDMError(f'given names {name!r}; the streams are image, mask')
            parts[name] = self.normalize(value) if name == 'image' else self._bits(self._one_hot(value))
        return parts

    def _bits(self, y: Tensor) -> Tensor:
        return conv2d(y, y.new_tensor(self.codes).T[:, :, None, None])
