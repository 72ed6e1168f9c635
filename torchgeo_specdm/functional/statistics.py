"""Statistics of each band of a dataset that does not fit into memory, and the samples that they are taken from."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset

# Values of the images that are read at once: 64 MB, and two or three times that for what is computed of them
_VALUES = 2**24


def images_at_once(shape: Sequence[int], wanted: int) -> int:
    """How many images to read at once where that is free to choose, so that many bands take no more memory than few.

    Args:
        shape: Of an image.
        wanted: At most so many.
    """
    return max(1, min(wanted, _VALUES // math.prod(shape)))


def some_samples(dataset: Any, count: int) -> Subset[Any]:
    """At most ``count`` samples of a map-style dataset, drawn at random but always the same ones."""
    return Subset(dataset, np.random.default_rng(0).permutation(len(dataset))[:count].tolist())


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
