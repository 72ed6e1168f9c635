import math
import time

import pytest
import torch
from torch import Tensor
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.kid import poly_mmd

from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.functional.distances import Products, frechet_distance, kernel_distance


def features(n: int, d: int, seed: int = 0, shift: float = 0.0) -> Tensor:
    """Correlated and not centred, as features of networks are."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=torch.Generator().manual_seed(99), dtype=torch.float64) / math.sqrt(d)
    return torch.randn(n, d, generator=generator, dtype=torch.float64) @ mixing + 2 + shift


def by_torchmetrics(first: Tensor, second: Tensor) -> float:
    return float(_compute_fid(first.mean(0), first.T.cov(), second.mean(0), second.T.cov()))


@pytest.mark.parametrize(('n', 'm', 'd'), [(60, 50, 20), (40, 40, 100), (30, 200, 64), (200, 30, 64)])
def test_frechet_distance_is_that_of_torchmetrics(n: int, m: int, d: int) -> None:
    first, second = features(n, d), features(m, d, seed=1, shift=0.1)
    expected = by_torchmetrics(first, second)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)
    assert Products.of(first, second).frechet_distance() == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(second, first) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_of_known_gaussians() -> None:
    # Columns of the Hadamard kind: mean 0, variance s^2, uncorrelated, so that the formula holds exactly
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 4)
    unit = signs * math.sqrt(15 / 16)
    first, second = (
        unit * torch.tensor([1.0, 2, 3, 4]),
        unit * torch.tensor([2.0, 2, 1, 4]) + torch.tensor([3.0, 0, 0, 4]),
    )
    assert frechet_distance(first, second) == pytest.approx(25 + 1 + 4)


def test_distances_of_identical_sets_vanish() -> None:
    for d in (10, 200):
        x = features(50, d)
        assert frechet_distance(x, x) < 1e-9 * float(x.square().sum())
        assert Products.of(x, x).frechet_distance() < 1e-4
        # Unbiased: the diagonal is left out on one side only
        assert kernel_distance(x, x) < 0


def test_distances_grow_with_noise() -> None:
    x, y = features(100, 16), features(100, 16, seed=1)
    noise = torch.randn(100, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for distance in (frechet_distance, kernel_distance):
        values = [distance(x, y + level * noise) for level in (0.0, 0.5, 1.0, 2.0)]
        assert values == sorted(values)


def test_kernel_distance_is_that_of_torchmetrics() -> None:
    first, second = features(40, 30), features(40, 30, seed=1, shift=0.2)
    assert kernel_distance(first, second) == pytest.approx(float(poly_mmd(first, second)), rel=1e-9)


def test_kernel_distance_is_unbiased() -> None:
    values = torch.tensor([kernel_distance(features(20, 8, 2 * s), features(30, 8, 2 * s + 1)) for s in range(200)])
    assert abs(values.mean()) < 3 * values.std() / math.sqrt(200)


def test_subsets_of_products_are_products_of_subsets() -> None:
    x, y = features(30, 50), features(20, 50, seed=1)
    i, j = torch.tensor([1, 5, 7, 20, 29]), torch.tensor([0, 3, 19, 8])
    for found, expected in zip(Products.of(x, y).subset(i, j)[:3], Products.of(x[i], y[j])[:3], strict=True):
        torch.testing.assert_close(found, expected)
    for found, pair in zip(Products.of(x, y).distances(), ((x, x), (y, y), (x, y)), strict=True):
        torch.testing.assert_close(found, torch.cdist(*pair), atol=1e-6, rtol=1e-9)


def test_a_subset_is_fast() -> None:
    products = Products.of(torch.randn(500, 1280), torch.randn(500, 1280))
    generator = torch.Generator().manual_seed(0)
    start = time.process_time()
    for _ in range(10):
        products.subset(*(torch.randperm(500, generator=generator)[:250] for _ in range(2))).frechet_distance()
    # 200 of them in a few seconds; the limit leaves room for a slow machine
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ('first', 'second', 'words'),
    [
        (torch.zeros(3, 2), torch.zeros(3, 4), r'not \(3, 2\) and \(3, 4\)'),
        (torch.zeros(1, 2), torch.zeros(3, 2), 'N, M >= 2'),
        (torch.zeros(3), torch.zeros(3), 'must be'),
        (torch.full((3, 2), torch.nan), torch.zeros(3, 2), 'not finite'),
    ],
)
def test_refusals_say_why(first: Tensor, second: Tensor, words: str) -> None:
    for distance in (frechet_distance, kernel_distance):
        with pytest.raises(SpecDMError, match=words):
            distance(first, second)
