"""``specdm cache``: what is kept of synthetic samples, and how to be rid of it."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torchgeo_specdm.datasets.cache_home import Kept

_SHOWN = 12


def add_parser(commands: Any) -> None:
    """Add ``cache list`` and ``cache clear`` to the subcommands of ``specdm``."""
    cache = commands.add_parser(
        'cache',
        help='list or delete the synthetic samples that are kept on disk',
        description='A synthetic dataset keeps its samples on disk, to be generated once. What is deleted is generated '
        'again when it is read, to the same bits.',
    )
    actions = cache.add_subparsers(dest='action', required=True, metavar='ACTION')
    text = 'size, key, last use and checkpoint of each dataset'
    listing = actions.add_parser('list', help=text, description=f'Prints {text}, the one used last first.')
    listing.set_defaults(run=list_cache)
    text = 'delete what is not in use'
    clearing = actions.add_parser('clear', help=text, description=f'{text.capitalize()}, and print what was deleted.')
    clearing.add_argument('--key', help='start of the keys of the datasets to delete (default: all)')
    clearing.set_defaults(run=clear_cache)
    for action in (listing, clearing):
        action.add_argument('--cache', type=Path, help="folder (default: $SPECDM_CACHE, or the user's cache)")


def list_cache(args: argparse.Namespace) -> None:
    """Print all datasets of a cache, the one used last first."""
    from torchgeo_specdm.datasets.cache_home import default_home, kept

    home = args.cache or default_home()
    datasets = kept(home)[::-1]
    print('\n'.join([f'{home}: {_size(datasets)}', *map(_row, datasets)]))


def clear_cache(args: argparse.Namespace) -> None:
    """Delete datasets, and print which.

    Raises:
        SpecDMError: There is no dataset of that key.
    """
    from torchgeo_specdm.datasets.cache_home import clear, default_home

    home = args.cache or default_home()
    gone, used = clear(home, args.key)
    lines = [f'deleted {_size(gone)} from {home}']
    print('\n'.join([*lines, *(f'not deleted, as it is in use: {_row(one)}' for one in used)]))


def _size(datasets: 'Sequence[Kept]') -> str:
    from torchgeo_specdm.datasets.cache_home import gigabytes

    return f'{gigabytes(sum(one.size for one in datasets))} of {len(datasets)} dataset{"s" * (len(datasets) != 1)}'


def _row(one: 'Kept') -> str:
    from torchgeo_specdm.datasets.cache_home import gigabytes

    used = time.strftime('%Y-%m-%d %H:%M', time.localtime(one.used))
    name = f'{one.checkpoint} ({one.dataset})'
    return f'{one.folder.name[:_SHOWN]}  {gigabytes(one.size):>10}  {len(one.blocks):6} blocks  used {used}  {name}'
