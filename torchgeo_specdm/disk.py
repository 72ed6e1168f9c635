"""A folder to write to: a full disk, one that may not be written to and another run there, each told in one line."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from torchgeo_specdm.errors import SpecDMError

FULL = (errno.ENOSPC, errno.EDQUOT)
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
LOCK = '.specdm.lock'


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
        SpecDMError: Another run is at work there.
    """
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
