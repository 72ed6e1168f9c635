"""A disk that is too small for blocks: refused before, or told in one line when it is full."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torchgeo_specdm.datasets.cache_home import gigabytes
from torchgeo_specdm.errors import SpecDMError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_REMEDY = (
    'free some (specdm cache list, specdm cache clear), name another folder with cache= or $SPECDM_CACHE, or keep '
    'blocks in memory with cache=None'
)


def require_space(folder: Path, needed: int, what: str) -> None:
    """Refuse what does not fit.

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
            f'{_REMEDY}'
        )


@contextmanager
def full_disk_is_an_error(folder: Path, what: str) -> Iterator[None]:
    """Say what to do where writing ``what`` to a folder fills its disk.

    Raises:
        SpecDMError: The disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise SpecDMError(
            f'the disk of {folder} is full: {what} could not be written, what was there before is kept; {_REMEDY}'
        ) from error
