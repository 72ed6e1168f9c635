"""What readers and producers of a dataset tell each other: files in its folder, and nothing else.

A wish ``wishes/<number>-<end>`` says that block ``number`` is being read and that those before ``end`` come next. A
producer holds one of the locks in ``producers`` for its life.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

# Blocks that are generated ahead of the one that is read
LOOK_AHEAD = 8
# How often readers and producers look for files [s]
POLL = 0.02
_WISHES, _PRODUCERS = 'wishes', 'producers'


class Wishes:
    """The wishes for blocks of one dataset.

    Args:
        folder: Of its blocks.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / _WISHES

    def add(self, number: int, end: int) -> None:
        """Say that block ``number`` is read, and those up to ``end`` (exclusive) are next.

        Raises:
            OSError: The folder cannot be written to.
        """
        self.folder.mkdir(exist_ok=True)
        self._path(number, end).touch()

    def pending(self) -> list[tuple[int, int]]:
        """Number and end of each wish, in the order of the blocks."""
        return sorted((int(number), int(end)) for number, _, end in (p.name.partition('-') for p in self._paths()))

    def drop(self, numbers: range) -> None:
        """Forget the wishes that ask for any block outside of ``numbers``."""
        for number, end in self.pending():
            if number not in numbers or end > numbers.stop:
                self._path(number, end).unlink(missing_ok=True)

    def wanted(self, there: Callable[[int], bool]) -> Iterator[int]:
        """Blocks to generate: first those that a reader waits for, then what comes next. Fulfilled wishes are dropped.

        Args:
            there: Whether a block exists.
        """
        pending = self.pending()
        # A block that is missing may have been deleted right now, and the wishes for it before that
        yield from (number for number, end in pending if not there(number) and self._path(number, end).exists())
        for number, end in pending:
            missing = [next_ for next_ in range(number, end) if not there(next_)]
            if not missing:
                self._path(number, end).unlink(missing_ok=True)
            elif self._path(number, end).exists():
                yield from missing

    def _paths(self) -> Iterable[Path]:
        return self.folder.glob('*-*')

    def _path(self, number: int, end: int) -> Path:
        return self.folder / f'{number:08d}-{end:08d}'


def take_place(folder: Path, places: int, patience: float = 0.0) -> FileLock | None:
    """A lock that makes this process one of the producers of a dataset, or None where there are enough of them.

    Args:
        folder: Of the dataset's blocks.
        places: Most producers at a time.
        patience: How long to wait for a place [s].
    """
    (folder / _PRODUCERS).mkdir(parents=True, exist_ok=True)
    for place in range(places):
        try:
            lock = FileLock(folder / _PRODUCERS / f'{place}.lock', thread_local=False)
            lock.acquire(timeout=patience)
            return lock
        except Timeout:
            continue
    return None
