import itertools

import pytest
import torch
from torch import Tensor

from torchgeo_specdm.functional.dihedral import ORIENTATIONS, dihedral
from torchgeo_specdm.functional.near_duplicates import (
    _candidates,
    _distance,
    _invariants,
    block_means,
    near_duplicate_groups,
)


def images(count: int, seed: int = 0) -> Tensor:
    """Smooth random images of three bands."""
    generator = torch.Generator().manual_seed(seed)
    coarse = 1000 + 300 * torch.randn(count, 3, 12, 12, generator=generator)
    return torch.nn.functional.interpolate(coarse, 64, mode='bilinear')


def test_copies_in_all_orientations_share_a_group() -> None:
    originals = images(5)
    copies = torch.cat([dihedral(originals, g) for g in range(ORIENTATIONS)])
    noisy = copies + 30 * torch.randn(copies.shape, generator=torch.Generator().manual_seed(1))
    groups = near_duplicate_groups(block_means(noisy))
    assert groups.tolist() == list(range(5)) * ORIENTATIONS


def test_half_overlapping_neighbours_do_not() -> None:
    scene = images(1)
    windows = torch.cat([scene[..., :32, :32], scene[..., :32, 16:48], scene[..., 16:48, :32]])
    assert near_duplicate_groups(block_means(windows)).tolist() == [0, 1, 2]


def test_blank_and_faint_images() -> None:
    blank = torch.zeros(3, 3, 64, 64)
    faint = images(2) * 1e-3
    assert near_duplicate_groups(block_means(torch.cat([blank, faint, blank]))).tolist() == [0, 0, 0, 1, 2, 0, 0, 0]


def test_groups_are_the_transitive_closure() -> None:
    """A ramp of images, each close to the next alone, is one group."""
    start, end = block_means(images(2)).unsqueeze(1)
    ramp = torch.cat([torch.lerp(start, end, t) for t in torch.linspace(0, 1, 60)])
    assert near_duplicate_groups(ramp).unique().tolist() == [0]
    assert near_duplicate_groups(ramp[::30]).tolist() == [0, 1]


@pytest.mark.parametrize('chunk', [4, 1000])
def test_candidates_agree_with_all_pairs(chunk: int) -> None:
    """The projection is a lower bound, so that no pair is lost; compared with brute force."""
    signatures = block_means(images(30)).double()
    pairs = list(itertools.combinations(range(30), 2))
    first, second = torch.tensor(pairs).T
    exact = _distance(signatures[first], signatures[second])
    mean = torch.stack([dihedral(signatures, g) for g in range(ORIENTATIONS)]).mean(0)
    bound = (mean[first] - mean[second]).square().mean((1, 2, 3)).sqrt()
    assert (bound <= exact + 1e-9).all()
    limit = bound.median() * (1 + 1e-9)
    i, j = _candidates(_invariants(signatures), limit.expand(30), chunk)
    assert set(zip(i.tolist(), j.tolist(), strict=True)) == {pairs[k] for k in (bound <= limit).nonzero()[:, 0]}
