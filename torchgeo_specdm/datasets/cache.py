"""Blocks on disk, which any number of processes read and none generates twice.

A dataset has a folder ``<home>/<key of its settings>/``: ``settings.json``, a file for each block and a lock for each.
A block is generated under its lock and appears under its name when it is complete; readers hold no lock. So whatever is
there is whole, and a process that is killed leaves nothing but a lock, which the system drops.
"""

import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from torch import Tensor
from torch.utils.data import get_worker_info

from torchgeo_specdm.datasets.block_files import DamagedBlockError, read_block, write_block
from torchgeo_specdm.datasets.blocks import Block, RecentBlocks, keep
from torchgeo_specdm.datasets.cache_home import BLOCK, REMEDY, enter, gigabytes, make_room, require_space
from torchgeo_specdm.datasets.filling import Helpers, fill
from torchgeo_specdm.datasets.wishes import LOOK_AHEAD, Wishes
from torchgeo_specdm.disk import READ_ONLY, disk_errors
from torchgeo_specdm.errors import SpecDMError

if TYPE_CHECKING:
    from torchgeo_specdm.datasets.generation import BlockGenerator

# Files that stay mapped; the system allows some 65 000 maps in a process
_MAPS = 8192
_LOCKS = 'locks'


class BlockCache(RecentBlocks):
    """Blocks in a folder, mapped into memory. Where it cannot be written, the missing ones are kept in memory.

    Args:
        home: Folder of all datasets.
        names: What readers know it by, see :func:`~torchgeo_specdm.datasets.cache_home.enter`.
        sample_bytes: Size of a sample [byte].
        generate: Makes the block of a number, from the settings of the dataset.
        max_bytes: Largest size of ``home`` [byte]; blocks of datasets that nobody uses are deleted for it.

    Attributes:
        writable: Whether blocks can be added.
        job: What a producer of the same blocks is told; None where it cannot make them.

    Raises:
        SpecDMError: The disk is full.
    """

    def __init__(
        self,
        home: Path,
        names: Mapping[str, str],
        sample_bytes: int,
        generate: 'BlockGenerator',
        max_bytes: int | None = None,
    ) -> None:
        super().__init__(generate.settings.block_size, generate)
        self.key = generate.settings.key
        self.folder = home / self.key
        self.block_bytes = self.size * sample_bytes
        self.max_bytes = max_bytes
        self.job = generate.job(
            home=str(home.absolute()), names=dict(names), sample_bytes=sample_bytes, max_bytes=max_bytes
        )
        with disk_errors(self.folder, REMEDY):
            self.writable = self._enter({**names, 'settings': generate.settings.to_dict()})
        self._load = generate.load
        self._passing = generate.settings.fresh is not None
        self._maps: OrderedDict[int, Block] = OrderedDict()
        self._sound: set[int] = set()
        self._stated = 0

    def samples(self, positions: Sequence[int]) -> list[dict[str, Tensor]]:
        """As of other blocks; a warning where many have to be generated for so few samples."""
        numbers = sorted({position // self.size for position in positions})
        missing = [number for number in numbers if number not in self._maps and not self.has(number)]
        if len(missing) > LOOK_AHEAD:
            warnings.warn(
                f'{len(positions)} samples lie in {len(numbers)} blocks of {self.size}, of which {len(missing)} have '
                'to be generated first: a shuffled loader is fast after materialize(); that of MixedDataModule reads '
                'block by block',
                stacklevel=5,
            )
        self._prepare(numbers, missing)
        return super().samples(positions)

    def _prepare(self, numbers: Sequence[int], missing: Sequence[int]) -> None:
        """What to do before blocks are read, some of which are neither open nor on the disk: nothing."""

    def reserve(self, length: int) -> bool:
        """Say how large those of the first ``length`` samples are that are missing, and make room for them.

        The worker of a loader says nothing.

        Returns:
            Whether blocks can be added.

        Raises:
            SpecDMError: They do not fit on the disk, or not below ``max_bytes``.
        """
        count = self._count(length)
        there = self._there()
        # Fresh blocks, whatever their numbers, are deleted before those of later epochs are added
        missing = max(0, count - len(there if self._passing else there & set(range(count))))
        if not missing or not self.writable:
            return self.writable
        needed = missing * self.block_bytes
        if self.max_bytes is not None:
            make_room(self.folder.parent, self.folder, needed, self.max_bytes)
        require_space(self.folder, needed, f'{missing * self.size} synthetic samples')
        if missing != self._stated and get_worker_info() is None:
            # Here and below, not above: it takes seconds, and workers do without
            from lightning.fabric.utilities.rank_zero import rank_zero_info  # type: ignore[attr-defined]

            self._stated = missing
            share = f'{missing * self.size} of {count * self.size} synthetic samples'
            rank_zero_info(f'{share} will be generated: {gigabytes(needed)} in {self.folder}')
        return True

    def fill(self, length: int, helpers: Sequence[str] = ()) -> bool:
        """Generate those of the first ``length`` samples that are missing; processes that do so at once share the work.

        Args:
            length: Number of samples.
            helpers: The device of each process that is started to help, where that pays.

        Returns:
            Whether all of them are on the disk; nothing is generated where it cannot be written to.

        Raises:
            SpecDMError: They do not fit on the disk, or the device cannot be used.
        """
        self.reserve(length)
        numbers = range(self._count(length))
        missing = set(numbers) - self._there()
        if not self.writable:
            return not missing
        if missing:
            self._load()  # lest it count as the time of a block
        job = self.job
        jobs = [] if job is None else [{**job, 'fill': len(numbers), 'device': device} for device in helpers]
        with Helpers(jobs) as started:
            fill(numbers, missing, self._obtain, self.size, started)
        # What the filter counted, in the order of the blocks
        for number in numbers:
            self.block(number)
        return True

    def has(self, number: int) -> bool:
        """Whether there is a file of this block."""
        return self._path(number).exists()

    def make(self, number: int) -> bool:
        """Generate a block for others, unless it is there or another process is at it.

        Returns:
            Whether it was generated.

        Raises:
            SpecDMError: It cannot be generated or written.
        """
        if self.has(number):
            return False
        try:
            self._make(number, wait=False)
        except Timeout:
            return False
        # A file that is mapped keeps its place on the disk when it is deleted
        self._maps.pop(number)
        return True

    def forget(self, numbers: range) -> None:
        """Unmap blocks outside of ``numbers``."""
        super().forget(numbers)
        keep(self._maps, numbers)

    def discard(self, numbers: range) -> None:
        """Delete the files of blocks outside of ``numbers``, and wishes for them."""
        super().discard(numbers)
        if self.writable:
            Wishes(self.folder).drop(numbers)
            for number in self._there() - set(numbers):
                self._path(number).unlink(missing_ok=True)

    def _read(self, number: int) -> Block:
        return self._obtain(number)

    def _obtain(self, number: int, wait: bool = True) -> Block:
        try:
            return self._find(number)
        except FileNotFoundError:
            pass
        except DamagedBlockError as error:
            if not self.writable:
                self._warn_of_damage(number, error)
        return self._make(number, wait) if self.writable else super()._read(number)

    def _find(self, number: int) -> Block:
        """The block on the disk; the first time in a process, its checksum is compared."""
        if number in self._maps:
            self._maps.move_to_end(number)
            return self._maps[number]
        block = self._maps[number] = read_block(self._path(number), self.key, number, check=number not in self._sound)
        self._sound.add(number)
        if len(self._maps) > _MAPS:
            self._maps.popitem(last=False)
        return block

    def _make(self, number: int, wait: bool) -> Block:
        """The block, generated unless another process has done so meanwhile."""
        with disk_errors(self.folder, REMEDY):
            lock = self.folder / _LOCKS / f'{number:08d}.lock'
            lock.parent.mkdir(parents=True, exist_ok=True)
            held = FileLock(lock).acquire(timeout=-1 if wait else 0)
        with held:
            try:
                return self._find(number)
            except FileNotFoundError:
                pass
            except DamagedBlockError as error:
                self._warn_of_damage(number, error)
                self._path(number).unlink(missing_ok=True)
            block = self._generate(number)
            if self.max_bytes is not None:
                make_room(self.folder.parent, self.folder, self.block_bytes, self.max_bytes)
            with disk_errors(self.folder, REMEDY):
                write_block(self._path(number), block, self.key, number)
            self._sound.add(number)
            return self._find(number)

    def _enter(self, description: Mapping[str, Any]) -> bool:
        try:
            enter(self.folder.parent, self.key, description, self)
        except (FileExistsError, NotADirectoryError) as error:
            raise SpecDMError(f'the cache {self.folder.parent} is no folder: name one with cache=') from error
        except OSError as error:
            if error.errno not in READ_ONLY:
                raise
            warnings.warn(
                f'the cache {self.folder.parent} cannot be written to ({error.strerror}): new synthetic samples are '
                'kept in memory, by each process for itself; name another folder with cache= or $SPECDM_CACHE',
                stacklevel=8,
            )
            return False
        return True

    def _path(self, number: int) -> Path:
        return self.folder / f'{number:08d}{BLOCK}'

    def _count(self, length: int) -> int:
        """Blocks that hold the first ``length`` samples."""
        return -(-length // self.size)

    def _there(self) -> set[int]:
        """Blocks that have a file; what synchronising programs leave beside them has other names."""
        return {int(path.stem) for path in self.folder.glob(f'*{BLOCK}') if path.stem.isdecimal()}

    def _warn_of_damage(self, number: int, error: DamagedBlockError) -> None:
        warnings.warn(f'{self._path(number)} {error}: it is generated again', stacklevel=8)
