"""Planted faults do what they say, each larger one includes the smaller, and generators repeat themselves."""

import pytest
import torch
from torch import Tensor

from tests.conftest import tiny_spec
from tests.fake import FakePairs
from torchgeo_specdm.evaluation.faults import (
    band_swapped,
    blurred,
    flip_regions,
    repeated,
    replayed,
    shift_masks,
    shuffled,
    stack_masks,
    swap_masks,
)
from torchgeo_specdm.functional.regions import connected_regions
from torchgeo_specdm.spec import find_spec


@pytest.fixture
def masks() -> Tensor:
    """Ten masks of four classes in blocks of 4 px."""
    blocks = torch.randint(0, 4, (10, 4, 4), generator=torch.Generator().manual_seed(0))
    return blocks.repeat_interleave(4, 1).repeat_interleave(4, 2)


def test_a_shift_moves_every_mask_in_one_of_eight_directions(masks: Tensor) -> None:
    assert torch.equal(shift_masks(masks, 0), masks)
    shifted = shift_masks(masks, 3)
    directions = set()
    for before, after in zip(masks, shifted, strict=True):
        inner = after[3:-3, 3:-3]
        found = [
            (down, right)
            for down in (-3, 0, 3)
            for right in (-3, 0, 3)
            if (down or right) and torch.equal(inner, before[3 + down : 13 + down, 3 + right : 13 + right])
        ]
        assert found
        directions.update(found)
    assert len(directions) > 3
    assert shifted.unique().tolist() == [0, 1, 2, 3]
    assert shifted.dtype == masks.dtype


def test_a_flipped_region_has_another_class_as_a_whole(masks: Tensor) -> None:
    masks[0, 0, 0] = 255
    assert torch.equal(flip_regions(masks, 0.0, 4), masks)
    half, whole = flip_regions(masks, 0.5, 4), flip_regions(masks, 1.0, 4)
    assert torch.equal(flip_regions(masks, 0.5, 4), half)
    labelled = masks != 255
    assert (whole[labelled] != masks[labelled]).all()
    assert (whole[~labelled] == 255).all()
    changed = half != masks
    assert 0.3 < changed.double().mean() < 0.7
    assert torch.equal(half[changed], whole[changed])
    for mask, part in zip(masks, changed, strict=True):
        regions = connected_regions(mask, 4).numbers
        for region in range(int(regions.max()) + 1):
            assert part[regions == region].unique().numel() == 1


def test_a_flipped_change_is_labelled_elsewhere() -> None:
    masks = torch.zeros(20, 16, 16, dtype=torch.long)
    masks[:, 2:6, 3:8] = 1
    moved = flip_regions(masks, 1.0, 2, change=True)
    assert torch.equal(moved.sum((1, 2)), masks.sum((1, 2)))
    assert (moved != masks).any((1, 2)).all()
    empty = torch.zeros(1, 16, 16, dtype=torch.long)
    assert torch.equal(flip_regions(empty, 1.0, 2, change=True), empty)


def test_swapped_masks_are_those_of_other_patches() -> None:
    masks = torch.arange(20).view(-1, 1, 1).expand(-1, 2, 2)
    quarter, whole = swap_masks(masks, 0.25), swap_masks(masks, 1.0)
    assert torch.equal(swap_masks(masks, 0.0), masks)
    assert (quarter != masks).all((1, 2)).sum() == 5
    assert (whole != masks).all((1, 2)).all()
    assert sorted(whole[:, 0, 0].tolist()) == list(range(20))


@pytest.mark.parametrize('task', ['segmentation', 'change'])
def test_degenerate_generators(task: str) -> None:
    real = FakePairs(tiny_spec(task), length=5)
    generators = {
        'replayed': replayed(real, 7),
        'repeated': repeated(real, 6, index=2),
        'shuffled': shuffled(real),
        'band-swapped': band_swapped(real),
        'blurred': blurred(real),
    }
    for generator in generators.values():
        assert find_spec(generator) == real.spec
        assert generator[3]['image'].shape == real.spec.image_shape
        assert generator[3]['mask'].shape == real.spec.mask_shape
    assert torch.equal(generators['replayed'][6]['image'], real[1]['image'])
    assert torch.equal(generators['repeated'][0]['image'], generators['repeated'][5]['image'])
    assert torch.equal(generators['shuffled'][1]['image'], real[1]['image'])
    assert not torch.equal(stack_masks(generators['shuffled']), stack_masks(real))
    swapped = generators['band-swapped'][0]['image']
    assert torch.equal(swapped.select(-3, 1), real[0]['image'].select(-3, 0))
    ordered = band_swapped(real, (2, 1, 0))[0]['image']
    assert torch.equal(ordered.select(-3, 0), real[0]['image'].select(-3, 2))
    smooth, sharp = generators['blurred'][0]['image'], real[0]['image']
    assert smooth.diff(dim=-1).abs().mean() < 0.5 * sharp.diff(dim=-1).abs().mean()
    assert smooth.mean() == pytest.approx(float(sharp.mean()), rel=0.02)
