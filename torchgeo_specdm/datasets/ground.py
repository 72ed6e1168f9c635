"""Where on the ground the samples of a dataset lie, which tells those that show one place from others.

A place is (scene, top, left) of a square patch [px]. Two samples share ground where they are of one scene and their
squares overlap. A dataset says where its samples lie by an attribute ``windows``, a sequence of such triples; two dates
of one place have the same triple. Of a dataset without, near-duplicates share ground (:mod:`.near_duplicates`), and any
other sample is a place of its own: crops of it that merely overlap are not recognised.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Subset

from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.functional.near_duplicates import block_means, near_duplicate_groups
from torchgeo_specdm.spec import fold_dates

# Fewer scenes cannot be dealt to two halves evenly
_SCENES = 4


def ground(dataset: Any, indices: Sequence[int] | None = None) -> Tensor:
    """The place of each sample.

    Args:
        dataset: Any map-style dataset in the shapes of :mod:`torchgeo_specdm.spec`, ``Subset`` of one included. Without
            ``windows``, the samples asked for are read.
        indices: Which samples; by default all.

    Returns:
        ``(N, 3)`` int64: scene, top and left [px].

    Raises:
        SpecDMError: The dataset's ``windows`` are no triples.
    """
    chosen = list(range(len(dataset)) if indices is None else indices)
    while isinstance(dataset, Subset):
        chosen = [dataset.indices[index] for index in chosen]
        dataset = dataset.dataset
    windows = getattr(dataset, 'windows', None)
    if windows is None:
        return _groups(dataset, chosen)
    places = torch.tensor([tuple(windows[index]) for index in chosen], dtype=torch.long)
    if chosen and places.shape[1:] != (3,):
        raise SpecDMError(f'windows of {type(dataset).__name__} must be triples (scene, top, left) of its samples')
    return places.view(-1, 3)


def overlapping(first: Tensor, second: Tensor, patch_size: int) -> Tensor:
    """Which places share ground.

    Args:
        first: ``(N, 3)`` as of :func:`ground`.
        second: ``(M, 3)``.
        patch_size: Height and width of a patch [px].

    Returns:
        ``(N, M)`` bool; a place overlaps itself.
    """
    apart = (first[:, None] - second[None]).abs()
    return (apart[..., 0] == 0) & (apart[..., 1:] < patch_size).all(-1)


def split_halves(places: Tensor, patch_size: int) -> Tensor:
    """Two halves of samples that share no ground.

    With at least four scenes, whole scenes are dealt, the largest first, to the half with fewer samples. With fewer,
    each scene is cut along the row or column that leaves most samples in the smaller part.

    Args:
        places: ``(N, 3)`` as of :func:`ground`.
        patch_size: Height and width of a patch [px].

    Returns:
        ``(N,)`` int64: 0 or 1, or -1 for a sample that lies across a cut.

    Raises:
        SpecDMError: A half would be empty.
    """
    scenes, scene, sizes = torch.unique(places[:, 0], return_inverse=True, return_counts=True)
    halves = _deal(sizes)[scene] if len(scenes) >= _SCENES else torch.full((len(places),), -1)
    if len(scenes) < _SCENES:
        for number in range(len(scenes)):
            inside = scene == number
            halves[inside] = _cut(places[inside, 1:], patch_size)
    if not ((halves == 0).any() and (halves == 1).any()):
        raise SpecDMError(
            f'{len(places)} samples of {len(scenes)} scene(s) cannot be split into two halves without common ground: '
            'choose smaller patches or more scenes'
        )
    return halves


def _groups(dataset: Any, indices: Sequence[int]) -> Tensor:
    if not indices:
        return torch.zeros(0, 3, dtype=torch.long)
    # Image by image: the pixels of all samples together would not fit into memory
    signatures = [block_means(fold_dates(dataset[index]['image'][None].float())) for index in indices]
    group = near_duplicate_groups(torch.cat(signatures))
    return torch.stack([group, torch.zeros_like(group), torch.zeros_like(group)], dim=1)


def _deal(sizes: Tensor) -> Tensor:
    """The half of each scene, given their numbers of samples."""
    halves, totals = torch.zeros(len(sizes), dtype=torch.long), [0, 0]
    for number in sizes.argsort(descending=True, stable=True).tolist():
        half = int(totals[1] < totals[0])
        halves[number] = half
        totals[half] += int(sizes[number])
    return halves


def _cut(corners: Tensor, patch_size: int) -> Tensor:
    """The half of each sample of one scene, given its upper left corner ``(N, 2)``."""
    best, most = torch.full((len(corners),), -1), 0
    for starts in corners.T:
        for cut in starts.unique().tolist():
            below, above = starts >= cut, starts + patch_size <= cut
            if (least := int(min(below.sum(), above.sum()))) > most:
                best, most = torch.where(below, 1, torch.where(above, 0, -1)), least
    return best
