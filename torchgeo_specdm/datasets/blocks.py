"""Blocks of samples that are generated together, kept in memory while there is room."""

import math
import warnings
from collections import OrderedDict
from collections.abc import Callable, MutableMapping, Sequence

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from torchgeo_specdm.spec import DatasetSpec

# Bytes of recent blocks that the workers of a loader keep together: some 3000 patches of 10 bands, 128 px, 16 bit
_MEMORY = 2 * 2**30

Block = dict[str, Tensor]


def compact(block: Block, spec: DatasetSpec) -> Block:
    """The same images and masks in the smallest types that hold their values."""
    image, mask = _stored_types(spec)
    return block | {'image': block['image'].to(image), 'mask': block['mask'].to(mask)}


def sample_bytes(spec: DatasetSpec, filtered: bool) -> int:
    """Size of one sample of a block [byte].

    Args:
        spec: Of the samples.
        filtered: Whether the verdicts of a filter are kept with them.
    """
    image, mask = _stored_types(spec)
    verdict = spec.patch_size**2 + 22 if filtered else 0
    return math.prod(spec.image_shape) * image.itemsize + math.prod(spec.mask_shape) * mask.itemsize + verdict


def _stored_types(spec: DatasetSpec) -> tuple[torch.dtype, torch.dtype]:
    image = getattr(torch, spec.dtype) if spec.dtype in ('uint8', 'uint16', 'int16') else torch.float32
    values = (0, spec.num_classes - 1, spec.ignore_index or 0)
    return image, torch.uint8 if min(values) >= 0 and max(values) < 256 else torch.int64


def keep(blocks: MutableMapping[int, Block], numbers: range) -> None:
    """Drop blocks outside of ``numbers``."""
    for number in [number for number in blocks if number not in numbers]:
        del blocks[number]


class RecentBlocks:
    """The blocks that were read last, in memory. Whoever keeps blocks elsewhere overrides :meth:`_read`.

    Args:
        size: Samples in a block.
        generate: Makes the block of a number.

    Attributes:
        summaries: What the filter counted in each block that was read, by its number; see
            :class:`~torchgeo_specdm.datasets.filtered.FilterSummary`.
    """

    def __init__(self, size: int, generate: Callable[[int], Block]) -> None:
        self.size = size
        self.summaries: dict[int, Tensor] = {}
        self._generate = generate
        self._blocks: OrderedDict[int, Block] = OrderedDict()
        self._generated = self._served = 0

    def __len__(self) -> int:
        """Number of blocks in memory."""
        return len(self._blocks)

    def samples(self, positions: Sequence[int]) -> list[dict[str, Tensor]]:
        """Image (float32) and mask (int64) of each position; each block is read once."""
        by_block: dict[int, list[int]] = {}
        for slot, position in enumerate(positions):
            by_block.setdefault(position // self.size, []).append(slot)
        samples: list[dict[str, Tensor]] = [{}] * len(positions)
        for number, slots in by_block.items():
            block = self.block(number)
            for slot in slots:
                row = positions[slot] % self.size
                # Copies: a transform that works in place must not reach the block
                samples[slot] = {
                    'image': block['image'][row].to(torch.float32, copy=True),
                    'mask': block['mask'][row].to(torch.int64, copy=True),
                }
        self._served += len(positions)
        return samples

    def reserve(self, length: int) -> bool:
        """Make room for the first ``length`` samples where blocks stay, and say whether they do."""
        return False

    def fill(self, length: int, helpers: Sequence[str] = ()) -> bool:
        """Generate the first ``length`` samples where blocks stay, and say whether all of them are there."""
        return False

    def forget(self, numbers: range) -> None:
        """Drop what this process holds of blocks outside of ``numbers``."""
        keep(self._blocks, numbers)

    def discard(self, numbers: range) -> None:
        """Delete blocks outside of ``numbers``, wherever they are kept."""
        self.forget(numbers)

    def block(self, number: int) -> Block:
        """The samples [number * size, (number + 1) * size) as they are stored, ``(size, ...)`` each."""
        block = self._read(number)
        if 'summary' in block:
            self.summaries[number] = block['summary'].clone()
        return block

    def _read(self, number: int) -> Block:
        if number in self._blocks:
            self._blocks.move_to_end(number)
            return self._blocks[number]
        block = self._blocks[number] = self._generate(number)
        self._generated += self.size
        worker = get_worker_info()
        budget = _MEMORY // (worker.num_workers if worker else 1)
        if len(self._blocks) > max(1, budget // sum(value.nbytes for value in block.values())):
            self._blocks.popitem(last=False)
            self._warn_of_waste()
        return block

    def _warn_of_waste(self) -> None:
        # Four times what was read: memory is too small for random access, and the user would only notice the time
        if 0 < 4 * self._served < self._generated:
            self._served = self._generated = 0
            warnings.warn(
                f'{len(self._blocks)} blocks fit in memory, and blocks are generated again and again: give the dataset '
                'a cache, read it in order (a MixedDataset is shuffled already), or make batch_size smaller',
                stacklevel=10,
            )
