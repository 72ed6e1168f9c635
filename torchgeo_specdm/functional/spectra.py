r"""What the spectra of many pixels have in common: class means, correlation of bands, histograms, roughness.

Correlation matrix distance of two matrices of the bands' correlations (Herdin et al., VTC 2005): 0 where one is a
multiple of the other, at most 1.

.. math:: d(R_1, R_2) = 1 - \frac{\operatorname{tr}(R_1 R_2)}{\|R_1\|_F \|R_2\|_F}
"""

from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import wasserstein_distance
from torch import Tensor

from torchgeo_specdm.spec import one_hot


class ClassSums(NamedTuple):
    """Sums over the pixels of each class; sums of sums are the sums of all pixels.

    Attributes:
        pixels: Number of pixels, ``(..., K)``.
        sums: Of their spectra, ``(..., T, K, C)``.
        squares: Of their squared spectra, ``(..., T, K, C)``.
    """

    pixels: Tensor
    sums: Tensor
    squares: Tensor

    @property
    def mean(self) -> Tensor:
        """Mean spectra ``(..., T, K, C)``; NaN for a class without pixels."""
        return self.sums / self._count

    @property
    def std(self) -> Tensor:
        """Standard deviation of the spectra ``(..., T, K, C)``; NaN for a class without pixels."""
        return (self.squares / self._count - self.mean.square()).clamp_min(0).sqrt()

    @property
    def _count(self) -> Tensor:
        return self.pixels.unsqueeze(-2).unsqueeze(-1)


def labelled_spectra(image: Tensor, mask: Tensor, num_classes: int) -> Tensor:
    """Which pixels have a class, and a spectrum other than zero (no data) at every date, ``(B, H, W)`` bool.

    Args:
        image: ``(B, T, C, H, W)``.
        mask: ``(B, H, W)``; a value that is no class is ignored.
        num_classes: K.
    """
    return (mask >= 0) & (mask < num_classes) & image.ne(0).any(2).all(1)


def class_sums(image: Tensor, mask: Tensor, num_classes: int) -> ClassSums:
    """Sums of the spectra of each class and sample; pixels without a label or a spectrum do not count.

    Args:
        image: ``(B, T, C, H, W)`` in any unit.
        mask: ``(B, H, W)``; a value that is no class is ignored.
        num_classes: K.

    Returns:
        float64 tensors with a leading ``B``.
    """
    labels = mask.where(labelled_spectra(image, mask, num_classes), -1)
    classes = one_hot(labels, num_classes, ignore_index=-1).double().flatten(2)
    spectra = image.double().flatten(3)
    sums = (torch.einsum('bkn,btcn->btkc', classes, values) for values in (spectra, spectra.square()))
    return ClassSums(classes.sum(2), *sums)


def band_correlation(spectra: Tensor) -> Tensor:
    """Correlation of the bands over pixels (Pearson's).

    Args:
        spectra: ``(N, C)``.

    Returns:
        ``(C, C)`` float64; a band that is constant has no correlation but with itself.
    """
    centred = spectra.double() - spectra.double().mean(0)
    return correlation_of_covariance(centred.T @ centred)


def correlation_of_covariance(covariance: Tensor) -> Tensor:
    """Correlation matrices of covariance matrices ``(..., C, C)``, up to a factor of these."""
    variance = covariance.diagonal(dim1=-2, dim2=-1)
    # What rounding leaves of a constant band is no variance
    varies = variance > 1e-12 * variance.amax(-1, keepdim=True)
    scale = torch.where(varies, variance.where(varies, 1).rsqrt(), 0)
    correlation = covariance * scale.unsqueeze(-1) * scale.unsqueeze(-2)
    correlation.diagonal(dim1=-2, dim2=-1).fill_(1)
    return correlation


def correlation_matrix_distance(first: Tensor, second: Tensor) -> Tensor:
    """Correlation matrix distance of matrices ``(..., C, C)``, between 0 and 1; ``(...)``."""
    lengths = torch.linalg.matrix_norm(first) * torch.linalg.matrix_norm(second)
    distance: Tensor = 1 - (first * second).sum((-2, -1)) / lengths
    return distance.clamp_min(0)


def band_wasserstein(first: Tensor, second: Tensor) -> Tensor:
    """1-Wasserstein distance of the values of each band.

    Args:
        first: ``(N, C)``.
        second: ``(M, C)``.

    Returns:
        ``(C,)`` float64 in the unit of the values.
    """
    x, y = first.double().numpy(), second.double().numpy()
    return torch.tensor([wasserstein_distance(a, b) for a, b in zip(x.T, y.T, strict=True)], dtype=torch.float64)


def roughness(image: Tensor) -> Tensor:
    """Mean absolute difference of pixels that share a side, which blur lowers and noise raises.

    Args:
        image: ``(..., C, H, W)``; pixels whose whole spectrum is zero (no data) are left out.

    Returns:
        ``(..., C)`` in the unit of the image; 0 where no two neighbours are left.
    """
    known = image.ne(0).any(-3, keepdim=True)
    total, pairs = torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for axis in (-2, -1):
        size = image.shape[axis] - 1
        both = known.narrow(axis, 0, size) & known.narrow(axis, 1, size)
        total = total + (image.diff(dim=axis).abs() * both).double().sum((-2, -1))
        pairs = pairs + both.double().sum((-2, -1))
    return total / pairs.clamp_min(1)


def matching_bands(first: Tensor, second: Tensor) -> tuple[Tensor, float]:
    """Which band of the second set each band of the first is most like, every band being matched once.

    The sum of squared differences of the descriptors is made least (assignment problem; Kuhn, 1955). With logarithms
    of positive statistics as descriptors, a factor common to all bands does not matter.

    Args:
        first: What describes each band, ``(F, C)``.
        second: The same of the second set, ``(F, C)``.

    Returns:
        The matching bands ``(C,)`` int64, and the sum that they leave as a share of that of the bands in order (1 if
        they are in order).
    """
    cost = (first.unsqueeze(2) - second.unsqueeze(1)).square().sum(0)
    rows, columns = (torch.from_numpy(index) for index in linear_sum_assignment(cost.numpy()))
    least, in_order = float(cost[rows, columns].sum()), float(cost.diagonal().sum())
    return columns, least / in_order if least < in_order else 1.0
