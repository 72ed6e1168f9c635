"""``specdm cache``: what is kept of synthetic samples, and how to be rid of it."""

import time
from collections.abc import Sequence
from pathlib import Path

from torchgeo_specdm.datasets.cache_home import Kept, clear, default_home, gigabytes, kept

_SHOWN = 12


def list_cache(home: Path | None) -> str:
    """All datasets of a cache as text, the one used last first.

    Args:
        home: The cache; the default one by default.
    """
    home = home or default_home()
    datasets = kept(home)[::-1]
    return '\n'.join([f'{home}: {_size(datasets)}', *map(_row, datasets)])


def clear_cache(home: Path | None, key: str | None) -> str:
    """Delete datasets, and say which.

    Args:
        home: The cache; the default one by default.
        key: Start of the keys to delete; all by default.

    Raises:
        SpecDMError: There is no dataset of that key.
    """
    home = home or default_home()
    gone, used = clear(home, key)
    lines = [f'deleted {_size(gone)} from {home}']
    return '\n'.join([*lines, *(f'not deleted, as it is in use: {_row(one)}' for one in used)])


def _size(datasets: Sequence[Kept]) -> str:
    return f'{gigabytes(sum(one.size for one in datasets))} of {len(datasets)} dataset{"s" * (len(datasets) != 1)}'


def _row(one: Kept) -> str:
    used = time.strftime('%Y-%m-%d %H:%M', time.localtime(one.used))
    name = f'{one.checkpoint} ({one.dataset})'
    return f'{one.folder.name[:_SHOWN]}  {gigabytes(one.size):>10}  {len(one.blocks):6} blocks  used {used}  {name}'
