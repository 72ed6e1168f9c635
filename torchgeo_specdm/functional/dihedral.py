"""The eight symmetries of a square: four quarter turns, each with and without a flip."""

from torch import Tensor

ORIENTATIONS = 8


def dihedral(x: Tensor, orientation: int) -> Tensor:
    """Turn a batch of images or masks, which nadir imagery allows without changing what they mean.

    Args:
        x: ``(..., H, W)`` with H = W.
        orientation: 0-7; 0 is the identity, ``orientation % 4`` quarter turns, flipped from 4 on.

    Returns:
        The turned tensor, same shape.
    """
    turned = x.rot90(orientation % 4, dims=(-2, -1))
    return turned.flip(-1) if orientation >= 4 else turned
