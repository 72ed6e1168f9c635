"""How the shares of classes are spread over samples."""

import torch
from torch import Tensor

_QUANTILES = torch.linspace(0, 1, 21)


def share_quantiles(shares: Tensor) -> Tensor:
    """How much of a sample each class takes where it occurs.

    Args:
        shares: Share of each class in each sample, ``(N, K)``.

    Returns:
        21 even quantiles of each class over the samples that hold it, ``(K, 21)``; zeros for a class that none holds.
    """
    rows = []
    for column in shares.T:
        present = column[column > 0]
        rows.append(present.quantile(_QUANTILES.to(present)) if len(present) else torch.zeros(len(_QUANTILES)))
    return torch.stack(rows)
