r"""95 % intervals of figures of whole sets of samples, drawn about the figure itself.

A distance between two sets is never negative, and larger the fewer and the more repetitive the samples are. Resampled
sets have larger distances, so the percentile bootstrap may well leave out the very value whose interval it should be.
What a resample tells is how much the figure varies: with resampled figures :math:`t^*` the interval is

.. math:: [t + s \, (q_{2.5 \%}(t^*) - \bar{t^*}),\; t + s \, (q_{97.5 \%}(t^*) - \bar{t^*})]

- Figures of sums over samples: bootstrap (Efron, 1979), s = 1, as a product of weights and rows.
- Figures of pairs of samples, where a sample drawn twice would be its own neighbour and lower the rank of
  covariances: m of n samples without repetition, at most half of them (delete-d jackknife, Shao and Wu, 1989),
  :math:`s = \sqrt{m / (n - m)}`.

Samples count as independent. Neighbouring patches are alike, so that intervals of real data should be wider.
"""

import math

import torch
from torch import Tensor

from torchgeo_specdm.evaluation.measure import Interval

RESAMPLES = 200


def resample_weights(samples: int, seed: int = 0, resamples: int = RESAMPLES) -> Tensor:
    """How often each of N samples is drawn: once in the first row, N random draws with repetition in each other one.

    Args:
        samples: N.
        seed: Seed of the draws; another one for each set of samples.
        resamples: R.

    Returns:
        ``(1 + R, N)`` float64. ``weights @ rows`` are the sums over the samples, and over resampled ones.
    """
    drawn = torch.randint(samples, (resamples, samples), generator=torch.Generator().manual_seed(seed))
    weights = torch.zeros(resamples, samples, dtype=torch.float64)
    weights.scatter_add_(1, drawn, torch.ones_like(weights))
    return torch.cat([torch.ones(1, samples, dtype=torch.float64), weights])


def resampled_interval(figures: Tensor, low: float = -math.inf, high: float = math.inf) -> Interval:
    """The interval of a figure.

    Args:
        figures: One per row of :func:`resample_weights`, ``(1 + R,)``.
        low: Least possible value.
        high: Largest possible value.
    """
    return interval_about(float(figures[0]), figures[1:], low=low, high=high)


def subsets(samples: int, most: int, seed: int = 0, resamples: int = RESAMPLES) -> tuple[Tensor, float]:
    """Random subsets without repetition, of half the samples or ``most``.

    Args:
        samples: n, at least 2.
        most: Largest size of a subset.
        seed: Seed of the draws.
        resamples: R.

    Returns:
        Indices ``(R, m)``, and the factor s by which their figures vary less than those of n samples do.
    """
    size = min(samples // 2, most)
    order = torch.rand(resamples, samples, generator=torch.Generator().manual_seed(seed)).argsort(1)
    return order[:, :size], math.sqrt(size / (samples - size))


def interval_about(
    value: float, drawn: Tensor, scale: float = 1.0, low: float = -math.inf, high: float = math.inf
) -> Interval:
    """The interval of a figure that varies as resampled ones do; NaN among these is left out.

    Args:
        value: The figure; NaN has no interval.
        drawn: Resampled figures, ``(R,)``.
        scale: s.
        low: Least possible value.
        high: Largest possible value.
    """
    deviation = scale * (drawn.double() - drawn.double().nanmean())
    lower, upper = deviation.nanquantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    if math.isnan(value) or math.isnan(lower):
        return Interval(value, math.nan, math.nan)
    # The mean of very skewed figures may lie outside of their own interval
    return Interval(value, max(low, value + min(lower, 0.0)), min(high, value + max(upper, 0.0)))
