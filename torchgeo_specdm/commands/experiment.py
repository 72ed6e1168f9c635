"""``specdm experiment``: its options, and how they become an experiment's data, generators and settings."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.experiments.named import EXPERIMENTS, MODELS
from torchgeo_specdm.experiments.options import FAST, FULL, OWN, add_options, complete
from torchgeo_specdm.experiments.plan import Experiment

if TYPE_CHECKING:
    from torchgeo_specdm.experiments.bench import Bench, Settings

_LIST = '\n'.join(f'  {name:14} {experiment.question}' for name, experiment in EXPERIMENTS.items())
_DESCRIPTION = """\
Rerun an experiment of the paper, or one that it lacks, cell by cell. The same command resumes an interrupted run;
processes with other --seeds and the same --out share the work. Writes OUT/NAME.md, .csv and .json.
"""


def add_parser(commands: Any) -> None:
    """Add ``experiment`` to the subcommands of ``specdm``."""
    parser = commands.add_parser(
        'experiment',
        help="run one of the paper's experiments, or an honest control that it lacks",
        description=_DESCRIPTION,
        epilog=f'experiments:\n{_LIST}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    add = parser.add_argument
    add('name', metavar='NAME', choices=EXPERIMENTS, help='one of those below')
    add('--config', type=Path, metavar='FILE', help='YAML that gives the options below; those given here win')
    add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Run the command.

    Args:
        args: As parsed.

    Raises:
        SpecDMError: An argument is wrong.
    """
    from torchgeo_specdm.experiments.table import Report

    args = complete(args)
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
    settings = _settings(args, {**FULL, 'models': MODELS[spec.task]})
    return Bench(data, generators, settings, Store(args.out / 'cells'), sampling=_sampling(args))


def _fast(args: argparse.Namespace) -> 'Bench':
    if any(getattr(args, name) is not None for name in OWN):
        options = ', '.join(f'--{name.replace("_", "-")}' for name in OWN)
        raise SpecDMError(f'--fast brings its own data and generators: leave out {options}')
    from torchgeo_specdm.experiments.bench import Bench, Store
    from torchgeo_specdm.experiments.toy import toy_data, write_toy_generator

    data, folder = toy_data(args.task), args.out / f'fast-{args.task}'
    names = ('checkpoint', 'against')
    generators = {name: write_toy_generator(folder / name, data, seed) for seed, name in enumerate(names)}
    settings = _settings(args, FAST)
    sampling = {name: {'steps': 2} for name in names}
    return Bench(data, generators, settings, Store(folder / 'cells'), folder / 'cache', sampling)


def _sampling(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What the generators' samples are asked for, beside what their checkpoints say."""
    steps = {} if args.sampling_steps is None else {'steps': args.sampling_steps}
    # A single-stream generator has no sides that could agree, and need not have been told classes
    asked = {name: getattr(args, name) for name in ('agreement', 'classes') if getattr(args, name) is not None}
    return {'checkpoint': {**steps, **asked}, 'against': steps}


def _settings(args: argparse.Namespace, defaults: dict[str, Any]) -> 'Settings':
    """What the user chose, or else the defaults."""
    from torchgeo_specdm.experiments.bench import Settings

    given = {name: getattr(args, name) for name in defaults if getattr(args, name) is not None}
    lists = {name: tuple(dict.fromkeys(value)) for name, value in given.items() if isinstance(value, list)}
    return Settings(**{**defaults, **given, **lists}, device=args.device)
