"""A hierarchical transformer of four scales: the encoder of ChangeFormer.

Bandara & Patel, "A Transformer-Based Siamese Network for Change Detection", IGARSS 2022, *hierarchical transformer
encoder*, after SegFormer's (Xie et al., NeurIPS 2021, section 3.1). Unlike there, every patch embedding has a kernel of
7 x 7, which the published numbers of parameters imply.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Height and width of the tokens, which lie in rows
_Size = tuple[int, int]


def as_tokens(x: Tensor) -> Tensor:
    """``(B, C, h, w)`` to ``(B, h w, C)``."""
    return x.flatten(2).transpose(1, 2)


def as_map(x: Tensor, size: _Size) -> Tensor:
    """Inverse of :func:`as_tokens`."""
    return x.transpose(1, 2).reshape(len(x), -1, *size)


class EfficientAttention(nn.Module):
    """Self-attention whose keys and values are means, learnt, of r x r tokens each (sequence reduction).

    Args:
        width: C.
        heads: Divides the width.
        reduction: r.
        dropout: Share of the attention, and of the output, that is dropped in training.
    """

    def __init__(self, width: int, heads: int, reduction: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Sequential(nn.Linear(width, width), nn.Dropout(dropout))
        self.reduce = nn.Conv2d(width, width, reduction, reduction) if reduction > 1 else None
        self.norm = nn.LayerNorm(width) if reduction > 1 else None

    def forward(self, x: Tensor, size: _Size) -> Tensor:
        """``(B, h w, C)`` to the same shape; h and w are multiples of r."""
        context = x
        if self.reduce is not None and self.norm is not None:
            context = self.norm(as_tokens(self.reduce(as_map(x, size))))
        key, value = self.key_value(context).chunk(2, 2)
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.query(x), key, value))
        attended = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        return self.output(attended.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class MixFeedForward(nn.Module):
    """Two linear layers with a depthwise convolution between them, which tells where a token is (Mix-FFN)."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.expand = nn.Linear(width, hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.contract = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, size: _Size) -> Tensor:
        """``(B, h w, C)`` to the same shape."""
        x = F.gelu(as_tokens(self.depthwise(as_map(self.expand(x), size))))
        return self.dropout(self.contract(self.dropout(x)))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention and feed-forward network, each with a residual connection.

    Args:
        width: C.
        heads: Of the attention.
        reduction: Of the attention.
        dropout: Of both.
        drop_path: Probability that an image skips them in training (stochastic depth, Huang et al., ECCV 2016).
    """

    def __init__(self, width: int, heads: int, reduction: int, dropout: float, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attention = EfficientAttention(width, heads, reduction, dropout)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.feed_forward = MixFeedForward(width, 4 * width, dropout)
        self.drop_path = drop_path

    def forward(self, x: Tensor, size: _Size) -> Tensor:
        """``(B, h w, C)`` to the same shape."""
        x = x + self._perhaps(self.attention(self.norm1(x), size))
        return x + self._perhaps(self.feed_forward(self.norm2(x), size))

    def _perhaps(self, x: Tensor) -> Tensor:
        return x * F.dropout(x.new_ones(len(x), 1, 1), self.drop_path, self.training)


class Stage(nn.Module):
    """A patch embedding, whose patches overlap, and blocks; one entry of ``drops`` for each."""

    def __init__(
        self, channels: int, width: int, stride: int, heads: int, reduction: int, dropout: float, drops: Sequence[float]
    ) -> None:
        super().__init__()
        self.embed = nn.Conv2d(channels, width, 7, stride, padding=3)
        self.embed_norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, heads, reduction, dropout, drop) for drop in drops)
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, c, H, W)`` to ``(B, C, H / stride, W / stride)``, rounded up."""
        x = self.embed(x)
        size: _Size = (x.shape[2], x.shape[3])
        x = self.embed_norm(as_tokens(x))
        for block in self.blocks:
            x = block(x, size)
        return as_map(self.norm(x), size)


class MixTransformer(nn.Module):
    """Features at 1/4, 1/8, 1/16 and 1/32 of the image's resolution.

    Args:
        channels: Bands of the image.
        depths: Blocks of each stage.
        widths: Channels of each stage.
        dropout: Of attention and of linear layers.
        drop_path: Probability that the last block's residual branch is dropped; it grows from 0 block by block.
    """

    heads = (1, 2, 4, 8)
    reductions = (8, 4, 2, 1)

    def __init__(
        self,
        channels: int,
        depths: Sequence[int],
        widths: Sequence[int] = (64, 128, 320, 512),
        dropout: float = 0.0,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        total = sum(depths)
        stages: list[Stage] = []
        for i, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            first = sum(depths[:i])
            drops = [drop_path * (first + j) / max(total - 1, 1) for j in range(depth)]
            before, stride = (widths[i - 1], 2) if i else (channels, 4)
            stages.append(Stage(before, width, stride, self.heads[i], self.reductions[i], dropout, drops))
        self.stages = nn.ModuleList(stages)
        self.apply(_initialise)

    def forward(self, image: Tensor) -> list[Tensor]:
        """``(B, C, H, W)``, H and W multiples of 32, to ``(B, width_i, H / 2^(i+2), W / 2^(i+2))`` for i = 0 ... 3."""
        features = []
        x = image
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


@torch.no_grad()
def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        module.weight.normal_(0, math.sqrt(2 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
