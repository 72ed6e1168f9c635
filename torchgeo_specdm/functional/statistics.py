"""Statistics of each band of a dataset that does not fit into memory."""

from collections.abc import Iterable

import torch
from torch import Tensor


def band_statistics(batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each band in one pass.

    Args:
        batches: Images ``(B, ..., C, H, W)``, at least one.

    Returns:
        Two ``(C,)`` float32 tensors in the unit of the images.
    """
    count, total, squares = 0, torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for batch in batches:
        values = batch.double().movedim(-3, 0).flatten(1)
        count += values.shape[1]
        total = total + values.sum(1)
        squares = squares + values.square().sum(1)
    mean = total / count
    std = (squares / count - mean.square()).clamp_min(0).sqrt()
    return mean.float(), std.float()
