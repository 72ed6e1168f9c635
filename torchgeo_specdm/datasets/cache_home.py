"""The folder in which all datasets keep their blocks, a folder for each, and what is deleted there.

Opening a dataset and deleting blocks exclude each other by one lock of the home. Whoever reads a dataset holds a lock
in its folder ``users``, which the system drops with the process; a dataset with such a lock is never touched.
"""

import json
import os
import shutil
import uuid
import weakref
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from torchgeo_specdm.disk import disk_errors
from torchgeo_specdm.errors import SpecDMError

VARIABLE = 'SPECDM_CACHE'
SETTINGS, BLOCK = 'settings.json', '.safetensors'
_USERS = 'users'
# What to do where blocks cannot be written
REMEDY = (
    'free some (specdm cache list, specdm cache clear), name another folder with cache= or $SPECDM_CACHE, or keep '
    'blocks in memory with cache=None'
)
# Locks that a forked child inherited: kept, as a lock that is destroyed there unlocks the file for the parent too
_INHERITED: list[FileLock] = []


def default_home() -> Path:
    """``$SPECDM_CACHE``, or where the user's system keeps caches.

    Raises:
        SpecDMError: Neither is known.
    """
    if named := os.environ.get(VARIABLE):
        return Path(named)
    try:
        from platformdirs import user_cache_path
    except ModuleNotFoundError as error:
        raise SpecDMError(
            f'platformdirs, which knows where a system keeps caches, is not installed: name a folder in ${VARIABLE}'
        ) from error
    return user_cache_path('torchgeo_specdm') / 'blocks'


@dataclass(frozen=True)
class Kept:
    """The blocks of one dataset.

    Attributes:
        folder: Its name is the key of the settings.
        checkpoint: Name of the generator.
        dataset: Name of the dataset that it imitates.
        blocks: Sizes of the block files by their path [byte].
        used: When it was opened last [s since 1970].
    """

    folder: Path
    checkpoint: str
    dataset: str
    blocks: Mapping[Path, int]
    used: float

    @property
    def size(self) -> int:
        """Of all blocks [byte]."""
        return sum(self.blocks.values())


def kept(home: Path) -> list[Kept]:
    """What is in a cache, the least recently used first; other folders are left out."""
    found = []
    for path in home.glob(f'{"[0-9a-f]" * 64}/{SETTINGS}'):
        try:
            told = json.loads(path.read_text(encoding='utf-8'))
            names = str(told['checkpoint']), str(told['dataset'])
            blocks = {file: file.stat().st_size for file in path.parent.glob(f'*{BLOCK}')}
            found.append(Kept(path.parent, *names, blocks, path.stat().st_mtime))
        except (ValueError, KeyError, TypeError):
            continue  # not ours
        except FileNotFoundError:
            continue  # deleted meanwhile
    return sorted(found, key=lambda one: one.used)


def enter(home: Path, key: str, description: Mapping[str, Any], user: object) -> Path:
    """Open the folder of a dataset for as long as ``user`` lives.

    Args:
        home: The cache.
        key: Of the dataset's settings.
        description: Of the dataset, with ``checkpoint`` and ``dataset``; written when it is new.
        user: Any object.

    Returns:
        The folder.

    Raises:
        OSError: It cannot be written to.
    """
    home.mkdir(parents=True, exist_ok=True)
    folder = home / key
    with _home_lock(home):
        (folder / _USERS).mkdir(parents=True, exist_ok=True)
        in_use(folder)  # sweeps what dead processes left
        path = folder / SETTINGS
        if not path.is_file():
            partial = path.with_suffix('.partial')
            partial.write_text(json.dumps(description, indent=2) + '\n', encoding='utf-8')
            partial.replace(path)
        os.utime(path)
        lock = FileLock(folder / _USERS / f'{uuid.uuid4().hex}.lock', thread_local=False)
        lock.acquire(timeout=0)
    weakref.finalize(user, _leave, lock, os.getpid())
    return folder


def _leave(lock: FileLock, owner: int) -> None:
    if os.getpid() != owner:
        _INHERITED.append(lock)
        return
    Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()


def in_use(folder: Path) -> bool:
    """Whether a process reads this dataset; ask under the lock of the home."""
    used = False
    for path in (folder / _USERS).glob('*.lock'):
        try:
            with FileLock(path, timeout=0):
                path.unlink(missing_ok=True)
        except Timeout:
            used = True
    return used


def make_room(home: Path, folder: Path, needed: int, limit: int) -> None:
    """Delete blocks of other datasets, those of the least recently used first, until what is needed fits.

    Args:
        home: The cache.
        folder: Of the dataset that needs room; not touched, nor is any other in use.
        needed: Size of what will be written [byte].
        limit: Largest size of the whole cache after that [byte].

    Raises:
        SpecDMError: It does not fit even then; nothing was deleted.
    """
    with _home_lock(home):
        datasets = kept(home)
        excess = sum(one.size for one in datasets) + needed - limit
        if excess <= 0:
            return
        spare = [one for one in datasets if one.folder != folder and not in_use(one.folder)]
        if sum(one.size for one in spare) < excess:
            raise SpecDMError(
                f'the cache {home} has no room for another {gigabytes(needed)} below max_bytes={limit}, even without '
                'the datasets that nobody uses: raise max_bytes, use fewer samples, or name another folder with cache='
            )
        for one in spare:
            # From the end: a dataset is read from the start
            for path, size in sorted(one.blocks.items(), reverse=True):
                if excess > 0:
                    path.unlink(missing_ok=True)
                    excess -= size


def require_space(folder: Path, needed: int, what: str) -> None:
    """Refuse what does not fit on the disk.

    Args:
        folder: Where to.
        needed: Size [byte].
        what: Of what.

    Raises:
        SpecDMError: The disk has less.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise SpecDMError(
            f'{what} need {gigabytes(needed)}, and the disk of {folder} has {gigabytes(free)}: use fewer samples, '
            f'{REMEDY}'
        )


def clear(home: Path, key: str | None = None) -> tuple[list[Kept], list[Kept]]:
    """Delete datasets from a cache.

    Args:
        home: The cache.
        key: Start of the keys to delete; all by default.

    Returns:
        What was deleted, and what was not because it is in use.

    Raises:
        SpecDMError: There is no dataset of that key, or the cache may not be written.
    """
    remedy = 'only who may write there can delete'
    with disk_errors(home, remedy), _home_lock(home) if home.is_dir() else nullcontext():
        chosen = [one for one in kept(home) if one.folder.name.startswith(key or '')]
        if key and not chosen:
            raise SpecDMError(f'nothing in {home} has a key that starts with {key}: see "specdm cache list"')
        used = [one for one in chosen if in_use(one.folder)]
        gone = [one for one in chosen if one not in used]
        for one in gone:
            # First: whoever is killed here leaves no block without a description, which nobody would find
            for path in one.blocks:
                path.unlink(missing_ok=True)
            shutil.rmtree(one.folder)
    return gone, used


def gigabytes(size: int) -> str:
    """A size for readers."""
    return f'{size / 1e9:.2f} GB' if size >= 5e6 else f'{size / 1e6:.3f} MB'


def _home_lock(home: Path) -> FileLock:
    return FileLock(home / '.lock')
