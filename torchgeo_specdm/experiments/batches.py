"""Batches of a training: pairs that fit are read once and stay where the model is, others come through workers.

Either way a batch has the same bits: values are kept without loss, and what is drawn is drawn on the CPU.
"""

from collections.abc import Generator, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from torchgeo_specdm.draws import mixed_generator
from torchgeo_specdm.functional.dihedral import ORIENTATIONS, dihedral

# [byte] of pairs that are kept, if their values are 16-bit integers; twice that if they are not
_KEPT = 2 * 2**30
_READ_TOGETHER = 64
# That read larger sets for a GPU; on a CPU they would take the cores of other trainings
_WORKERS = 4


def order(size: int, step: int, batch_size: int, seed: int) -> list[int]:
    """Which pairs a step sees: one epoch after the other, each in an order of its own, cut into batches."""
    places = range(step * batch_size, (step + 1) * batch_size)
    return [_permutation(size, seed, place // size)[place % size] for place in places]


# Steps follow one another, and few epochs are in a batch
@lru_cache(maxsize=8)
def _permutation(size: int, seed: int, epoch: int) -> list[int]:
    return list(torch.randperm(size, generator=mixed_generator(seed, epoch, 1)).tolist())


def turned(image: Tensor, mask: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Each pair in an orientation that ``draw``, of the CPU, decides."""
    turns = torch.randint(ORIENTATIONS, (len(image),), generator=draw).tolist()
    found = (torch.stack([dihedral(one, turn) for one, turn in zip(x, turns, strict=True)]) for x in (image, mask))
    return next(found), next(found)


def batches(
    pairs: Any, orders: Sequence[list[int]], device: torch.device
) -> Generator[tuple[Tensor, Tensor], None, None]:
    """Read the pairs of each step.

    Args:
        pairs: Map-style dataset of ``image`` and ``mask``, all of one shape.
        orders: Indices of each step.
        device: Where batches go.

    Yields:
        ``image`` float32 in raw units and ``mask`` ``(B, H, W)`` int64, on the device.
    """
    if not orders:
        return
    if _kept_bytes(pairs) <= _KEPT:
        kept = KeptPairs(pairs, device)
        yield from (kept.batch(indices) for indices in orders)
        return
    loader = DataLoader(
        pairs,
        batch_sampler=orders,
        collate_fn=_stack,
        num_workers=_workers(device),
        pin_memory=device.type == 'cuda',
        # Otherwise it would draw from the state of the process
        generator=torch.Generator(),
    )
    for image, mask in loader:
        yield image.to(device, non_blocking=True), mask.to(device, non_blocking=True)


class KeptPairs:
    """Pairs in memory: images as 16-bit integers, or as float32 where a value is none.

    Args:
        pairs: Map-style; each is read once.
        device: Where they are kept.
    """

    def __init__(self, pairs: Any, device: torch.device) -> None:
        for start in range(0, len(pairs), _READ_TOGETHER):
            places = slice(start, min(start + _READ_TOGETHER, len(pairs)))
            image, mask = _stack(_fetch(pairs, range(places.start, places.stop)))
            if not start:
                # Bits of uint16: few operations of a GPU take that type itself
                dtype = torch.int16 if _is_uint16(image) else torch.float32
                self.images = torch.zeros((len(pairs), *image.shape[1:]), dtype=dtype, device=device)
                self.masks = torch.zeros((len(pairs), *mask.shape[1:]), dtype=torch.int32, device=device)
            if self.images.dtype == torch.int16 and not _is_uint16(image):
                self.images = _values(self.images)
            if self.images.dtype == torch.int16:
                image = image.to(torch.uint16).view(torch.int16)
            self.images[places] = image.to(device)
            self.masks[places] = mask.to(device, torch.int32)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Images and masks ``(B, H, W)`` of these pairs."""
        # Not by a tensor of indices, which would have to be copied to the device
        image, mask = (torch.stack([kept[index] for index in indices]) for kept in (self.images, self.masks))
        return _values(image), mask.long()


def _workers(device: torch.device) -> int:
    return _WORKERS if device.type == 'cuda' else 0


def _values(images: Tensor) -> Tensor:
    return (images.int() & 0xFFFF).float() if images.dtype == torch.int16 else images


def _is_uint16(image: Tensor) -> bool:
    return bool(((image >= 0) & (image <= 0xFFFF) & (image == image.floor())).all())


def _kept_bytes(pairs: Any) -> int:
    image, mask = _stack(_fetch(pairs, range(1)))
    return len(pairs) * (2 * image.numel() + 4 * mask.numel())


def _fetch(pairs: Any, indices: Sequence[int]) -> list[dict[str, Tensor]]:
    many = getattr(pairs, '__getitems__', None)
    return list(many(list(indices))) if callable(many) else [pairs[index] for index in indices]


def _stack(samples: Sequence[dict[str, Tensor]]) -> tuple[Tensor, Tensor]:
    """Images in raw units and masks ``(B, H, W)``."""
    image, mask = (torch.stack([sample[key] for sample in samples]) for key in ('image', 'mask'))
    return image.float(), mask.long().view(len(mask), *mask.shape[-2:])
