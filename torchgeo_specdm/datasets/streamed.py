"""Blocks that another process generates while this one reads them."""

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from torch.utils.data import get_worker_info

from torchgeo_specdm.datasets.block_files import DamagedBlockError
from torchgeo_specdm.datasets.blocks import Block
from torchgeo_specdm.datasets.cache import BlockCache
from torchgeo_specdm.datasets.cache_home import REMEDY
from torchgeo_specdm.datasets.producers import Producers
from torchgeo_specdm.datasets.wishes import POLL, Wishes
from torchgeo_specdm.disk import disk_errors
from torchgeo_specdm.errors import SpecDMError

# How often a reader that waits repeats its wish, and looks for the producer [s]
_AGAIN = 0.5


class StreamedBlocks(BlockCache):
    """Blocks in a folder, for the worker of a loader: it wishes for those that are missing, and waits for them.

    It holds no lock but that of a user of the dataset, loads no networks and touches no GPU. On a CPU as many producers
    may work as there are workers, on a GPU one.

    Args:
        arguments: Of :class:`BlockCache`, whose ``job`` must not be None.
        end: The block before which to look ahead (exclusive), from the number of the block that is read.
        named: Of :class:`BlockCache`.

    Raises:
        SpecDMError: The disk is full.
    """

    def __init__(self, *arguments: Any, end: Callable[[int], int], **named: Any) -> None:
        super().__init__(*arguments, **named)
        assert self.job is not None
        worker = get_worker_info()
        on_cpu = self.job['device'] == 'cpu'
        self._producers = Producers(self.folder, self.job, worker.num_workers if worker and on_cpu else 1)
        self._wishes = Wishes(self.folder)
        self._end = end
        self._asked = 0
        self._parent = os.getppid()

    def adopt(self, other: BlockCache) -> None:
        """Take over the blocks that this process inherited, opened and checked."""
        self._maps |= other._maps
        self._sound |= other._sound

    def _prepare(self, numbers: Sequence[int], missing: Sequence[int]) -> None:
        """Wish for all that are missing at once."""
        for number in numbers:
            self._look_ahead(number, number in missing)

    def _look_ahead(self, number: int, missing: bool) -> None:
        if not self.writable:
            return
        end = self._end(number)
        if missing or (end > self._asked and not self.has(end - 1)):
            self._asked = max(end, self._asked)
            self._wish(number, end)

    def _make(self, number: int, wait: bool) -> Block:
        """The block, once a producer has generated it."""
        asked = -_AGAIN
        while True:
            try:
                block = self._find(number)
            except FileNotFoundError:
                pass
            except DamagedBlockError as error:
                self._warn_of_damage(number, error)
                self._path(number).unlink(missing_ok=True)
            else:
                self._producers.succeeded()
                return block
            if not self._trainer_lives():
                self._producers.close()
                raise SpecDMError('the process that started this one has ended')
            if time.monotonic() - asked > _AGAIN:
                asked = time.monotonic()
                self._wish(number, max(number + 1, self._end(number)))
            time.sleep(POLL)

    def _trainer_lives(self) -> bool:
        """Of a forked worker the parent changes; that of one which a server has forked lives on."""
        trainer = multiprocessing.parent_process()
        return os.getppid() == self._parent and (trainer is None or trainer.is_alive())

    def _wish(self, number: int, end: int) -> None:
        with disk_errors(self.folder, REMEDY):
            self._wishes.add(number, end)
            self._producers.ensure()
