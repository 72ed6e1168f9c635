"""The denoiser of joint latents: diffusers' U-Net (Ronneberger et al., 2015; Ho et al., 2020) over all streams.

What it is told beside the noisy latents, all of it added to the embedding of the time:

- *clocks*: a time step per stream (Bao et al., 2023), so that one network generates pairs, images for a given mask
  and masks for a given image;
- *shares*: the share of pixels of each class, any of which may be unknown;
- *orientation*: which of the eight symmetries of a square was applied (non-leaking augmentation, Karras et al., 2022).
"""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.functional.dihedral import ORIENTATIONS


class JointDenoiser(nn.Module):
    """Maps noisy joint latents and what is known of them to a prediction of the latents' shape.

    Args:
        channels: Number of latent channels, Z.
        size: h = w, height and width of the latents.
        widths: Channels per level; multiples of 32. The default is the paper's 192 x (1, 2, 2, 4, 4).
        depth: Residual blocks per level.
        attention: Which levels attend; the two coarsest by default.
        dropout: Share of features dropped in the residual blocks.
        clocks: Streams that have a time step of their own; 1 gives all of them one, as in the paper.
        num_classes: K of the class shares; 0 leaves them out.
        orientations: Whether it is told the orientation.
        adaptive_norm: What it is told scales and shifts normalised features (Dhariwal & Nichol, 2021); otherwise it is
            added before they are normalised, as in the paper's LDM, and narrow groups partly remove it.
        norm_groups: Groups of the group normalisation; by default of at least 8 channels. Groups of one or two
            channels remove the brightness of a sample, and the time where it is added.
        fold: Folds ``fold`` x ``fold`` latents into channels first, so that the network works on fewer places.

    Raises:
        SpecDMError: The latents cannot be halved once for each level, or a width is no multiple of 32.
    """

    def __init__(
        self,
        channels: int,
        size: int,
        *,
        widths: Sequence[int] = (192, 384, 384, 768, 768),
        depth: int = 2,
        attention: Sequence[bool] | None = None,
        dropout: float = 0.0,
        clocks: int = 1,
        num_classes: int = 0,
        orientations: bool = False,
        adaptive_norm: bool = True,
        norm_groups: int | None = None,
        fold: int = 1,
    ) -> None:
        super().__init__()
        levels = len(widths)
        if min(size, fold, levels) < 1 or size % (fold * 2 ** (levels - 1)):
            folded = f'folded {fold} x {fold} and ' if fold > 1 else ''
            raise SpecDMError(
                f'latents of {size} x {size} cannot be {folded}halved {levels - 1} times, as a denoiser with {levels} '
                'widths does; use fewer widths or another patch size'
            )
        if bad := [width for width in widths if width % 32]:
            raise SpecDMError(f'denoiser widths must be multiples of 32, not {bad[0]}')
        attention = list(attention) if attention is not None else [level >= levels - 2 for level in range(levels)]
        norm_groups = norm_groups or min(32, math.gcd(*widths) // 8)
        self.config: dict[str, Any] = {
            'channels': channels,
            'size': size,
            'widths': list(widths),
            'depth': depth,
            'attention': attention,
            'dropout': dropout,
            'clocks': clocks,
            'num_classes': num_classes,
            'orientations': orientations,
            'adaptive_norm': adaptive_norm,
            'norm_groups': norm_groups,
            'fold': fold,
        }
        # Here, not above: diffusers' models take seconds to import, and who reads samples makes no networks
        from diffusers import UNet2DModel
        from diffusers.models.embeddings import TimestepEmbedding, get_timestep_embedding

        self._embed_time = get_timestep_embedding
        self.channels = channels
        self.clocks = clocks
        self.num_classes = num_classes
        self.unet = UNet2DModel(
            sample_size=size // fold,
            in_channels=channels * fold**2,
            out_channels=channels * fold**2,
            block_out_channels=tuple(widths),
            layers_per_block=depth,
            down_block_types=tuple('AttnDownBlock2D' if attend else 'DownBlock2D' for attend in attention),
            up_block_types=tuple('AttnUpBlock2D' if attend else 'UpBlock2D' for attend in reversed(attention)),
            attention_head_dim=32,
            norm_num_groups=norm_groups,
            resnet_time_scale_shift='scale_shift' if adaptive_norm else 'default',
            dropout=dropout,
            class_embed_type='identity' if clocks > 1 or num_classes or orientations else None,
        )
        embedding = 4 * widths[0]
        self.other_clocks = nn.ModuleList(TimestepEmbedding(widths[0], embedding) for _ in range(clocks - 1))
        self.shares = TimestepEmbedding(3 * num_classes, embedding) if num_classes else None
        self.orientation = nn.Embedding(ORIENTATIONS, embedding) if orientations else None
        if self.orientation is not None:
            # Embeddings start at unit variance, which would drown the time
            nn.init.zeros_(self.orientation.weight)

    def forward(
        self, z: Tensor, clocks: Tensor, shares: Tensor | None = None, orientation: Tensor | None = None
    ) -> Tensor:
        """Predict.

        Args:
            z: Noisy latents ``(B, Z, h, w)``.
            clocks: Time steps, ``(B,)`` or ``(B, clocks)``.
            shares: Share of each class ``(B, K)``, NaN where unknown; all unknown by default.
            orientation: ``(B,)`` of 0-7; upright by default.

        Returns:
            ``(B, Z, h, w)``.
        """
        clocks = clocks[:, None].expand(-1, self.clocks) if clocks.ndim == 1 else clocks
        told: list[Tensor] = []
        for number, embed in enumerate(self.other_clocks, 1):
            told.append(embed(self._embed_time(clocks[:, number], self.config['widths'][0]).to(z.dtype)))
        if self.shares is not None:
            shares = z.new_full((len(z), self.num_classes), torch.nan) if shares is None else shares.to(z)
            known = ~shares.isnan()
            share = shares.nan_to_num(0.0).clamp_min(0)
            # The root tells small shares apart
            told.append(self.shares(torch.cat([share, share.sqrt(), known.to(z)], 1)))
        if self.orientation is not None:
            upright = torch.zeros(len(z), dtype=torch.long, device=z.device)
            told.append(self.orientation(upright if orientation is None else orientation))
        # UNet2DModel adds what it calls class labels to the embedding of the time
        labels = sum(told[1:], told[0]) if told else None
        fold = self.config['fold']
        with _attention(z):
            answer = self.unet(pixel_unshuffle(z, fold), clocks[:, 0], class_labels=labels).sample
        return pixel_shuffle(answer, fold)


def _attention(z: Tensor) -> AbstractContextManager[Any]:
    """On a CPU, fused attention takes ten times as long backwards as its formula does, for so few tokens."""
    plain = z.device.type == 'cpu' and torch.is_grad_enabled()
    return sdpa_kernel(SDPBackend.MATH) if plain else nullcontext()
