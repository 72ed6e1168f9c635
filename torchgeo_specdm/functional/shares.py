"""How the shares of classes are spread over samples."""

import torch
from torch import Tensor

_QUANTILES = torch.linspace(0, 1, 21)
# Rows that stand for all samples in the description of a checkpoint, which people read
_ROWS = 256


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


def share_rows(shares: Tensor) -> Tensor:
    """What stands for the shares of all classes together: those of some samples.

    The samples are sorted along the first principal axis of their shares and taken at even distances, which leaves
    less to chance than draws do: often a few samples hold most of a class.

    Args:
        shares: Share of each class in each sample, ``(N, K)``.

    Returns:
        Rows of at most 256 samples that are labelled at all, ``(R, K)``.
    """
    labelled = shares[shares.sum(1) > 0]
    around = (labelled - labelled.mean(0)).double()
    axis = torch.linalg.eigh(around.T @ around).eigenvectors[:, -1]
    order = (around @ axis).argsort(stable=True)
    count = min(_ROWS, len(labelled))
    return labelled[order[((torch.arange(count) + 0.5) * len(labelled) / max(count, 1)).long()]]
