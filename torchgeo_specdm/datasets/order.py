"""The order in which a loader reads a mixed dataset: random, but block by block where blocks cost time."""

from collections.abc import Callable

import torch
from torch import Tensor

from torchgeo_specdm.datasets.epochs import EpochSampler
from torchgeo_specdm.datasets.mixed import MixedDataset

# Blocks whose samples are read in one shuffled stretch
WINDOW = 16


class MixedSampler(EpochSampler):
    """Positions of a :class:`MixedDataset`, another order in each epoch, shared among ranks.

    Real samples are shuffled, and where real and synthetic ones stand is random. Synthetic ones come in the order of
    their index in the first epoch, so that each block is generated once, when it is needed. In later epochs their
    blocks are shuffled, and the samples of ``WINDOW`` blocks together.

    Args:
        dataset: Its :meth:`~MixedDataset.set_epoch` is called with the sampler's.
        block_size: Synthetic samples in a block.
        ranks: Processes that train together.
        rank: Number of this one.
        seed: Of the order.
        ascending: Whether synthetic samples come in the order of their index in every epoch, as fresh ones should.
        place: As for :class:`~torchgeo_specdm.datasets.epochs.EpochSampler`.
    """

    def __init__(
        self,
        dataset: MixedDataset,
        block_size: int,
        ranks: int = 1,
        rank: int = 0,
        seed: int = 0,
        ascending: bool = False,
        place: Callable[[], tuple[int, int]] | None = None,
    ) -> None:
        super().__init__(dataset, ranks, rank, seed, place)
        self.mixed = dataset
        self.block_size = block_size
        self.ascending = ascending

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next, to the dataset too."""
        super().set_epoch(epoch)
        self.mixed.set_epoch(epoch)

    def order(self) -> Tensor:
        """All positions in the order of this epoch, ``(len(dataset),)``."""
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        flags = self.mixed.is_synthetic
        real, synthetic = (~flags).nonzero()[:, 0], flags.nonzero()[:, 0]
        if self.epoch and not self.ascending:
            synthetic = _by_block(synthetic, self.block_size, generator)
        order = torch.empty(len(flags), dtype=torch.int64)
        places = torch.randperm(len(flags), generator=generator)
        order[places[: len(real)]] = real
        order[places[len(real) :].sort().values] = synthetic
        return order


def _by_block(positions: Tensor, size: int, generator: torch.Generator) -> Tensor:
    blocks = positions.split(size)  # type: ignore[no-untyped-call]
    shuffled = [blocks[number] for number in torch.randperm(len(blocks), generator=generator).tolist()]
    windows = [torch.cat(shuffled[start : start + WINDOW]) for start in range(0, len(shuffled), WINDOW)]
    return torch.cat([window[torch.randperm(len(window), generator=generator)] for window in windows])
