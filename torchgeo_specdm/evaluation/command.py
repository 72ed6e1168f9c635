"""The command ``specdm evaluate``: its options as datasets and settings."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torchgeo_specdm.catalogue import resolve
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.evaluation.data import find_datamodule, open_real, open_synthetic, read_datamodule
from torchgeo_specdm.evaluation.evaluate import Settings, evaluate
from torchgeo_specdm.hub import folder_name


def run(args: Namespace, overrides: Sequence[str]) -> None:
    """Run the command.

    Args:
        args: As parsed by ``cli.py``.
        overrides: Options of the real datamodule.

    Raises:
        SpecDMError: An argument is wrong.
    """
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
    datamodule = read_datamodule(args.data, overrides) if args.data else find_datamodule(spec, args.root)
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
