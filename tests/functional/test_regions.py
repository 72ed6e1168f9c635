import time

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from torchgeo_specdm.functional.regions import boundary_length, co_occurrence, connected_regions, merge_small_regions


def blobs(size: int = 32, classes: int = 4, smooth: int = 7, seed: int = 0) -> Tensor:
    noise = torch.randn(1, classes, size, size, generator=torch.Generator().manual_seed(seed))
    return avg_pool2d(noise, smooth, 1, smooth // 2)[0].argmax(0)


def flood(mask: Tensor, classes: int) -> list[tuple[int, int]]:
    """Class and size of each region, one pixel at a time."""
    found, seen = [], set()
    height, width = mask.shape
    for start in [(i, j) for i in range(height) for j in range(width)]:
        value = int(mask[start])
        if start in seen or not 0 <= value < classes:
            continue
        stack, size = [start], 0
        seen.add(start)
        while stack:
            i, j = stack.pop()
            size += 1
            for near in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)):
                if 0 <= near[0] < height and 0 <= near[1] < width and near not in seen and mask[near] == value:
                    seen.add(near)
                    stack.append(near)
        found.append((value, size))
    return sorted(found)


def test_regions_are_those_of_a_flood_fill() -> None:
    mask = blobs(smooth=3)
    mask[5:9, 5:9] = 255
    mask[20, :] = -1
    found = connected_regions(mask, 4)
    assert sorted(zip(found.classes.tolist(), found.sizes.tolist(), strict=True)) == flood(mask, 4)
    assert ((found.numbers >= 0) == ((mask >= 0) & (mask < 4))).all()
    assert (found.classes[found.numbers.clamp_min(0)] == mask)[found.numbers >= 0].all()


def test_corners_do_not_connect() -> None:
    found = connected_regions(torch.eye(4, dtype=torch.long), 2)
    assert found.sizes.tolist() == [6, 6, 1, 1, 1, 1]


def test_a_mask_without_labels_has_no_regions() -> None:
    mask = torch.full((4, 4), 255)
    assert len(connected_regions(mask, 3).sizes) == 0
    assert merge_small_regions(mask, 5, 3).equal(mask)
    assert boundary_length(mask, 3) == 0


def test_boundary_length() -> None:
    mask = torch.zeros(2, 6, 8, dtype=torch.long)
    mask[1, :, 4:] = 1
    assert boundary_length(mask, 2).tolist() == [0, 6]
    mask[1, 0, 3] = 255
    assert boundary_length(mask, 2).tolist() == [0, 5]
    checkerboard = torch.arange(36).view(6, 6).remainder(6).add(torch.arange(6).view(-1, 1)).remainder(2)
    assert boundary_length(checkerboard, 2) == 60


def test_co_occurrence() -> None:
    presence = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 0, 0], [1, 1, 0]])
    expected = torch.tensor([[1, 0.5, 0], [0.5, 0.5, 0], [0, 0, 0]]).double()
    assert co_occurrence(presence).equal(expected)
    weights = torch.tensor([2.0, 0, 1, 1])
    assert co_occurrence(presence, weights).equal(co_occurrence(presence[[0, 0, 2, 3]]))


def test_a_small_region_gets_the_class_around_it() -> None:
    mask = torch.zeros(8, 8, dtype=torch.long)
    mask[:, 5:] = 1
    mask[2:4, 4:6] = 2
    # Four pairs with class 0, four with class 1: the lower one wins
    expected = mask.clone()
    expected[2:4, 4:6] = 0
    assert merge_small_regions(mask, 5, 3).equal(expected)
    assert merge_small_regions(mask, 4, 3).equal(mask)


def test_after_merging_no_region_is_small() -> None:
    for mask in (blobs(smooth=3), blobs(smooth=1), blobs(smooth=5, seed=3)):
        merged = merge_small_regions(mask, 12, 4)
        assert connected_regions(merged, 4).sizes.min() >= 12
        assert merged.equal(merge_small_regions(mask, 12, 4))
        assert merge_small_regions(merged, 12, 4).equal(merged)
        large = connected_regions(mask, 4)
        kept = (large.sizes >= 12)[large.numbers]
        # Only pixels of small regions change
        assert (merged == mask)[kept].all()


def test_what_has_no_label_stays_without_and_islands_stay() -> None:
    mask = torch.full((1, 9, 9), 255)
    mask[0, 4, 4] = 1
    mask[0, 0] = 0
    merged = merge_small_regions(mask, 5, 2)
    assert merged.equal(mask)
    assert merged.shape == (1, 9, 9)


def test_noise_is_merged_fast() -> None:
    mask = torch.randint(0, 10, (128, 128), generator=torch.Generator().manual_seed(0))
    start = time.process_time()
    merged = merge_small_regions(mask, 20, 10)
    assert time.process_time() - start < 3
    assert connected_regions(merged, 10).sizes.min() >= 20
