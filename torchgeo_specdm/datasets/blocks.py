"""Blocks of samples that are generated together, kept in memory while there is room."""

import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from torchgeo_specdm.spec import DatasetSpec

# Bytes of recent blocks that the workers of a loader keep together: some 3000 patches of 10 bands, 128 px, 16 bit
_MEMORY = 2 * 2**30

Block = dict[str, Tensor]


def compact(block: Block, spec: DatasetSpec) -> Block:
    """The same images and masks in the smallest types that hold their values."""
    image = getattr(torch, spec.dtype) if spec.dtype in ('uint8', 'uint16', 'int16') else torch.float32
    values = (0, spec.num_classes - 1, spec.ignore_index or 0)
    mask = torch.uint8 if min(values) >= 0 and max(values) < 256 else torch.int64
    return block | {'image': block['image'].to(image), 'mask': block['mask'].to(mask)}


class RecentBlocks:
    """The blocks that were read last."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[int, Block] = OrderedDict()
        self._generated = self._served = 0

    def __len__(self) -> int:
        """Number of blocks in memory."""
        return len(self._blocks)

    def samples(self, positions: Sequence[int], size: int, generate: Callable[[int], Block]) -> list[dict[str, Tensor]]:
        """Image (float32) and mask (int64) of each position, from blocks of ``size``; each block is read once.

        Args:
            positions: Numbers of samples.
            size: Samples in a block.
            generate: Makes a block.
        """
        by_block: dict[int, list[int]] = {}
        for slot, position in enumerate(positions):
            by_block.setdefault(position // size, []).append(slot)
        samples: list[dict[str, Tensor]] = [{}] * len(positions)
        for number, slots in by_block.items():
            block = self._read(number, generate)
            for slot in slots:
                row = positions[slot] % size
                # Copies: a transform that works in place must not reach the block
                samples[slot] = {
                    'image': block['image'][row].to(torch.float32, copy=True),
                    'mask': block['mask'][row].to(torch.int64, copy=True),
                }
        self._served += len(positions)
        return samples

    def find(self, position: int, size: int, generate: Callable[[int], Block]) -> tuple[Block, int]:
        """The block of a sample, and its row there; arguments as for :meth:`samples`."""
        return self._read(position // size, generate), position % size

    def _read(self, number: int, generate: Callable[[int], Block]) -> Block:
        if number in self._blocks:
            self._blocks.move_to_end(number)
            return self._blocks[number]
        block = self._blocks[number] = generate(number)
        self._generated += len(block['mask'])
        worker = get_worker_info()
        budget = _MEMORY // (worker.num_workers if worker else 1)
        if len(self._blocks) > max(1, budget // sum(value.nbytes for value in block.values())):
            self._blocks.popitem(last=False)
            self._warn_of_waste()
        return block

    def clear(self) -> None:
        """Forget all blocks."""
        self._blocks.clear()

    def _warn_of_waste(self) -> None:
        # Four times what was read: memory is too small for random access, and the user would only notice the time
        if 0 < 4 * self._served < self._generated:
            self._served = self._generated = 0
            warnings.warn(
                f'{len(self._blocks)} blocks fit in memory, and blocks are generated again and again: read the '
                'dataset in order (a MixedDataset is shuffled already), or make batch_size smaller',
                stacklevel=9,
            )
