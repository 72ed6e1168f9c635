"""Writing: files that are complete or absent; full and read-only disks and other runs, told in one line."""

import errno
import glob
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from torchgeo_specdm.errors import SpecDMError

FULL = (errno.ENOSPC, errno.EDQUOT)
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
LOCK = '.specdm.lock'


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file that is either the old one or complete, and remove what killed processes left of it.

    Args:
        path: The file; its folder is made.
        write: Called with the path to write to.

    Raises:
        SpecDMError: The disk is full, or the file may not be written.
    """
    with disk_errors(path.parent, 'make room there, or name another folder, and run the same command again'):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path)
        partial = path.with_name(f'.{path.name}.partial-{os.getpid()}')
        try:
            write(partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def sweep(path: Path) -> None:
    """Remove what killed processes left of a file that they wrote by :func:`write_whole`."""
    for left in path.parent.glob(f'.{glob.escape(path.name)}.partial-*'):
        if not is_at_work(left.name.rpartition('-')[2]):
            left.unlink(missing_ok=True)


def is_at_work(process: str) -> bool:
    """Whether another process of this machine has that number: what others wrote is what killed runs have left.

    So is what this one's number has written, which containers give to one process after the other.
    """
    try:
        if int(process) == os.getpid():
            return False
        os.kill(int(process), 0)
    except ValueError:
        return True
    except OSError as error:
        return error.errno != errno.ESRCH
    return True


@contextmanager
def disk_errors(folder: Path, remedy: str) -> Iterator[None]:
    """Say what to do where writing to a folder fails for want of space or permission.

    Args:
        folder: What is written lies below it.
        remedy: What to do, after what is wrong.

    Raises:
        SpecDMError: The disk is full, or a file may not be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise SpecDMError(f'the disk of {folder} is full; what is complete is kept: {remedy}') from error
        if error.errno in READ_ONLY:
            raise SpecDMError(f'{error.filename or folder} may not be written ({error.strerror}): {remedy}') from error
        raise


@contextmanager
def alone(folder: Path, what: str, remedy: str) -> Iterator[None]:
    """Keep other runs out of a folder; the system drops the lock of a run that is killed.

    Args:
        folder: Created, and removed again if nothing was written to it.
        what: Kind of run, in a word.
        remedy: What a second one can do but wait.

    Raises:
        SpecDMError: Another run is at work there, or it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise SpecDMError(f'{folder} is a file: {remedy}')
    new, path = not folder.exists(), folder / LOCK
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(path).acquire(timeout=0)
    except Timeout as error:
        raise SpecDMError(f'another {what} is at work in {folder}: wait until it ends, or {remedy}') from error
    with lock:
        try:
            yield
        finally:
            if new and list(folder.iterdir()) == [path]:
                path.unlink()
                folder.rmdir()
