"""The baseline of the paper: one autoencoder as in latent diffusion (Rombach et al., 2022) for image and mask together.

Image and one-hot mask are concatenated at the input; one encoder and one decoder serve both.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from torchgeo_specdm.models.autoencoder import PairAutoencoder, Posterior, Stream
from torchgeo_specdm.models.branches import Branch, find_branch
from torchgeo_specdm.spec import Task


class SingleStreamAutoencoder(PairAutoencoder):
    """Encodes image and mask through one network.

    It takes the arguments of the two-stream autoencoder, so that a configuration changes in one word: it has as many
    latent channels and about as many weights as the two branches together.

    Args:
        task: Decides the shapes of images and masks, see :mod:`torchgeo_specdm.spec`.
        num_bands: Bands of one date.
        num_classes: Number of classes, K.
        ignore_index: Mask value of unlabelled pixels: encoded as zeros, left out of the cross-entropy.
        architecture: A name in :data:`~torchgeo_specdm.models.branches.BRANCHES`.
        downsample: f [px].
        latent_channels: Their sum is z.
        width: The root of the sum of their squares, to a multiple of 32, is the width of the network.
        depth: Residual blocks.

    Raises:
        SpecDMError: There is no such architecture.
    """

    kind = 'single_stream'

    def __init__(
        self,
        task: Task,
        num_bands: int,
        num_classes: int,
        ignore_index: int | None = None,
        *,
        architecture: str = 'space_to_depth',
        downsample: int = 4,
        latent_channels: Sequence[int] = (6, 3),
        width: Sequence[int] = (128, 64),
        depth: int = 2,
    ) -> None:
        make = find_branch(architecture)
        dates = 2 if task == 'change' else 1
        config = {
            'architecture': architecture,
            'downsample': downsample,
            'latent_channels': list(latent_channels),
            'width': list(width),
            'depth': depth,
        }
        streams = [Stream('pair', sum(latent_channels), dates)]
        super().__init__(task, num_bands, num_classes, ignore_index, downsample, streams, config)
        # The weights of a convolution grow with the square of the width
        both = max(round(math.hypot(*width) / 32) * 32, min(width))
        channels = dates * num_bands + num_classes
        self.branch: Branch = make(channels, sum(latent_channels), downsample, both, depth)

    def _posterior(self, x: Tensor, y: Tensor) -> Posterior:
        mean, log_variance = self.branch.encode(torch.cat([x, y], 1)).chunk(2, 1)
        return Posterior(mean, log_variance.clamp(-30, 20))

    def _decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        pair = self.branch.decode(z)
        return pair[:, : -self.num_classes], pair[:, -self.num_classes :]
