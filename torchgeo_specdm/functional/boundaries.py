"""Do the edges of a mask lie on edges of the image, and do these lead from the one class to the other?

Four pixels in a row or column with the labels *a a b b* are an edge from class a to class b. Its contrast is the
difference of the features f of the two outer pixels along Fisher's linear discriminant of the two classes,

    contrast = (mu_b - mu_a)^T S^-1 (f_4 - f_1),

with the classes' means mu and their pooled covariance S over real samples (R. A. Fisher, Annals of Eugenics 7, 1936).
The edge agrees with the image if the contrast is positive. An edge in the wrong place has no contrast and agrees by
chance, one time in two; one between wrong classes has a contrast that may point anywhere.

The inner two pixels of an edge are not looked at: they are mixed in any sensor, and blurred where a band was resampled.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

# Share of each band's variance that is added to it: differences of nearly equal bands are mostly noise
_RIDGE = 0.01


def boundary_features(image: Tensor) -> Tensor:
    """What differs across an edge: the bands of one date, or how far each band moved between two dates.

    Args:
        image: ``(B, T, C, H, W)`` with T = 1 or 2.

    Returns:
        ``(B, C, H, W)`` in the unit of the image.
    """
    return image[:, 0] if image.shape[1] == 1 else (image[:, 1] - image[:, 0]).abs()


def discriminants(batches: Iterable[tuple[Tensor, Tensor]], num_classes: int) -> Tensor:
    """Weights S^-1 mu_k of each class in one pass; ``(w_b - w_a)`` is Fisher's discriminant of a and b.

    Args:
        batches: Features ``(B, C, H, W)`` with masks ``(B, H, W)``; a value that is no class is ignored.
        num_classes: K.

    Returns:
        ``(K, C)`` float64 in one over the unit of the features; NaN for a class that did not occur.
    """
    pixels = torch.zeros(num_classes, dtype=torch.float64)
    sums, products = torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for features, mask in batches:
        valid = (mask >= 0) & (mask < num_classes)
        values, labels = features.movedim(1, -1)[valid].double(), mask[valid]
        members = torch.nn.functional.one_hot(labels, num_classes).double()
        pixels += members.sum(0)
        sums = sums + members.T @ values
        products = products + values.T @ values
    means = sums / pixels.view(-1, 1)
    within = (products - sums.T @ means.nan_to_num()) / pixels.sum()
    # A constant band has no variance, and no say
    inverse = torch.linalg.pinv(within + _RIDGE * within.diagonal().diag(), hermitian=True)
    weights: Tensor = means @ inverse
    return weights


def count_edges(features: Tensor, mask: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Count the edges between classes, and those that agree with the image.

    Args:
        features: ``(B, C, H, W)``.
        mask: ``(B, H, W)``; a value that is no class is ignored.
        weights: Of :func:`discriminants`, ``(K, C)``.

    Returns:
        Edges and agreeing edges, ``(B, K, K)`` float64 each, symmetric and zero on the diagonal. Edges of a class
        without weights are not counted.
    """
    classes = len(weights)
    known = weights.isfinite().all(1)
    scores = torch.einsum('kc,bchw->bkhw', weights.nan_to_num(), features.double())
    mask = mask.where((mask >= 0) & (mask < classes), -1)
    edges = torch.zeros(len(mask) * classes**2, dtype=torch.float64)
    agreeing = torch.zeros_like(edges)
    for s, m in ((scores, mask), (scores.transpose(-1, -2), mask.transpose(-1, -2))):
        first, last = m[..., :-3], m[..., 3:]
        found = (first != last) & (m[..., 1:-2] == first) & (m[..., 2:-1] == last) & (first >= 0) & (last >= 0)
        sample, row, column = found.nonzero(as_tuple=True)
        a, b = first[found], last[found]
        # The scores of both classes at both ends
        contrast = (s[sample, b, row, column + 3] - s[sample, a, row, column + 3]) - (
            s[sample, b, row, column] - s[sample, a, row, column]
        )
        counted = known[a] & known[b]
        index = (sample * classes + torch.minimum(a, b)) * classes + torch.maximum(a, b)
        edges += torch.bincount(index[counted], minlength=len(edges))
        agreeing += torch.bincount(index[counted & (contrast > 0)], minlength=len(edges))
    shape = (len(mask), classes, classes)
    return tuple(counts.view(shape) + counts.view(shape).mT for counts in (edges, agreeing))  # type: ignore[return-value]
