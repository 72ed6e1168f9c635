"""Nearest references, against loops over everything, with and without common ground."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from torchgeo_specdm.functional.nearest import nearest


def alone(count: int) -> Callable[[Tensor], Tensor]:
    """Every reference is a place of its own."""
    return lambda index: torch.nn.functional.one_hot(index, count).bool()


def loop(queries: Tensor, references: Tensor, places: list[int]) -> list[tuple[float, int, int, int, float]]:
    """Ratio, index, orientation, other index and other distance of each query, found by comparing all with all."""
    found = []
    for query in range(queries.shape[1]):
        distance = {}
        for reference in range(references.shape[1]):
            tried = [
                (np.sqrt(((turned[query] - other[reference]) ** 2).sum()), a * len(references) + b)
                for a, turned in enumerate(queries.double().numpy())
                for b, other in enumerate(references.double().numpy())
            ]
            distance[reference] = min(tried)
        first = min(distance, key=lambda r: distance[r])
        others = [r for r in distance if places[r] != places[first]]
        second = min(others, key=lambda r: distance[r])
        ratio = distance[first][0] / distance[second][0]
        found.append((ratio, first, distance[first][1], second, distance[second][0]))
    return found


def test_equals_a_loop_over_all_pairs_and_orientations() -> None:
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(3, 7, 5, generator=generator)
    references = torch.randn(8, 11, 5, generator=generator) + 100
    queries[1] += 100
    places = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3])
    found = nearest(queries, references, lambda index: places[index, None] == places, chunk=3)
    expected = loop(queries, references, places.tolist())
    for row, (ratio, first, orientation, second, distance) in enumerate(expected):
        assert torch.isclose(found.ratio[row], torch.tensor(ratio, dtype=torch.float32), rtol=1e-4)
        assert (found.index[row], found.orientation[row], found.other_index[row]) == (first, orientation, second)
        assert torch.isclose(found.other_distance[row], torch.tensor(distance, dtype=torch.float32), rtol=1e-4)


def test_either_side_may_come_in_one_orientation() -> None:
    queries, references = torch.randn(8, 4, 6), torch.randn(5, 6)
    one = nearest(queries, references, alone(5))
    other = nearest(references, queries.flatten(0, 1), alone(32))
    assert torch.allclose(one.distance.min(), other.distance.min(), rtol=1e-4)


def test_a_crop_that_overlaps_the_copied_one_would_hide_the_copy() -> None:
    references = torch.tensor([[0.0, 0.0], [0.02, 0.0], [1.0, 0.0], [0.0, 1.0]])
    copy = torch.tensor([[0.01, 0.0]])
    places = torch.tensor([0, 0, 1, 2])
    assert nearest(copy, references, lambda index: places[index, None] == places).ratio < 0.02
    assert nearest(copy, references, alone(4)).ratio > 0.99


def test_nothing_sets_the_nearest_apart() -> None:
    twins = torch.zeros(2, 3)
    assert nearest(torch.zeros(1, 3), twins, alone(2)).ratio == 1
    lonely = nearest(torch.zeros(1, 3), torch.ones(2, 3), lambda index: torch.ones(len(index), 2, dtype=torch.bool))
    assert (lonely.ratio, lonely.other_index, lonely.other_distance) == (1, -1, torch.inf)


def test_a_copy_of_a_long_vector_has_distance_zero() -> None:
    references = torch.randn(50, 64) + 1e4
    found = nearest(references, references, alone(50))
    assert found.index.tolist() == list(range(50))
    assert found.distance.max() == 0
