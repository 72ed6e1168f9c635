"""``specdm fit``, ``validate`` and ``test``: Lightning's command line, stage by stage."""

import argparse
from typing import Any

_TEXTS = {
    'fit': 'train what a YAML file configures: a generator or any TorchGeo task',
    'validate': 'evaluate it on the validation split',
    'test': 'evaluate it on the test split',
}


def add_parser(commands: Any) -> None:
    """Add the three to the subcommands of ``specdm``."""
    for name, text in _TEXTS.items():
        # Everything unknown here, --help included, belongs to Lightning
        parser = commands.add_parser(name, help=text, add_help=False, allow_abbrev=False)
        parser.add_argument('--config', '-c', action='append', default=[])
        parser.add_argument('--stage')
        parser.add_argument('--restart', action='store_true')
        parser.set_defaults(run=run, unknown='')


def run(args: argparse.Namespace) -> None:
    """Run one of the three.

    Raises:
        SpecDMError: A configuration is wrong, or the trainer cannot run it.
    """
    from torchgeo_specdm.fit import run_stages

    run_stages(args.command, args.config, args.rest, stage=args.stage, restart=args.restart)
