"""Which area of a scene belongs to which split: one method to override."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from torchgeo_specdm.datasets.splitters import SPLITS
from torchgeo_specdm.errors import SpecDMError

# Deals of the blocks to choose from; more of them find little that is better
_DEALS = 200
# Sides of a block in patches, and blocks a side of the scene, where no size is given
_PATCHES, _BLOCKS = 4, 5


class Area(NamedTuple):
    """A rectangle of a scene: its upper left pixel, height and width [px]."""

    row: int
    col: int
    height: int
    width: int


# Pixels of each class in an area, ``(K,)``
Counter = Callable[[Area], NDArray[np.int64]]


class AreaSplitter(ABC):
    """Cuts a scene into areas of one split each, which share no pixel."""

    @abstractmethod
    def areas(self, height: int, width: int, patch_size: int, count: Counter) -> dict[str, list[Area]]:
        """The areas of ``train``, ``val`` and ``test``; none overlaps another.

        Args:
            height: Of the scene [px].
            width: Of the scene [px].
            patch_size: Height and width of a patch [px]; smaller areas are of no use.
            count: Counts the labelled pixels of an area.

        Raises:
            SpecDMError: The scene cannot be cut.
        """


class Blocks(AreaSplitter):
    """Equal blocks, dealt at random; of many deals, the one that leaves fewest classes out of a split.

    A block without a label is left out. Blocks of val and test lose a strip on each side that is no border of the
    scene, so that ``gap`` px lie between pixels of different splits: pixels side by side are nearly equal.

    Args:
        val: Share of the blocks; at least one, unless it is 0.
        test: Likewise.
        block_size: Least height and width of a block [px]; by default four patches, or a fifth of a smaller scene, and
            never less than a patch with its gap.
        gap: Width of the strip [px]; by default a quarter of a patch.
        seed: Another seed is another deal.

    Raises:
        SpecDMError: No share is left for train, or a size is negative.
    """

    def __init__(
        self,
        val: float = 0.15,
        test: float = 0.15,
        block_size: int | None = None,
        gap: int | None = None,
        seed: int = 0,
    ) -> None:
        if not (val >= 0 and test >= 0 and val + test < 1):
            raise SpecDMError(f'val is {val} and test {test}: they must be shares that leave something for train')
        if (block_size or 1) < 1 or (gap or 0) < 0:
            raise SpecDMError(f'block_size is {block_size} px and gap {gap} px; they must not be negative')
        self.val, self.test, self.block_size, self.gap, self.seed = val, test, block_size, gap, seed

    def areas(self, height: int, width: int, patch_size: int, count: Counter) -> dict[str, list[Area]]:
        """See the class."""
        gap = patch_size // 4 if self.gap is None else self.gap
        blocks, inner = self._grid(height, width, patch_size, gap)
        # Whatever a block is dealt to, this much of it is left
        counts = np.stack([count(area) for area in inner])
        labelled = np.flatnonzero(counts.sum(1))
        shares = {'val': self.val, 'test': self.test}
        wanted = {split: max(1, round(share * len(labelled))) for split, share in shares.items() if share > 0}
        if sum(wanted.values()) >= len(labelled):
            raise SpecDMError(
                f'a scene of {height} x {width} px has {len(labelled)} blocks with labels of {blocks[0].height} x '
                f'{blocks[0].width} px, too few for train, {" and ".join(wanted)}: choose a smaller patch_size, '
                'block_size or gap'
            )
        deal = self._deal(counts[labelled], wanted)
        found: dict[str, list[Area]] = {split: [] for split in SPLITS}
        for number, split in zip(labelled.tolist(), deal.tolist(), strict=True):
            found[SPLITS[split]].append((inner if split else blocks)[number])
        return found

    def _grid(self, height: int, width: int, patch_size: int, gap: int) -> tuple[list[Area], list[Area]]:
        """The blocks, and what is left of each without the strips."""
        least = patch_size + 2 * gap
        size = self.block_size or min(_PATCHES * patch_size, min(height, width) // _BLOCKS)
        rows, cols = (_edges(length, max(size, least)) for length in (height, width))
        blocks, inner = [], []
        for top, bottom in pairwise(rows):
            for left, right in pairwise(cols):
                blocks.append(Area(top, left, bottom - top, right - left))
                above, before = gap * (top > 0), gap * (left > 0)
                below, after = gap * (bottom < height), gap * (right < width)
                inner.append(
                    Area(top + above, left + before, bottom - top - above - below, right - left - before - after)
                )
        return blocks, inner

    def _deal(self, counts: NDArray[np.int64], wanted: dict[str, int]) -> NDArray[np.int64]:
        """The number of the split of each block; ``counts`` are ``(N, K)``."""
        ordered = np.concatenate([np.full(number, SPLITS.index(split)) for split, number in wanted.items()])
        ordered = np.concatenate([ordered, np.zeros(len(counts) - len(ordered), np.int64)])
        random = np.random.default_rng(self.seed)
        deals = [random.permutation(ordered) for _ in range(_DEALS)]
        return min(deals, key=lambda deal: _faults(deal, counts, len(wanted)))


def _faults(deal: NDArray[np.int64], counts: NDArray[np.int64], held_out: int) -> tuple[float, ...]:
    """Classes of the scene that train, test and val lack, then how far their shares are from the scene's; lexical."""
    present = counts.sum(0) > 0
    of_split = np.stack([counts[deal == number].sum(0) for number in range(3)])[:, present]
    lacking = (of_split == 0).sum(1)
    shares = of_split / np.maximum(of_split.sum(1, keepdims=True), 1)
    whole = counts[:, present].sum(0) / counts.sum()
    return float(lacking[0]), float(lacking[2]), float(lacking[1]), float(np.abs(shares - whole).sum())


def _edges(length: int, size: int) -> list[int]:
    """Where blocks of at least ``size`` px begin, and the last one ends; one block where there is no room for two."""
    number = max(1, length // size)
    return [round(length * place / number) for place in range(number + 1)]
