"""A disk that is full or may not be written to: said in one line, with what to do."""

import errno
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
