"""The options of ``specdm experiment``, and the file that gives them: a line ``name: value`` for each in YAML."""

import argparse
from pathlib import Path
from typing import Any, NoReturn

from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.experiments.named import STEPS

FULL: dict[str, Any] = {
    'seeds': (0, 1, 2, 3, 4),
    'steps': STEPS,
    'batch_size': 16,
    'rates': (1e-3, 3e-3),
    'samples': 1000,
}
FAST: dict[str, Any] = {
    'models': ('unet:mobilenet_v2',),
    'seeds': (0, 1),
    'steps': 4,
    'batch_size': 4,
    'rates': (1e-3,),
    'samples': 24,
}
# What --fast has of its own, whatever a file says of the experiment in full
OWN = ('root', 'checkpoint', 'against', 'sampling_steps', 'agreement', 'classes')
_OF_FULL = (*OWN, 'val_cities', *FULL)
# Of both; what has no value follows from the data
_DEFAULTS: dict[str, Any] = {
    **dict.fromkeys([*_OF_FULL, 'models', 'device']),
    'protocol': 'paper',
    'val_cities': (),
    'fast': False,
    'task': 'segmentation',
    'out': Path('runs/experiments'),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add all options that a file may give.

    Args:
        parser: Whose ``argument_default`` is ``SUPPRESS``, so that options which are not given leave no trace.
    """
    add = parser.add_argument
    add('--root', type=Path, help='folder of the real data: OSCD or SegMunich')
    add('--checkpoint', help='the generator: folder, name that "specdm checkpoints" lists, or hf://owner/name')
    add('--against', metavar='CHECKPOINT', help='another generator: LDM, or the one without the loss on angles')
    add('--protocol', choices=('paper', 'scenes'), help='as many pairs as the paper, or all (default: paper)')
    add('--val-cities', nargs='+', metavar='CITY', help='train cities of OSCD that no generator learned from')
    add(
        '--model',
        nargs='+',
        dest='models',
        metavar='NAME[:OPTION]',
        help="downstream models, as unet:resnet18 (default: the paper's)",
    )
    add('--seeds', nargs='+', type=int, metavar='SEED', help=f'of trainings, or samples (default: {_words("seeds")})')
    add('--steps', type=int, help=f'optimiser steps of every cell (default: {FULL["steps"]})')
    add('--batch-size', type=int, metavar='N', help=f'pairs in a batch (default: {FULL["batch_size"]})')
    add(
        '--lr',
        nargs='+',
        type=float,
        dest='rates',
        metavar='RATE',
        help=f'learning rates to choose from on the val scenes (default: {_words("rates")})',
    )
    add('--sampling-steps', type=int, metavar='N', help="of the solver, for each pair (default: the checkpoint's)")
    add('--agreement', type=float, help="of the pairs of --checkpoint, as of 'specdm sample' (default: 1, none)")
    add(
        '--classes',
        choices=('balanced', 'train'),
        help="of the same pairs, as of 'specdm sample' (default: none asked)",
    )
    add('--samples', type=int, metavar='N', help=f'that are compared with real ones (default: {FULL["samples"]})')
    add('--device', help='cpu, cuda or cuda:N (default: a GPU where there is one)')
    add('--fast', action='store_true', help='run in small on random scenes: shows that it runs, needs nothing')
    add('--task', choices=('change', 'segmentation'), help=f'of --fast (default: {_DEFAULTS["task"]})')
    add('--out', type=Path, help=f'folder to write to (default: {_DEFAULTS["out"]})')


def complete(args: argparse.Namespace) -> argparse.Namespace:
    """The options of the command line, those of its file, and the defaults of the others.

    Raises:
        SpecDMError: The file cannot be read, or says what no option takes.
    """
    given = vars(args)
    file = vars(read_options(args.config)) if 'config' in given else {}
    if given.get('fast'):
        file = {name: value for name, value in file.items() if name not in _OF_FULL}
    return argparse.Namespace(**{**_DEFAULTS, **file, **given})


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SpecDMError(message)


def read_options(path: Path) -> argparse.Namespace:
    """The options that a file gives, checked as those of the command line are.

    Args:
        path: A YAML file; names with ``-`` or ``_``, several values as a list.

    Raises:
        SpecDMError: It is no list of options, or an option is unknown, there twice or of the wrong kind.
    """
    # The command line is fast without it
    import yaml  # type: ignore[import-untyped]

    try:
        values = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpecDMError(f'{path} is no YAML: {error}') from error
    parser = _Parser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    add_options(parser)
    options = {action.option_strings[0].removeprefix('--'): action for action in parser._actions}
    if not isinstance(values, dict):
        raise SpecDMError(f'{path} must give options as "name: value", of {", ".join(options)}')
    words: dict[str, list[str]] = {}
    for key, value in values.items():
        name = str(key).replace('_', '-')
        if name not in options:
            raise SpecDMError(f'{path} has no option for {key!r}: it may give {", ".join(options)}')
        if name in words:
            raise SpecDMError(f'{path} gives {name} twice')
        words[name] = _as_words(name, value, options[name], path)
    try:
        return parser.parse_args([word for option in words.values() for word in option])
    except SpecDMError as error:
        raise SpecDMError(f'{path}: {error}') from error


def _as_words(name: str, value: Any, option: argparse.Action, path: Path) -> list[str]:
    """An option of the file as the words of a command line."""
    if option.nargs == 0:
        if not isinstance(value, bool):
            raise SpecDMError(f'{path}: {name} is {value!r}; it must be true or false')
        return [f'--{name}'] if value else []
    values = value if isinstance(value, list) else [value]
    if any(one is None or isinstance(one, dict | list | bool) for one in values):
        raise SpecDMError(f'{path}: {name} is {value!r}, which is no value of this option')
    if option.nargs is None and len(values) != 1:
        raise SpecDMError(f'{path}: {name} takes one value, not {value!r}')
    return [f'--{name}', *map(str, values)] if option.nargs else [f'--{name}={values[0]}']


def _words(name: str) -> str:
    return ' '.join(f'{value:g}' for value in FULL[name])
