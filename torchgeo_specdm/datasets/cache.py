"""Blocks on disk, which any number of processes read and none generates twice.

A dataset has a folder ``<home>/<key of its settings>/``: ``settings.json``, a file for each block and a lock for each.
A block is generated under its lock and appears under its name when it is complete; readers hold no lock. So whatever is
there is whole, and a process that is killed leaves nothing but a lock, which the system drops.
"""

import errno
import shutil
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from tqdm import tqdm

from torchgeo_specdm.datasets.block_files import DamagedBlockError, read_block, write_block
from torchgeo_specdm.datasets.blocks import Block, RecentBlocks
from torchgeo_specdm.datasets.cache_home import BLOCK, enter, gigabytes, make_room
from torchgeo_specdm.datasets.settings import Settings
from torchgeo_specdm.errors import SpecDMError

# Files that stay mapped; the system allows some 65 000 maps in a process
_MAPS = 8192
_LOCKS = 'locks'
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_REMEDY = (
    'free some (specdm cache list, specdm cache clear), name another folder with cache= or $SPECDM_CACHE, or keep '
    'blocks in memory with cache=None'
)


class BlockCache(RecentBlocks):
    """Blocks in a folder, mapped into memory. Where it cannot be written, the missing ones are kept in memory.

    Args:
        home: Folder of all datasets.
        settings: Of the dataset.
        names: What readers know it by, see :func:`~torchgeo_specdm.datasets.cache_home.enter`.
        sample_bytes: Size of a sample [byte].
        generate: Makes the block of a number.
        max_bytes: Largest size of ``home`` [byte]; blocks of datasets that nobody uses are deleted for it.

    Attributes:
        writable: Whether blocks can be added.

    Raises:
        SpecDMError: The disk is full.
    """

    def __init__(
        self,
        home: Path,
        settings: Settings,
        names: Mapping[str, str],
        sample_bytes: int,
        generate: Callable[[int], Block],
        max_bytes: int | None = None,
    ) -> None:
        super().__init__(settings.block_size, generate)
        self.key = settings.key
        self.folder = home / self.key
        self.block_bytes = settings.block_size * sample_bytes
        self.max_bytes = max_bytes
        self.writable = self._enter({**names, 'settings': settings.to_dict()})
        self._maps: OrderedDict[int, Block] = OrderedDict()
        self._sound: set[int] = set()

    def reserve(self, length: int) -> None:
        """Say how large those of the first ``length`` samples are that are missing, and make room for them.

        Raises:
            SpecDMError: They do not fit on the disk, or not below ``max_bytes``.
        """
        count = self._count(length)
        missing = count - len(self._there(count))
        if not missing or not self.writable:
            return
        # Here and below, not above: it takes a second, and workers do without
        from lightning.fabric.utilities.rank_zero import rank_zero_info  # type: ignore[attr-defined]

        needed = missing * self.block_bytes
        if self.max_bytes is not None:
            make_room(self.folder.parent, self.folder, needed, self.max_bytes)
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise SpecDMError(
                f'{missing * self.size} synthetic samples need {gigabytes(needed)}, and the disk of {self.folder} has '
                f'{gigabytes(free)}: use fewer samples, {_REMEDY}'
            )
        rank_zero_info(
            f'{missing * self.size} of {count * self.size} synthetic samples will be generated: {gigabytes(needed)} in '
            f'{self.folder}'
        )

    def fill(self, length: int) -> bool:
        """Generate those of the first ``length`` samples that are missing; processes that do so at once share the work.

        Returns:
            Whether all of them are on the disk; nothing is generated where it cannot be written to.

        Raises:
            SpecDMError: They do not fit on the disk, or the device cannot be used.
        """
        from lightning.fabric.utilities.rank_zero import rank_zero_only

        self.reserve(length)
        count = self._count(length)
        there = self._there(count)
        if not self.writable:
            return len(there) == count
        quiet = len(there) == count or rank_zero_only.rank != 0  # type: ignore[attr-defined]
        total, done = count * self.size, len(there) * self.size
        with tqdm(desc='generating', unit='pair', total=total, initial=done, disable=quiet) as bar:
            waiting = []
            for number in range(count):
                try:
                    self._obtain(number, wait=False)
                    bar.update(0 if number in there else self.size)
                except Timeout:
                    waiting.append(number)  # another process is at it
            for number in waiting:
                self._obtain(number)
                bar.update(self.size)
        # What the filter counted, in the order of the blocks
        for number in range(count):
            self.block(number)
        return True

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
        with self._full_disk_is_an_error(f'block {number}'):
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
            with self._full_disk_is_an_error(f'block {number}'):
                write_block(self._path(number), block, self.key, number)
            self._sound.add(number)
            return self._find(number)

    def _enter(self, description: Mapping[str, Any]) -> bool:
        try:
            with self._full_disk_is_an_error('the cache'):
                enter(self.folder.parent, self.key, description, self)
        except (FileExistsError, NotADirectoryError) as error:
            raise SpecDMError(f'the cache {self.folder.parent} is no folder: name one with cache=') from error
        except OSError as error:
            if error.errno not in _READ_ONLY:
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

    def _there(self, count: int) -> set[int]:
        """Those of the first ``count`` blocks that have a file."""
        numbers = (int(path.stem) for path in self.folder.glob(f'*{BLOCK}'))
        return {number for number in numbers if number < count}

    def _warn_of_damage(self, number: int, error: DamagedBlockError) -> None:
        warnings.warn(f'{self._path(number)} {error}: it is generated again', stacklevel=8)

    @contextmanager
    def _full_disk_is_an_error(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise SpecDMError(
                f'the disk of {self.folder} is full: {what} could not be written, what was there before is kept; '
                f'{_REMEDY}'
            ) from error
