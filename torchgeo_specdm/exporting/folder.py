"""The folder of an export: how a file appears in it, and which processes may write there.

One run at a time: its rank 0 holds ``.specdm.lock`` from the first look to the last file. Each rank holds
``.specdm-RANK.lock`` while it writes, since one may outlive rank 0, on another machine or under SLURM. The system drops
the locks of a process that is killed. So whoever has the first and finds none of the others held is alone, and files
that have no name yet are what killed processes left.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from torchgeo_specdm.disk import LOCK, alone
from torchgeo_specdm.errors import SpecDMError

_PARTIAL = '.partial-'
_REMEDY = 'name another folder with --out'


def replace_file(folder: Path, name: str, write: Callable[..., Any], *content: Any) -> None:
    """Write a file that appears under its name when it is complete.

    Args:
        folder: Of the export; created.
        name: Of the file, relative to the folder.
        write: Called with the path to write to and ``content``.
        content: What to write.
    """
    # In the folder itself, so that no folder of a sample is there before one of its files; processes of several
    # machines may write there, so that the number of one is no name
    partial = folder / f'{_PARTIAL}{uuid.uuid4().hex}'
    folder.mkdir(parents=True, exist_ok=True)
    try:
        write(partial, *content)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        partial.replace(folder / name)
    finally:
        partial.unlink(missing_ok=True)


def is_begun(folder: Path) -> bool:
    """Whether there is anything but what a run leaves that was killed in its first moment."""
    return any(path.name != LOCK and not path.name.startswith(_PARTIAL) for path in folder.iterdir())


@contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Keep other runs out of the folder, and remove what killed ones left; for rank 0, before any rank writes.

    Args:
        folder: Of the export; created.

    Raises:
        SpecDMError: Another run is at work there, or a rank of one that has ended.
    """
    with alone(folder, 'export', _REMEDY):
        for path in folder.glob('.specdm-*.lock'):
            try:
                with FileLock(path, timeout=0):
                    path.unlink()
            except Timeout as error:
                raise SpecDMError(
                    f'a process of an earlier run is still at work in {folder} and holds {path.name}, maybe on another '
                    f'machine: end it or wait until it ends, or {_REMEDY}'
                ) from error
        for path in folder.glob(f'{_PARTIAL}*'):
            path.unlink()
        yield


@contextmanager
def at_work(folder: Path, rank: int) -> Iterator[None]:
    """Show later runs that this rank writes to the folder.

    Args:
        folder: Of the export.
        rank: Of this process.
    """
    path = folder / f'.specdm-{rank}.lock'
    with FileLock(path):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
