"""The command ``specdm``.

Arguments are dispatched first and libraries are imported by the subcommand that needs them, so that ``--help`` loads
neither torch nor TorchGeo.
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torchgeo_specdm import __version__
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.experiments import command as experiment
from torchgeo_specdm.starting import command as init_command

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

# The keys of torchgeo_specdm.exporting.FORMATS, which are not imported to print a help
_FORMATS = ('geotiff', 'segmunich', 'oscd', 'npz', 'webdataset')
_USER_FILES = (FileNotFoundError, NotADirectoryError, PermissionError)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='specdm',
        description='Labelled multi- and hyperspectral training data from a joint latent diffusion model.',
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--version', action='version', version=f'specdm {__version__}')
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')

    for name, text in {
        'fit': 'train what a YAML file configures: a generator or any TorchGeo task',
        'validate': 'evaluate it on the validation split',
        'test': 'evaluate it on the test split',
    }.items():
        # Everything unknown here, --help included, belongs to Lightning
        lightning = commands.add_parser(name, help=text, add_help=False, allow_abbrev=False)
        lightning.add_argument('--config', '-c', action='append', default=[])
        lightning.add_argument('--stage')
        lightning.add_argument('--restart', action='store_true')

    sample = commands.add_parser(
        'sample',
        help='write labelled images of a trained generator as GeoTIFF or in another format',
        description='Generate labelled images. Writes OUT/image, OUT/mask and OUT/specdm.json, or the files of another '
        'format; the same command resumes an interrupted run, a larger N continues it.',
    )
    # Not Path, which would drop a slash of hf://
    sample.add_argument(
        'checkpoint',
        metavar='CHECKPOINT',
        help='folder that "specdm fit" wrote, name that "specdm checkpoints" lists, or hf://owner/name',
    )
    sample.add_argument('--n', type=int, required=True, help='number of images')
    sample.add_argument('--out', type=Path, required=True, help='folder to write to')
    sample.add_argument('--seed', type=int, default=0, help='names one endless dataset of the checkpoint (default: 0)')
    sample.add_argument('--steps', type=int, default=20, help='steps of the solver (default: 20)')
    sample.add_argument('--solver', help="solver (default: the checkpoint's)")
    sample.add_argument('--batch-size', type=int, help='images generated at once (default: 8 on a CPU, more on a GPU)')
    sample.add_argument('--device', help='cpu, cuda or cuda:N (default: a GPU where there is one)')
    sample.add_argument(
        '--format',
        default='geotiff',
        metavar='|'.join(_FORMATS),
        help='layout and type of the files (default: geotiff); segmunich and oscd fit checkpoints of these datasets',
    )
    sample.add_argument('--shard-size', type=int, metavar='N', help='images in a file of webdataset (default: 100)')
    sample.add_argument('--crs', help='coordinate system such as EPSG:32632, with --transform (default: fictitious)')
    sample.add_argument(
        '--transform',
        nargs=6,
        type=float,
        metavar=tuple('ABCDEF'),
        help='affine transform of image 0 (10 0 LEFT 0 -10 TOP: pixels of 10 units); the others lie beside it',
    )
    sample.add_argument(
        '--keep',
        metavar='aligned|FOLDER',
        help="keep what the checkpoint's filter, or that in a folder, accepts (default: keep all)",
    )

    sample.add_argument(
        '--classes',
        nargs='+',
        metavar='balanced|NAME=SHARE',
        help='ask for each class equally often, or for shares of pixels by class name (water=0.4)',
    )
    sample.add_argument('--guidance', type=float, help='how strongly to pull towards the classes (default: 1.5)')
    sample.add_argument(
        '--agreement',
        type=float,
        default=1.0,
        help='how strongly to pull images and masks towards those that go together, at three times the cost of a '
        'step (1.75 with 10 steps, say; default: 1, not at all)',
    )
    sample.add_argument(
        '--given',
        nargs='+',
        metavar='STREAM',
        help='keep these streams of real samples and generate the rest: mask, image, image1 or image2',
    )
    sample.add_argument(
        '--data', type=Path, metavar='CONFIG', help='YAML whose "data:" has the real samples (default: by name)'
    )
    sample.add_argument('--root', type=Path, help='folder of the real samples, where no CONFIG is given')
    sample.add_argument(
        '--split', choices=('train', 'val', 'test'), default='train', help='of the real samples (default: %(default)s)'
    )

    init_command.add_parser(commands)
    _add_evaluate(commands)
    experiment.add_parser(commands)
    _add_checkpoints(commands)
    _add_cache(commands)

    demo = commands.add_parser(
        'demo',
        help='see the whole job in one command, without a GPU or the network',
        description='Sample a generator, mix its output into real data, train a TorchGeo task on both and report.',
    )
    demo.add_argument('--out', type=Path, default=Path('specdm-demo'), help='folder to write to (default: %(default)s)')
    demo.add_argument(
        '--dataset', choices=('indian-pines', 'oscd'), default='indian-pines', help='(default: %(default)s)'
    )
    demo.add_argument('--root', type=Path, help='folder of the dataset, for oscd')
    return parser


def _add_checkpoints(commands: Any) -> None:
    commands.add_parser('checkpoints', help='list the checkpoints that have a name, and where each lies')
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


def _add_cache(commands: Any) -> None:
    cache = commands.add_parser('cache', help='list or delete the synthetic samples that are kept on disk')
    actions = cache.add_subparsers(dest='action', required=True, metavar='ACTION')
    listing = actions.add_parser('list', help='size, key, last use and checkpoint of each dataset')
    clear = actions.add_parser('clear', help='delete what is not in use')
    clear.add_argument('--key', help='start of the keys of the datasets to delete (default: all)')
    for action in (listing, clear):
        action.add_argument('--cache', type=Path, help="folder (default: $SPECDM_CACHE, or the user's cache)")


def _add_evaluate(commands: Any) -> None:
    evaluate = commands.add_parser(
        'evaluate',
        allow_abbrev=False,
        help='measure synthetic samples against the real ones that they imitate',
        description='Writes OUT/report.html, OUT/figures and OUT/metrics.json. What is computed from real data alone '
        'is cached. Options of the real datamodule are given as --data.NAME VALUE.',
    )
    add = evaluate.add_argument
    add(
        'source', metavar='SOURCE', help='a checkpoint (folder, name or hf://owner/name), or what "specdm sample" wrote'
    )
    add('--out', type=Path, required=True, help='folder to write to')
    add('--data', type=Path, metavar='CONFIG', help='YAML whose "data:" is the real dataset (default: by name)')
    add('--root', type=Path, help='folder of the real dataset, where no CONFIG is given')
    add('--compare', metavar='OTHER', help='a second source, shown beside the first')
    add('--n', type=int, default=500, help='synthetic samples (default: %(default)s, or all that a folder holds)')
    add('--real', type=int, default=1000, help='most real samples of a split to look at (default: %(default)s)')
    add('--extractors', nargs='+', default=['spectral', 'lite0'], metavar='NAME', help='(default: spectral lite0)')
    add('--judge-steps', type=int, default=300, help="steps of the judge's training (default: %(default)s)")
    add('--no-usefulness', action='store_true', help='leave out the trainings that show whether the samples help')
    add('--keep', help="filter of SOURCE: 'aligned' or a folder; OTHER is never filtered")
    add('--seed', type=int, help='names one endless dataset of a checkpoint (default: 0)')
    add('--steps', type=int, help='steps of the solver (default: 20)')
    add('--solver', help="solver (default: the checkpoint's)")
    add('--device', help='where networks run: cpu, cuda or cuda:N (default: a GPU where there is one)')
    add('--cache', type=Path, help="folder of what is kept of the real side (default: the user's cache)")


def _evaluate(args: argparse.Namespace, overrides: Sequence[str]) -> None:
    if args.n < 2 or args.real < 2:
        raise SpecDMError(f'--n is {args.n} and --real is {args.real}; nothing can be compared with fewer than 2')
    if overrides and args.data is None:
        raise SpecDMError(f'{overrides[0]} needs --data CONFIG')
    from torchgeo_specdm.evaluation.command import run

    run(args, overrides)


def _sample(args: argparse.Namespace) -> None:
    if args.n < 1:
        raise SpecDMError(f'--n is {args.n}; ask for at least 1 image')
    if args.given is None and (args.data or args.root):
        raise SpecDMError('--data and --root name the real samples of --given, which is missing')
    from torchgeo_specdm.export import export

    given = {'given': _given(args), 'given_streams': args.given} if args.given else {}
    try:
        export(
            args.checkpoint,
            args.out,
            args.n,
            seed=args.seed,
            steps=args.steps,
            solver=args.solver,
            batch_size=args.batch_size,
            device=args.device,
            keep=args.keep,
            classes=_classes(args.classes),
            guidance=args.guidance,
            agreement=args.agreement,
            format=args.format,
            crs=args.crs,
            transform=args.transform,
            shard_size=args.shard_size,
            **given,
        )
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt('the same command resumes') from interrupt


def _given(args: argparse.Namespace) -> Any:
    """The real samples that ``--given`` takes streams from."""
    from torchgeo_specdm.datamodules import GeneratorDataModule
    from torchgeo_specdm.evaluation.data import find_datamodule, read_datamodule
    from torchgeo_specdm.pipeline import SpecDMPipeline

    spec = SpecDMPipeline.read_spec(args.checkpoint)
    real = read_datamodule(args.data) if args.data else find_datamodule(spec, args.root)
    raw = GeneratorDataModule(real, dihedral=False)
    raw.prepare_data()
    real.setup('test' if args.split == 'test' else 'fit')
    return raw.split(args.split)


def _classes(values: Sequence[str] | None) -> dict[str, float] | str | None:
    """What ``--classes`` asks for."""
    if not values:
        return None
    if list(values) == ['balanced']:
        return 'balanced'
    shares = {}
    for value in values:
        name, _, share = value.rpartition('=')
        try:
            shares[name] = float(share)
        except ValueError as error:
            raise SpecDMError(f"--classes takes 'balanced' or NAME=SHARE (water=0.4), not {value!r}") from error
    return shares


def _list_checkpoints() -> None:
    from torchgeo_specdm.catalogue import listing

    print(listing())


def _cache(args: argparse.Namespace) -> None:
    from torchgeo_specdm.datasets.cache_command import clear_cache, list_cache

    print(list_cache(args.cache) if args.action == 'list' else clear_cache(args.cache, args.key))


def _card(args: argparse.Namespace) -> None:
    from torchgeo_specdm.card import write_card

    write_card(args.folder, args.metrics)
    print(f'wrote {args.folder / "README.md"}')


def _demo(args: argparse.Namespace) -> None:
    if args.dataset == 'oscd' and args.root is None:
        raise SpecDMError('--dataset oscd needs --root, the folder of the dataset')
    from torchgeo_specdm.demo import run

    run(args.out, args.dataset, args.root)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``specdm``.

    Args:
        argv: Arguments; those of the process by default.

    Returns:
        The exit status: 2 after an error that the user can mend, which is printed as one line; 130 when interrupted.
        Anything else that goes wrong is a bug and is raised.
    """
    # Of a library that TorchGeo imports; nothing that a user could mend
    warnings.filterwarnings('ignore', message='.torch.jit.script. is deprecated', category=FutureWarning)
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    lightning = args.command in ('fit', 'validate', 'test')
    if rest and not lightning and not (args.command == 'evaluate' and rest[0].startswith('--data.')):
        parser.error(f'unrecognized arguments: {" ".join(rest)}')
    try:
        if lightning:
            from torchgeo_specdm.fit import run_stages

            run_stages(args.command, args.config, rest, stage=args.stage, restart=args.restart)
        elif args.command == 'sample':
            _sample(args)
        elif args.command == 'init':
            init_command.run(args)
        elif args.command == 'evaluate':
            _evaluate(args, rest)
        elif args.command == experiment.NAME:
            experiment.run(args)
        elif args.command == 'checkpoints':
            _list_checkpoints()
        elif args.command == 'cache':
            _cache(args)
        elif args.command == 'card':
            _card(args)
        else:
            _demo(args)
    except (SpecDMError, *_USER_FILES) as error:
        print(f'specdm: error: {" ".join(str(error).split())}', file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print('; '.join(['specdm: interrupted', *map(str, interrupt.args)]), file=sys.stderr)
        return 130
    return 0
