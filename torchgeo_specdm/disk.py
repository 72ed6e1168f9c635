"""A disk that is full or may not be written to: said in one line, with what to do."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torchgeo_specdm.errors import SpecDMError

FULL = (errno.ENOSPC, errno.EDQUOT)
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


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


def require_free(folder: Path, needed: int, remedy: str) -> None:
    """Refuse to begin a file that may not fit: some libraries notice a full disk only after they report success.

    Args:
        folder: Where to; it may be missing.
        needed: Size of the file, if nothing is compressed [byte].
        remedy: What to do.

    Raises:
        SpecDMError: The disk has less.
    """
    place = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if shutil.disk_usage(place).free < needed:
        raise SpecDMError(f'the disk of {folder} is full; what is complete is kept: {remedy}')
