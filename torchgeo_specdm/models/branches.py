"""Encoders and decoders of one stream.

A branch maps a stream ``x (B, C, H, W)`` to the moments of a Gaussian posterior over its latent
``(B, 2z, H/f, W/f)`` and a latent ``(B, z, H/f, W/f)`` back to ``(B, C, H, W)``.
To add one, subclass :class:`Branch` and name it in :data:`BRANCHES`.
"""

from typing import Any

from torch import Tensor, nn

from torchgeo_specdm.errors import SpecDMError


class Branch(nn.Module):
    """One stream's encoder and decoder."""

    def encode(self, x: Tensor) -> Tensor:
        """Moments (mean and log variance, stacked on channels) of the posterior of ``x``."""
        raise NotImplementedError

    def decode(self, z: Tensor) -> Tensor:
        """The stream that ``z`` stands for."""
        raise NotImplementedError


class ResidualBlock(nn.Module):
    """GroupNorm, SiLU, 3x3 convolution, twice, added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        groups = max(1, width // 16)
        last = nn.Conv2d(width, width, 3, padding=1)
        # The block starts as the identity
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.layers = nn.Sequential(
            nn.GroupNorm(groups, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(groups, width),
            nn.SiLU(),
            last,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as ``x``."""
        change: Tensor = self.layers(x)
        return x + change


class SpaceToDepthBranch(Branch):
    """Folds f x f pixels into channels first, so that every convolution works at the latent's resolution.

    Args:
        channels: C, channels of the stream.
        latent_channels: z.
        downsample: f [px].
        width: Channels of the residual blocks.
        depth: Residual blocks in the encoder and in the decoder.
        context: Channels that the decoder sees after the latent's.
    """

    def __init__(
        self,
        channels: int,
        latent_channels: int,
        downsample: int = 4,
        width: int = 128,
        depth: int = 2,
        context: int = 0,
    ) -> None:
        super().__init__()
        folded = channels * downsample**2
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(downsample),
            nn.Conv2d(folded, width, 1),
            *(ResidualBlock(width) for _ in range(depth)),
            nn.Conv2d(width, 2 * latent_channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_channels + context, width, 3, padding=1),
            *(ResidualBlock(width) for _ in range(depth)),
            nn.Conv2d(width, folded, 1),
            nn.PixelShuffle(downsample),
        )

    def encode(self, x: Tensor) -> Tensor:
        """See :meth:`Branch.encode`."""
        return self.encoder(x)  # type: ignore[no-any-return]

    def decode(self, z: Tensor) -> Tensor:
        """See :meth:`Branch.decode`."""
        return self.decoder(z)  # type: ignore[no-any-return]


class KLBranch(Branch):
    """The convolutional KL autoencoder of latent diffusion (Rombach et al., 2022), as in the paper: f = 4, z = 3.

    Args:
        channels: C, channels of the stream.
        latent_channels: z.
        downsample: f [px], a power of two.
        width: Channels of the first level; every further level doubles them.
        depth: Residual blocks per level.
    """

    def __init__(self, channels: int, latent_channels: int = 3, downsample: int = 4, width: int = 128, depth: int = 2):
        # Here, not above: it takes seconds, and who reads samples makes no networks
        from diffusers import AutoencoderKL

        super().__init__()
        levels = downsample.bit_length()
        self.model = AutoencoderKL(
            in_channels=channels,
            out_channels=channels,
            latent_channels=latent_channels,
            block_out_channels=tuple(width * 2**level for level in range(levels)),
            down_block_types=('DownEncoderBlock2D',) * levels,
            up_block_types=('UpDecoderBlock2D',) * levels,
            layers_per_block=depth,
            norm_num_groups=min(32, width),
        )

    def encode(self, x: Tensor) -> Tensor:
        """See :meth:`Branch.encode`."""
        return self.model.encode(x).latent_dist.parameters  # type: ignore[no-any-return]

    def decode(self, z: Tensor) -> Tensor:
        """See :meth:`Branch.decode`."""
        return self.model.decode(z).sample  # type: ignore[no-any-return]


BRANCHES: dict[str, Any] = {'space_to_depth': SpaceToDepthBranch, 'kl': KLBranch}


def find_branch(architecture: str) -> Any:
    """The branch of that name.

    Raises:
        SpecDMError: There is none.
    """
    if architecture not in BRANCHES:
        raise SpecDMError(f'architecture is {architecture!r}; it must be one of {", ".join(BRANCHES)}')
    return BRANCHES[architecture]
