import math

import numpy as np
import pytest
import torch

from torchgeo_specdm.evaluation.measure import Interval, bootstrap
from torchgeo_specdm.evaluation.resampling import interval_about, resample_weights, resampled_interval, subsets
from torchgeo_specdm.functional.distances import Products, frechet_distance


def test_weights_are_counts_of_draws() -> None:
    weights = resample_weights(7, seed=3, resamples=50)
    assert weights.shape == (51, 7)
    assert weights[0].eq(1).all()
    assert weights.sum(1).eq(7).all()
    assert weights.equal(resample_weights(7, seed=3, resamples=50))
    assert not weights.equal(resample_weights(7, seed=4, resamples=50))


def test_the_interval_of_a_mean_is_the_known_one() -> None:
    rows = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = resampled_interval(resample_weights(400, resamples=2000) @ rows / 400)
    half = 1.96 * float(rows.std()) / 20
    assert found.value == pytest.approx(float(rows.mean()))
    np.testing.assert_allclose(found[1:], (found.value - half, found.value + half), atol=0.1 * half)


def test_subsets_do_not_repeat_and_know_how_much_less_a_whole_varies() -> None:
    indices, scale = subsets(40, most=100)
    assert indices.shape == (200, 20)
    assert scale == 1
    assert all(len(set(row.tolist())) == 20 for row in indices)
    indices, scale = subsets(1000, most=100, resamples=500)
    assert indices.shape == (500, 100)
    rows = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    spread = scale * rows[indices].mean(1).std()
    assert float(spread) == pytest.approx(float(rows.std()) / math.sqrt(1000), rel=0.1)


def test_intervals_of_bad_figures() -> None:
    drawn = torch.tensor([1.0, 2.0, torch.nan, 3.0])
    assert interval_about(1.0, drawn, low=0.5) == pytest.approx((1.0, 0.5, 1.95))
    assert all(math.isnan(limit) for limit in interval_about(math.nan, drawn))
    assert str(interval_about(1.0, torch.full((3,), torch.nan))) == str(Interval(1.0, math.nan, math.nan))
    # One outlier in a thousand
    skewed = torch.cat([torch.zeros(999), torch.tensor([1e6])])
    found = interval_about(5.0, skewed)
    assert found.low <= found.value <= found.high


def test_the_interval_of_a_frechet_distance_holds_its_value_where_the_percentile_bootstrap_does_not() -> None:
    """Over many pairs of samples of one distribution, the mean distance is in 95 % of the intervals."""
    generator = torch.Generator().manual_seed(0)
    n, trials = 40, 50
    samples = torch.randn(trials, 2, n, 60, generator=generator, dtype=torch.float64)
    expected = sum(frechet_distance(x, y) for x, y in samples) / trials
    within = 0
    for trial, (x, y) in enumerate(samples):
        products = Products.of(x, y)
        (rows, scale), (columns, _) = (subsets(n, 250, seed=2 * trial + side, resamples=40) for side in (0, 1))
        drawn = [products.subset(i, j).frechet_distance() for i, j in zip(rows, columns, strict=True)]
        found = interval_about(frechet_distance(x, y), torch.tensor(drawn), scale)
        assert found.low <= found.value <= found.high
        within += found.low <= expected <= found.high
    assert within >= 0.88 * trials
    x, y = samples[0]
    naive = bootstrap(lambda i: frechet_distance(x[i], y[i]), n, resamples=60)
    assert naive.low > naive.value
