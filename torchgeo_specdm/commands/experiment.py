"""``specdm experiment``: its options, and how they become an experiment's data, generators and settings."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.experiments.named import EXPERIMENTS, MODELS, STEPS
from torchgeo_specdm.experiments.plan import Experiment

if TYPE_CHECKING:
    from torchgeo_specdm.experiments.bench import Bench, Settings

_LIST = '\n'.join(f'  {name:14} {experiment.question}' for name, experiment in EXPERIMENTS.items())
_DESCRIPTION = """\
Rerun an experiment of the paper, or one that it lacks, cell by cell. The same command resumes an interrupted run;
processes with other --seeds and the same --out share the work. Writes OUT/NAME.md, .csv and .json.
"""
_FULL: dict[str, Any] = {
    'seeds': (0, 1, 2, 3, 4),
    'steps': STEPS,
    'batch_size': 16,
    'rates': (1e-3, 3e-3),
    'samples': 1000,
}
_FAST: dict[str, Any] = {
    'models': ('unet:mobilenet_v2',),
    'seeds': (0, 1),
    'steps': 4,
    'batch_size': 4,
    'rates': (1e-3,),
    'samples': 24,
}


def add_parser(commands: Any) -> None:
    """Add ``experiment`` to the subcommands of ``specdm``."""
    parser = commands.add_parser(
        'experiment',
        help="run one of the paper's experiments, or an honest control that it lacks",
        description=_DESCRIPTION,
        epilog=f'experiments:\n{_LIST}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('name', metavar='NAME', choices=EXPERIMENTS, help='one of those below')
    add('--root', type=Path, help='folder of the real data: OSCD or SegMunich')
    add('--checkpoint', help='the generator: folder, name that "specdm checkpoints" lists, or hf://owner/name')
    add('--against', metavar='CHECKPOINT', help='another generator: LDM, or the one without the loss on angles')
    add('--protocol', choices=('paper', 'scenes'), default='paper', help='as many pairs as the paper, or all (paper)')
    add(
        '--val-cities',
        nargs='+',
        default=(),
        metavar='CITY',
        help='train cities of OSCD that no generator learned from',
    )
    add(
        '--model',
        nargs='+',
        dest='models',
        metavar='NAME[:OPTION]',
        help="downstream models, as unet:resnet18 (default: the paper's)",
    )
    add('--seeds', nargs='+', type=int, metavar='SEED', help=f'of trainings, or samples (default: {_words("seeds")})')
    add('--steps', type=int, help=f'optimiser steps of every cell (default: {_FULL["steps"]})')
    add('--batch-size', type=int, metavar='N', help=f'pairs in a batch (default: {_FULL["batch_size"]})')
    add(
        '--lr',
        nargs='+',
        type=float,
        dest='rates',
        metavar='RATE',
        help=f'learning rates to choose from on the val scenes (default: {_words("rates")})',
    )
    add('--samples', type=int, metavar='N', help=f'that are compared with real ones (default: {_FULL["samples"]})')
    add('--device', help='cpu, cuda or cuda:N (default: a GPU where there is one)')
    add('--fast', action='store_true', help='run in small on random scenes: shows that it runs, needs nothing')
    add('--task', choices=('change', 'segmentation'), default='segmentation', help='of --fast (default: %(default)s)')
    add('--out', type=Path, default=Path('runs/experiments'), help='folder to write to (default: %(default)s)')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Run the command.

    Args:
        args: As parsed.

    Raises:
        SpecDMError: An argument is wrong.
    """
    from torchgeo_specdm.experiments.table import Report

    experiment = EXPERIMENTS[args.name]
    bench = _fast(args) if args.fast else _open(args, experiment)
    about = []
    if args.fast:
        about = ['**In small, on random scenes and untrained generators: the figures mean nothing.**']
    try:
        experiment.run(bench, Report(args.out, args.name, experiment.question, about))
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt('the same command resumes') from interrupt
    print(f'Wrote {args.out / args.name}.md, .csv and .json')


def _open(args: argparse.Namespace, experiment: Experiment) -> 'Bench':
    if missing := sorted(name for name in {*experiment.needs, 'root'} if getattr(args, name) is None):
        raise SpecDMError(f'{args.name} needs {", ".join(f"--{name}" for name in missing)}; --fast needs nothing')
    from torchgeo_specdm.catalogue import resolve
    from torchgeo_specdm.experiments.bench import Bench, Store
    from torchgeo_specdm.experiments.data import open_data
    from torchgeo_specdm.pipeline import SpecDMPipeline

    generators = {name: resolve(getattr(args, name)) for name in experiment.needs}
    spec = SpecDMPipeline.read_spec(generators['checkpoint'])
    for name, folder in generators.items():
        spec.require_match(SpecDMPipeline.read_spec(folder), '--checkpoint', f'--{name}')
    data = open_data(spec, args.root, args.protocol, args.val_cities)
    settings = _settings(args, {**_FULL, 'models': MODELS[spec.task]})
    return Bench(data, generators, settings, Store(args.out / 'cells'))


def _fast(args: argparse.Namespace) -> 'Bench':
    if args.root or args.checkpoint or args.against:
        raise SpecDMError('--fast brings its own data and generators: leave out --root, --checkpoint and --against')
    from torchgeo_specdm.experiments.bench import Bench, Store
    from torchgeo_specdm.experiments.toy import toy_data, write_toy_generator

    data, folder = toy_data(args.task), args.out / f'fast-{args.task}'
    names = ('checkpoint', 'against')
    generators = {name: write_toy_generator(folder / name, data, seed) for seed, name in enumerate(names)}
    settings = _settings(args, _FAST)
    return Bench(data, generators, settings, Store(folder / 'cells'), folder / 'cache', {'steps': 2})


def _settings(args: argparse.Namespace, defaults: dict[str, Any]) -> 'Settings':
    """What the user chose, or else the defaults."""
    from torchgeo_specdm.experiments.bench import Settings

    given = {name: getattr(args, name) for name in defaults if getattr(args, name) is not None}
    lists = {name: tuple(dict.fromkeys(value)) for name, value in given.items() if isinstance(value, list)}
    return Settings(**{**defaults, **given, **lists}, device=args.device)


def _words(name: str) -> str:
    return ' '.join(f'{value:g}' for value in _FULL[name])
