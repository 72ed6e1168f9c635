"""``specdm checkpoints`` and ``specdm card``: checkpoints that have a name, and what a checkpoint says of itself."""

import argparse
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    """Add both to the subcommands of ``specdm``."""
    checkpoints = commands.add_parser(
        'checkpoints',
        help='list the checkpoints that have a name, and where each lies',
        description='Lists names that may stand wherever a checkpoint is asked for: specdm sample indian-pines ...',
    )
    checkpoints.set_defaults(run=list_checkpoints)
    card = commands.add_parser(
        'card',
        help='write the model card of a checkpoint',
        description='Writes README.md (in the format of the Hugging Face hub) and LICENSE into the folder.',
    )
    card.add_argument('folder', type=Path, metavar='FOLDER', help='folder of the checkpoint')
    card.add_argument(
        '--metrics',
        type=Path,
        metavar='JSON',
        help='what examples/benchmarks/quality.py measured of it (default: quality.json in FOLDER, if it is there)',
    )
    card.set_defaults(run=write_card)


def list_checkpoints(args: argparse.Namespace) -> None:
    """Print the names, and where each checkpoint lies."""
    from torchgeo_specdm.catalogue import listing

    print(listing())


def write_card(args: argparse.Namespace) -> None:
    """Write the card of a checkpoint.

    Raises:
        SpecDMError: The folder is no checkpoint, or the metrics cannot be read.
    """
    from torchgeo_specdm import card

    card.write_card(args.folder, args.metrics)
    print(f'wrote {args.folder / "README.md"}')
