"""Connected regions of a mask: their sizes, how long their boundaries are, which classes meet in a patch.

A region is a largest set of pixels of one class that are connected through their four sides. Pixels whose value is
none of the K classes belong to no region.
"""

import heapq
from collections import Counter
from typing import NamedTuple

import torch
from scipy.ndimage import label
from torch import Tensor


class Regions(NamedTuple):
    """The R regions of a mask, class by class and then in reading order.

    Attributes:
        numbers: The region 0 ... R-1 of each pixel, -1 of a pixel without a label; ``(H, W)`` int64.
        classes: The class of each region, ``(R,)``.
        sizes: The number of its pixels, ``(R,)``.
    """

    numbers: Tensor
    classes: Tensor
    sizes: Tensor


def connected_regions(mask: Tensor, num_classes: int) -> Regions:
    """Find the regions of a mask.

    Args:
        mask: ``(H, W)`` int64.
        num_classes: K.
    """
    numbers = torch.full(mask.shape, -1, dtype=torch.long)
    counts: list[int] = []
    for value in range(num_classes):
        found, count = label((mask == value).numpy())
        regions = torch.from_numpy(found).long()
        numbers = torch.where(regions > 0, regions - 1 + sum(counts), numbers)
        counts.append(count)
    classes = torch.arange(num_classes).repeat_interleave(torch.tensor(counts, dtype=torch.long))
    return Regions(numbers, classes, torch.bincount(numbers[numbers >= 0], minlength=len(classes)))


def boundary_length(mask: Tensor, num_classes: int) -> Tensor:
    """Number of pixel pairs that share a side and differ in class; both must have one.

    Args:
        mask: ``(..., H, W)`` int64.
        num_classes: K.

    Returns:
        ``(...)`` int64 [px].
    """
    return sum((_differ(mask, axis, num_classes).sum((-2, -1)) for axis in (-2, -1)), torch.tensor(0))


def co_occurrence(presence: Tensor, weights: Tensor | None = None) -> Tensor:
    """Share of patches that hold both of two classes.

    Args:
        presence: Whether each class is in each patch, ``(N, K)``.
        weights: How often each patch counts, ``(N,)``; by default once.

    Returns:
        ``(K, K)`` float64, symmetric; a class's own share of the patches is on the diagonal.
    """
    present = presence.double()
    weights = torch.ones(len(present), dtype=torch.float64) if weights is None else weights.double()
    return present.T @ (present * weights.unsqueeze(1)) / weights.sum()


def merge_small_regions(mask: Tensor, smallest: int, num_classes: int) -> Tensor:
    """Give each region of fewer than ``smallest`` pixels the class that it has the longest boundary with.

    The smallest region is merged first (of equally large ones, the first of :func:`connected_regions`), so that
    small neighbours may grow together; between equally long boundaries the lower class wins. A region without a
    labelled neighbour stays, and no pixel gains or loses a label.

    Args:
        mask: ``(..., H, W)`` int64.
        smallest: Number of pixels of the smallest region that stays [px].
        num_classes: K.

    Returns:
        A new mask of the same shape.
    """
    flat = mask.reshape(-1, *mask.shape[-2:])
    return torch.stack([_merged(one, smallest, num_classes) for one in flat]).view_as(mask) if len(flat) else mask


def _merged(mask: Tensor, smallest: int, num_classes: int) -> Tensor:
    numbers, classes, sizes = connected_regions(mask, num_classes)
    owner, value, size = list(range(len(sizes))), classes.tolist(), sizes.tolist()
    borders = _borders(mask, numbers, num_classes)

    def find(region: int) -> int:
        while owner[region] != region:
            owner[region] = owner[owner[region]]
            region = owner[region]
        return region

    queue = [(pixels, region) for region, pixels in enumerate(size) if pixels < smallest]
    heapq.heapify(queue)
    while queue:
        pixels, region = heapq.heappop(queue)
        # An entry is stale once its region has grown or was swallowed
        if owner[region] != region or size[region] != pixels or not borders[region]:
            continue
        lengths: Counter[int] = Counter()
        for neighbour, length in borders[region].items():
            lengths[value[neighbour]] += length
        value[region] = min(lengths, key=lambda label: (-lengths[label], label))
        # Its neighbours of that class are now one region with it
        for neighbour in [other for other in borders[region] if value[other] == value[region]]:
            for other, length in borders.pop(neighbour).items():
                del borders[other][neighbour]
                if other != region:
                    borders[region][other] += length
                    borders[other][region] += length
            owner[neighbour] = region
            size[region] += size[neighbour]
        if size[region] < smallest:
            heapq.heappush(queue, (size[region], region))
    final = torch.tensor([value[find(region)] for region in range(len(size))], dtype=mask.dtype)
    return torch.where(numbers >= 0, final[numbers.clamp_min(0)], mask) if len(final) else mask.clone()


def _borders(mask: Tensor, numbers: Tensor, num_classes: int) -> dict[int, Counter[int]]:
    """How long the boundary of each region with each of its neighbours is."""
    borders: dict[int, Counter[int]] = {region: Counter() for region in range(int(numbers.max()) + 1)}
    for axis in (-2, -1):
        differ = _differ(mask, axis, num_classes)
        size = numbers.shape[axis] - 1
        pairs = torch.stack([numbers.narrow(axis, start, size)[differ] for start in (0, 1)], 1)
        distinct, lengths = torch.unique(pairs, dim=0, return_counts=True)
        for (first, second), length in zip(distinct.tolist(), lengths.tolist(), strict=True):
            borders[first][second] += length
            borders[second][first] += length
    return borders


def _differ(mask: Tensor, axis: int, num_classes: int) -> Tensor:
    """Where a pixel and the next one along an axis have two different classes."""
    size = mask.shape[axis] - 1
    first, second = mask.narrow(axis, 0, size), mask.narrow(axis, 1, size)
    classes = [(part >= 0) & (part < num_classes) for part in (first, second)]
    return (first != second) & classes[0] & classes[1]
