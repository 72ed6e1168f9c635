"""Figures of N samples and of resampled ones, ``(1 + R,)``: the value first, then how it varies."""

import torch
from torch import Tensor

from torchgeo_specdm.comparison import Counts, mean_iou, sum_samples
from torchgeo_specdm.evaluation.measure import Interval
from torchgeo_specdm.evaluation.observation import Rows, draw
from torchgeo_specdm.evaluation.resampling import resample_weights, resampled_interval, subsets
from torchgeo_specdm.functional.distances import Products, frechet_distance, kernel_distance
from torchgeo_specdm.functional.spectra import ClassSums

# Samples of a subset that intervals of distances are drawn from, and draws
_SUBSET, _DRAWS = 150, 100


def distances(base: Tensor, *others: Tensor) -> tuple[int, dict[str, Tensor]]:
    """FD and KID of each other set to ``base``, all of one size N: that of the smallest.

    Returns:
        N, and by name ``(1 + R, len(others))``: the figures, then those of subsets, whose deviations are scaled to
        those of N samples. Each draw takes the same samples of ``base`` for all others.
    """
    count = min(len(rows) for rows in (base, *others))
    base, *found = (rows[draw(rows, count)].double() for rows in (base, *others))
    measures = {'FD': frechet_distance, 'KID': kernel_distance}
    value = {name: torch.tensor([measure(base, rows) for rows in found]) for name, measure in measures.items()}
    (first, scale), (second, _) = (subsets(count, _SUBSET, seed, _DRAWS) for seed in (0, 1))
    drawn = {name: torch.empty(_DRAWS, len(found)) for name in measures}
    for number, (i, j) in enumerate(zip(first, second, strict=True)):
        # Of the subsets alone: all pairs of N samples would take gigabytes
        x, inner = base[i], base[i] @ base[i].T
        products = [Products(inner, y @ y.T, x @ y.T, x.shape[1]) for y in (rows[j] for rows in found)]
        drawn['FD'][number] = torch.tensor([one.frechet_distance() for one in products])
        drawn['KID'][number] = torch.tensor([one.kernel_distance() for one in products])
    return count, {
        name: torch.cat([value[name][None], value[name] + scale * (drawn[name] - drawn[name].mean(0))])
        for name in value
    }


def ratio(first: Tensor, second: Tensor) -> Interval:
    """Of figures ``(1 + R,)`` that count as 0 where they are negative.

    Infinite over what is 0 (a distance that is no larger than that of real samples, say); 1 where both are.
    """
    first, second = first.clamp_min(0).double(), second.clamp_min(0).double()
    quotients = torch.where((first == 0) & (second == 0), 1.0, first / second)
    if quotients.isfinite().all() or quotients[0].isnan():
        return resampled_interval(quotients, low=0)
    # Infinite draws have a rank, but no mean
    drawn, value = quotients[1:].sort().values, float(quotients[0])
    low, high = (float(drawn[round(share * (len(drawn) - 1))]) for share in (0.025, 0.975))
    return Interval(value, min(low, value), max(high, value))


def over_seeds(figures: Tensor) -> Tensor:
    """Mean over training seeds ``(1 + R, ...)`` of figures ``(S, 1 + R, ...)``; draws repeat seeds, too."""
    seeds, draws = figures.shape[:2]
    weights = resample_weights(seeds, resamples=draws - 1) / seeds
    return torch.einsum('rs,sr...->r...', weights, figures.double())


def class_means(rows: Rows, seed: int) -> Tensor:
    """Mean spectra ``(1 + R, T, K, C)`` of resampled samples."""
    pixels, sums = (weighted(rows[key], seed) for key in ('pixels', 'sum'))
    return ClassSums(pixels, sums, sums).mean


def agreement(rows: Rows, seed: int) -> Tensor:
    """Mean IoU of counted pixels, ``(1 + R,)``."""
    counts = Counts(*(rows[name] for name in Counts._fields))
    return mean_iou(sum_samples(counts, resample_weights(len(counts.hit), seed)))


def weighted(rows: Tensor, seed: int) -> Tensor:
    """Sums ``(1 + R, ...)`` over rows ``(N, ...)`` of resampled samples."""
    total = resample_weights(len(rows), seed) @ rows.double().reshape(len(rows), -1)
    return total.view(-1, *rows.shape[1:])
