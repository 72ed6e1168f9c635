"""What the rows of :class:`~torchgeo_specdm.evaluation.spectra.SpectraObserver` say of one side, and of two."""

import torch
from torch import Tensor

from torchgeo_specdm.evaluation.observation import Rows
from torchgeo_specdm.evaluation.resampling import resample_weights
from torchgeo_specdm.functional import spectral_angle
from torchgeo_specdm.functional.spectra import (
    ClassSums,
    band_wasserstein,
    correlation_matrix_distance,
    correlation_of_covariance,
    matching_bands,
)

# Another order of the bands counts if it leaves less than this share of what tells the sides apart
_LEFT = 0.5
# Of a band's histogram, to see how much its Wasserstein distance varies
_BINS = 256


class SpectralSide:
    """Figures of one side's samples, and of resampled ones, ``(1 + R, ...)``.

    Args:
        rows: Of N samples.
        seed: Of the resamples.

    Attributes:
        samples: N.
        classes: Sums over the pixels of each class.
        roughness: Of each date and band [pixel value], ``(1 + R, T, C)``.
        drawn: Spectra of the drawn pixels, ``(N, 32, T * C)``: the bands of all dates are one spectrum.
        known: Which of them there are, ``(N, 32)``.
        correlation: Correlations of their bands, ``(1 + R, T * C, T * C)``.
    """

    def __init__(self, rows: Rows, seed: int) -> None:
        self.samples = len(rows['pixels'])
        self._weights = resample_weights(self.samples, seed)
        self.classes = ClassSums(*(self.total(rows[key]) for key in ('pixels', 'sum', 'squares')))
        self.roughness = self.total(rows['roughness']) / self.samples
        self.drawn = rows['drawn'].double().flatten(2)
        self.known = rows['drawn_class'] >= 0
        self.correlation = self._correlation()

    def total(self, rows: Tensor) -> Tensor:
        """Sums ``(1 + R, ...)`` of rows ``(N, ...)``."""
        return (self._weights @ rows.double().flatten(1)).view(-1, *rows.shape[1:])

    @property
    def bands(self) -> Tensor:
        """What describes each band: logarithms of its mean and spread in each class and of its roughness, by date.

        Returns:
            ``(1 + R, F, C)``; NaN for a class that is absent.
        """
        parts = [self.classes.mean.flatten(1, 2), self.classes.std.flatten(1, 2), self.roughness]
        return torch.cat(parts, 1).clamp_min(1e-9).log()

    def _correlation(self) -> Tensor:
        known = self.known.unsqueeze(-1)
        # About a value near their mean, or the squares would swallow the spread
        values = (self.drawn - self.drawn[self.known].mean(0)) * known
        count = self.total(known.sum(1))
        mean = self.total(values.sum(1)) / count
        moments = self.total(values.mT @ values) / count.unsqueeze(-1)
        return correlation_of_covariance(moments - mean.unsqueeze(-1) * mean.unsqueeze(-2))


class SpectralPair:
    """What tells the samples of one side from those of another.

    Args:
        first: The side in question.
        second: The side it is compared with.

    Attributes:
        angles: Angle between the classes' mean spectra [rad], ``(1 + R, T, K)``; NaN where one is absent.
        order: The second side's band that each band of the first looks like, ``(1 + R, C)``; in order unless another
            order explains most of what tells the sides apart.
        correlation: Correlation matrix distance, ``(1 + R,)``.
        roughness: Roughness of the first as a multiple of the second's, ``(1 + R, T, C)``; NaN where that has none.
        wasserstein: Wasserstein distance of each band [pixel value], ``(T, C)``.
        wasserstein_drawn: About the same of resampled samples, ``(R, T, C)``.
    """

    def __init__(self, first: SpectralSide, second: SpectralSide) -> None:
        both = (first.classes.pixels > 0) & (second.classes.pixels > 0)
        angles = spectral_angle(first.classes.mean, second.classes.mean, dim=-1)
        self.angles = angles.where(both.unsqueeze(1), torch.nan)
        self.order = torch.stack([_order(*bands) for bands in zip(first.bands, second.bands, strict=True)])
        self.correlation = correlation_matrix_distance(first.correlation, second.correlation)
        self.roughness = (first.roughness / second.roughness).where(second.roughness > 0, torch.nan)
        shape = first.roughness.shape[1:]
        self.wasserstein = band_wasserstein(first.drawn[first.known], second.drawn[second.known]).view(shape)
        drawn = [_binned_wasserstein(first, second, band)[1:] for band in range(first.drawn.shape[2])]
        self.wasserstein_drawn = torch.stack(drawn, 1).view(-1, *shape)


def _order(first: Tensor, second: Tensor) -> Tensor:
    """The matching bands ``(C,)`` of two descriptions ``(F, C)``."""
    common = (first + second).isfinite().all(1)
    bands, left = matching_bands(first[common], second[common])
    return bands if left < _LEFT else torch.arange(len(bands))


def _binned_wasserstein(first: SpectralSide, second: SpectralSide, band: int) -> Tensor:
    """Wasserstein distances ``(1 + R,)`` of the histograms of one band."""
    sides = (first, second)
    values = torch.cat([side.drawn[..., band][side.known] for side in sides])
    low, width = values.min(), (values.max() - values.min()).clamp_min(1e-12) / _BINS
    cumulative = []
    for side in sides:
        number = ((side.drawn[..., band] - low) / width).long().clamp(0, _BINS - 1)
        histogram = torch.zeros(side.samples, _BINS, dtype=torch.float64).scatter_add_(1, number, side.known.double())
        totals = side.total(histogram).cumsum(1)
        cumulative.append(totals / totals[:, -1:])
    distance: Tensor = (cumulative[0] - cumulative[1]).abs().sum(1) * width
    return distance
