"""The command ``specdm``: its subcommands are the modules of :mod:`torchgeo_specdm.commands`."""

import argparse
import errno
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from torchgeo_specdm import __version__
from torchgeo_specdm.commands import cache, checkpoints, demo, evaluate, experiment, init, sample, training
from torchgeo_specdm.disk import FULL
from torchgeo_specdm.errors import USER_FILES, SpecDMError

# In the order in which the help lists them
COMMANDS = (training, sample, init, evaluate, experiment, checkpoints, cache, demo)
_EXAMPLES = """\
examples:
  specdm demo
      The whole job on a small scene that is installed with the package: sample, mix, train, report.
  specdm sample indian-pines --n 100 --out synthetic
      Write 100 labelled images of a checkpoint that has a name; 'specdm checkpoints' lists them.
  specdm init data/fields --out fields.yaml
      Look at a dataset of your own, and write the file that trains a generator of it.
  specdm fit --config oscd.yaml --data.root data/oscd
      Train a generator: each stage of the file in turn. The same command resumes an interrupted run.
  specdm fit --config oscd.yaml --stage LatentDiffusionTask --restart
      Train one stage again, from the start.
  specdm sample runs/oscd/checkpoint --n 1000 --out synthetic
      Write 1000 labelled images as GeoTIFF.
  specdm sample runs/oscd/checkpoint --n 1000 --out oscd --format oscd
      The same as files that TorchGeo's OSCD reads.
  specdm sample runs/oscd/checkpoint --n 1000 --out filtered --keep aligned
      The same, without what a model of the real data rejects.
  specdm sample runs/oscd/checkpoint --n 1000 --out dressed --given mask --data oscd.yaml
      New images for the masks of the real train samples.
  specdm evaluate runs/oscd/checkpoint --data oscd.yaml --out report
      Can the labels be trusted, are the samples copies, will they help? A page with figures that say.
  specdm experiment ratio --fast --out experiments
      An experiment of the paper in small; with --root and --checkpoint, in full.
  specdm fit --config mixed.yaml
      Train any TorchGeo task; with MixedDataModule on real and synthetic data.

'specdm COMMAND --help' lists the options of a command.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='specdm',
        description='Labelled multi- and hyperspectral training data from a joint latent diffusion model.',
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--version', action='version', version=f'specdm {__version__}')
    parser.set_defaults(unknown=None)
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    for module in COMMANDS:
        module.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``specdm``.

    Args:
        argv: Arguments; those of the process by default.

    Returns:
        The exit status: 2 after an error that the user can mend, which is printed as one line; 130 when interrupted;
        141 when who read the output has left. Anything else that goes wrong is a bug and is raised.
    """
    # Of a library that TorchGeo imports; nothing that a user could mend
    warnings.filterwarnings('ignore', message='.torch.jit.script. is deprecated', category=FutureWarning)
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    if rest and (args.unknown is None or not rest[0].startswith(args.unknown)):
        parser.error(f'unrecognized arguments: {" ".join(rest)}')
    args.rest = rest
    try:
        args.run(args)
        # Here, where a reader that has left is known to be one
        sys.stdout.flush()
    except BrokenPipeError:
        # Python writes the rest when it ends: to nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (SpecDMError, *USER_FILES) as error:
        return _refuse(str(error))
    except OSError as error:
        if error.errno not in (*FULL, errno.EROFS):
            raise
        place = error.filename or getattr(args, 'out', None) or Path.cwd()
        remedy = 'what is complete is kept: make room there, or name another folder, and run the same command again'
        return _refuse(f'{place} cannot be written ({error.strerror}); {remedy}')
    except KeyboardInterrupt as interrupt:
        print('; '.join(['specdm: interrupted', *map(str, interrupt.args)]), file=sys.stderr)
        return 130
    return 0


def _refuse(reason: str) -> int:
    print(f'specdm: error: {" ".join(reason.split())}', file=sys.stderr)
    return 2
