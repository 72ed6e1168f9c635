"""``specdm demo``: the whole job on a small scene."""

import argparse
from pathlib import Path
from typing import Any

from torchgeo_specdm.errors import SpecDMError


def add_parser(commands: Any) -> None:
    """Add ``demo`` to the subcommands of ``specdm``."""
    parser = commands.add_parser(
        'demo',
        help='see the whole job in one command, without a GPU or the network',
        description='Sample a generator, mix its output into real data, train a TorchGeo task on both and report.',
    )
    add = parser.add_argument
    add('--out', type=Path, default=Path('specdm-demo'), help='folder to write to (default: %(default)s)')
    add('--dataset', choices=('indian-pines', 'oscd'), default='indian-pines', help='(default: %(default)s)')
    add('--root', type=Path, help='folder of the dataset, for oscd')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Run the command.

    Raises:
        SpecDMError: The folder of the dataset is not given, or holds something else.
    """
    if args.dataset == 'oscd' and args.root is None:
        raise SpecDMError('--dataset oscd needs --root, the folder of the dataset')
    from torchgeo_specdm import demo

    demo.run(args.out, args.dataset, args.root)
