"""``specdm evaluate``: its options as datasets and settings."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from torchgeo_specdm.catalogue import resolve
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.hub import folder_name


def add_parser(commands: Any) -> None:
    """Add ``evaluate`` to the subcommands of ``specdm``."""
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
    evaluate.set_defaults(run=run, unknown='--data.')


def run(args: argparse.Namespace) -> None:
    """Run the command.

    Args:
        args: As parsed; ``rest`` holds options of the real datamodule.

    Raises:
        SpecDMError: An argument is wrong.
    """
    if args.n < 2 or args.real < 2:
        raise SpecDMError(f'--n is {args.n} and --real is {args.real}; nothing can be compared with fewer than 2')
    if args.rest and args.data is None:
        raise SpecDMError(f'{args.rest[0]} needs --data CONFIG')
    from torchgeo_specdm.evaluation.data import find_datamodule, open_synthetic, read_datamodule
    from torchgeo_specdm.evaluation.evaluate import Settings, evaluate
    from torchgeo_specdm.evaluation.real_data import open_real

    sampling = {'seed': args.seed, 'steps': args.steps, 'solver': args.solver, 'device': args.device}
    generators: dict[str, Any] = {}
    for source, keep in ((args.source, args.keep), (args.compare, None)):
        if source is not None:
            path = resolve(source)
            name = _name(path) + (' (filtered)' if keep else '')
            if name in generators:
                raise SpecDMError(f'both sources are called {name}: compare different folders, or filter one of them')
            generators[name] = open_synthetic(path, args.n, **sampling, keep=keep)
    spec = next(iter(generators.values())).spec
    datamodule = read_datamodule(args.data, args.rest) if args.data else find_datamodule(spec, args.root)
    settings = Settings(args.real, tuple(args.extractors), judge_steps=args.judge_steps, device=args.device)
    if args.no_usefulness:
        settings = replace(settings, usefulness=None)
    if args.cache:
        settings = replace(settings, cache=args.cache)
    evaluate(generators, open_real(datamodule, spec), args.out, settings)


def _name(path: Path) -> str:
    """What a reader calls a source: ``oscd`` for ``runs/oscd/checkpoint``."""
    name = folder_name(path)
    return path.resolve().parent.name if name == 'checkpoint' else name
