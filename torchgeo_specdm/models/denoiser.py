"""The denoiser of joint latents: diffusers' U-Net (Ronneberger et al., 2015; Ho et al., 2020) over all streams."""

from collections.abc import Sequence

from diffusers import UNet2DModel

from torchgeo_specdm.errors import SpecDMError


def joint_unet(
    channels: int,
    size: int,
    *,
    widths: Sequence[int] = (192, 384, 384, 768, 768),
    depth: int = 2,
    attention: Sequence[bool] | None = None,
    dropout: float = 0.0,
) -> UNet2DModel:
    """A U-Net that maps noisy joint latents ``(B, Z, h, w)`` and a time step to its prediction of the same shape.

    Args:
        channels: Z.
        size: h = w, height and width of the latents.
        widths: Channels per level; multiples of 32. The default is the paper's 192 x (1, 2, 2, 4, 4).
        depth: Residual blocks per level.
        attention: Which levels attend; the two coarsest by default.
        dropout: Share of features dropped in the residual blocks.

    Raises:
        SpecDMError: The latents cannot be halved once for each level, or a width is no multiple of 32.
    """
    levels = len(widths)
    if size % 2 ** (levels - 1):
        raise SpecDMError(
            f'latents of {size} x {size} cannot be halved {levels - 1} times, as a denoiser with {levels} widths does; '
            f'use fewer widths or another patch size'
        )
    if bad := [width for width in widths if width % 32]:
        raise SpecDMError(f'denoiser widths must be multiples of 32, not {bad[0]}')
    attention = attention if attention is not None else [level >= levels - 2 for level in range(levels)]
    return UNet2DModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=tuple(widths),
        layers_per_block=depth,
        down_block_types=tuple('AttnDownBlock2D' if attend else 'DownBlock2D' for attend in attention),
        up_block_types=tuple('AttnUpBlock2D' if attend else 'UpBlock2D' for attend in reversed(attention)),
        attention_head_dim=32,
        norm_num_groups=32,
        dropout=dropout,
    )
