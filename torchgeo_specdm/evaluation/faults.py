"""Real pairs with a known fault: what a measure must notice, and by how much.

Masks of real pairs are shifted, their regions get another class, or they go to other patches. The degenerate
generators at the end are datasets of such faults that no measure of a single pair can name.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import Dataset, Subset

from torchgeo_specdm.functional.regions import connected_regions
from torchgeo_specdm.spec import DatasetSpec, find_spec

_DIRECTIONS = ((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, -1), (-1, 1))


def shift_masks(masks: Tensor, pixels: int, seed: int = 0) -> Tensor:
    """Shift each mask in one of eight directions; what enters is the mirror image of what is at the border.

    Args:
        masks: ``(N, H, W)``.
        pixels: By how much along each axis that the direction has [px].
        seed: Seed of the directions, which do not depend on ``pixels``.
    """
    height, width = masks.shape[-2:]
    chosen = torch.randint(len(_DIRECTIONS), (len(masks),), generator=torch.Generator().manual_seed(seed))
    # Padding by reflection is defined for floats, which hold every class exactly
    padded = pad(masks.double().unsqueeze(1), (pixels,) * 4, mode='reflect').squeeze(1).to(masks.dtype)
    shifted = torch.empty_like(masks)
    for index, direction in enumerate(chosen.tolist()):
        down, right = (pixels + pixels * step for step in _DIRECTIONS[direction])
        shifted[index] = padded[index, down : down + height, right : right + width]
    return shifted


def flip_regions(masks: Tensor, share: float, num_classes: int, change: bool = False, seed: int = 0) -> Tensor:
    """Give a share of the connected regions of each mask another class.

    In a mask of change, flipping a region can only remove it. There each flipped region of class 1 is moved to
    another place of the patch instead, so that a change goes unlabelled and a label has no change.

    Args:
        masks: ``(N, H, W)``; a value that is no class stays.
        share: Probability of each region; the regions of a smaller share are among those of a larger one.
        num_classes: K.
        change: Whether these are masks of change.
        seed: Seed of the draws, which do not depend on ``share``.
    """
    generator = torch.Generator().manual_seed(seed)
    flipped = masks.clone()
    for source, target in zip(masks, flipped, strict=True):
        numbers, classes, _ = connected_regions(source, num_classes)
        drawn = torch.rand(len(classes), generator=generator) < share
        other = (classes + torch.randint(1, num_classes, classes.shape, generator=generator)) % num_classes
        offset = torch.stack([torch.randint(size, classes.shape, generator=generator) for size in source.shape], 1)
        if change:
            chosen = (drawn & (classes == 1)).nonzero().flatten().tolist()
            target[torch.isin(numbers, torch.tensor(chosen, dtype=torch.long))] = 0
            for region in chosen:
                target[(numbers == region).roll(offset[region].tolist(), (0, 1))] = 1
        else:
            for region in drawn.nonzero().flatten().tolist():
                target[numbers == region] = other[region]
    return flipped


def swap_masks(masks: Tensor, share: float, seed: int = 0) -> Tensor:
    """Give a share of the patches the mask of another one of them.

    Args:
        masks: ``(N, ...)``.
        share: Share of the patches; those of a smaller share are among those of a larger one.
        seed: Seed of the draw.
    """
    swapped = masks.clone()
    drawn = torch.randperm(len(masks), generator=torch.Generator().manual_seed(seed))[: round(share * len(masks))]
    swapped[drawn] = masks[drawn.roll(1)]
    return swapped


class Altered(Dataset[dict[str, Any]]):
    """A dataset whose images are altered.

    Args:
        dataset: Map-style, in the shapes of :mod:`torchgeo_specdm.spec`.
        alter: Maps an image to an image of the same shape.
    """

    def __init__(self, dataset: Any, alter: Callable[[Tensor], Tensor]) -> None:
        self.dataset, self.alter = dataset, alter
        self.spec: DatasetSpec | None = find_spec(dataset)

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A sample with its image altered."""
        sample: Mapping[str, Any] = self.dataset[index]
        return {**sample, 'image': self.alter(sample['image'])}


class Remasked(Dataset[dict[str, Any]]):
    """A dataset whose images have other masks.

    Args:
        dataset: Map-style, in the shapes of :mod:`torchgeo_specdm.spec`.
        masks: The mask of each sample, ``(N, H, W)``; shaped as the dataset's when served.
    """

    def __init__(self, dataset: Any, masks: Tensor) -> None:
        self.dataset, self.masks = dataset, masks
        self.spec: DatasetSpec | None = find_spec(dataset)

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A sample with its other mask."""
        sample: Mapping[str, Any] = self.dataset[index]
        return {**sample, 'mask': self.masks[index].view_as(sample['mask'])}


def stack_masks(dataset: Any) -> Tensor:
    """All masks of a dataset, ``(N, H, W)``."""
    masks = [dataset[index]['mask'] for index in range(len(dataset))]
    return torch.stack([mask.view(mask.shape[-2:]) for mask in masks])


def replayed(dataset: Any, count: int) -> Subset[Any]:
    """A generator that serves its training samples, one after another."""
    return Subset(dataset, [index % len(dataset) for index in range(count)])


def repeated(dataset: Any, count: int, index: int = 0) -> Subset[Any]:
    """A generator that makes one sample only."""
    return Subset(dataset, [index] * count)


def shuffled(dataset: Any, seed: int = 0) -> Remasked:
    """A generator of real images whose masks are real, too, but of other patches."""
    return Remasked(dataset, swap_masks(stack_masks(dataset), 1.0, seed))


def band_swapped(dataset: Any, order: Sequence[int] | None = None) -> Altered:
    """A generator of images whose bands are in another order; by default, each is where the next one belongs."""

    def reorder(image: Tensor) -> Tensor:
        return image.roll(1, -3) if order is None else image.index_select(-3, torch.tensor(order))

    return Altered(dataset, reorder)


def blurred(dataset: Any, sigma: float = 2.0) -> Altered:
    """A generator of images without detail: a Gaussian of ``sigma`` [px] smooths them."""
    # The other faults are made where kornia is not installed
    from kornia.filters import gaussian_blur2d

    size = 2 * round(3 * sigma) + 1

    def blur(image: Tensor) -> Tensor:
        batch = image.view(-1, *image.shape[-3:])
        smooth: Tensor = gaussian_blur2d(batch, (size, size), (sigma, sigma))
        return smooth.view_as(image)

    return Altered(dataset, blur)
