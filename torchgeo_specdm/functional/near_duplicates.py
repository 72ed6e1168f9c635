"""Groups of images that are turned, flipped or slightly noisy copies of each other.

An image is reduced to its signature s: the means of 8 x 8 blocks, band by band. Two images belong together when some
orientation g of the square brings their signatures within a small share of their own contrast,

    min over g of rms(s_a - g s_b) <= min(allowed_a, allowed_b),   allowed = tolerance * contrast + 0.001 * rms(s),

and groups are closed under that relation. Blocks commute with turns and flips, and averaging 16 x 16 px divides
independent noise by 16; two different places agree that closely over hundreds of block means only if both are blank.

Comparing all pairs in all orientations would be slow. P, the mean over the eight orientations, is an orthogonal
projection with P g = P, so rms(P s_a - P s_b) is a lower bound of the distance: only pairs that pass it are compared.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from torchgeo_specdm.functional.dihedral import ORIENTATIONS, dihedral

BLOCKS = 8
# What noise and rounding leave in the block means of a blank image, as a share of its pixel values
_NOISE = 1e-3
# Pairs that are compared at a time
_PAIRS = 16_384


def block_means(images: Tensor) -> Tensor:
    """Signatures ``(B, C, 8, 8)`` of images ``(B, C, H, W)`` with H = W >= 8."""
    return adaptive_avg_pool2d(images, BLOCKS)


def near_duplicate_groups(signatures: Tensor, tolerance: float = 0.05) -> Tensor:
    """Group near-duplicates, whichever of the eight orientations of the square they are in.

    Args:
        signatures: Block means of N >= 1 images, ``(N, C, 8, 8)``.
        tolerance: Largest distance of two near-duplicates, as a share of their contrast (the standard deviation of
            an image's block means about its band means).

    Returns:
        int64 group numbers ``(N,)``, counted from 0 in the order of first appearance.
    """
    # Exact copies (above all, blank patches) would make quadratically many pairs
    distinct, copy_of = torch.unique(signatures.double(), dim=0, return_inverse=True)
    contrast = (distinct - distinct.mean((2, 3), keepdim=True)).square().mean((1, 2, 3)).sqrt()
    allowed = tolerance * contrast + _NOISE * distinct.square().mean((1, 2, 3)).sqrt()
    first, second = _candidates(_invariants(distinct), allowed)
    starts = range(0, max(1, len(first)), _PAIRS)
    distance = torch.cat([_distance(distinct[first[s : s + _PAIRS]], distinct[second[s : s + _PAIRS]]) for s in starts])
    linked = distance <= torch.minimum(allowed[first], allowed[second])
    return _first_appearance(_components(len(distinct), first[linked], second[linked])[copy_of])


def _invariants(signatures: Tensor) -> Tensor:
    """P s in an orthonormal basis, ``(N, 10 C)``: the eight orientations permute 64 blocks within ten orbits."""
    mean = torch.stack([dihedral(signatures, g) for g in range(ORIENTATIONS)]).mean(0)
    rows, cols = torch.triu_indices(BLOCKS // 2, BLOCKS // 2)
    orbit_size = torch.where(rows == cols, 4.0, 8.0).double()
    invariants = (mean[:, :, rows, cols] * orbit_size.sqrt()).flatten(1)
    return invariants / math.sqrt(signatures[0].numel())


def _candidates(invariants: Tensor, allowed: Tensor, chunk: int = 256) -> tuple[Tensor, Tensor]:
    """All pairs i < j whose lower bound of the distance is allowed."""
    pairs = [torch.empty(2, 0, dtype=torch.long)]
    for start in range(0, len(invariants), chunk):
        here = slice(start, start + chunk)
        distance = torch.cdist(invariants[here], invariants)
        near = (distance <= torch.minimum(allowed[here, None], allowed)).triu(start + 1).nonzero().T
        pairs.append(near + torch.tensor([[start], [0]]))
    first, second = torch.cat(pairs, dim=1)
    return first, second


def _distance(first: Tensor, second: Tensor) -> Tensor:
    """Rms over bands and blocks, in the orientation in which it is least, ``(M,)``."""
    return torch.stack(
        [(first - dihedral(second, g)).square().mean((1, 2, 3)).sqrt() for g in range(ORIENTATIONS)]
    ).amin(0)


def _components(size: int, first: Tensor, second: Tensor) -> Tensor:
    """The least vertex that each vertex of a graph is connected to."""
    label = torch.arange(size)
    ends = torch.cat([first, second])
    while True:
        least = torch.minimum(label[first], label[second]).repeat(2)
        lowered = label.scatter_reduce(0, ends, least, 'amin')
        if torch.equal(lowered, label):
            return label
        label = lowered


def _first_appearance(label: Tensor) -> Tensor:
    """The same partition, numbered in the order in which its parts appear."""
    _, part = torch.unique(label, return_inverse=True)
    count = int(part.max()) + 1 if len(part) else 0
    first = torch.full((count,), len(part)).scatter_reduce(0, part, torch.arange(len(part)), 'amin')
    return first.argsort().argsort()[part]
