"""The public names and their parameters are those of ``public_api.txt``: none changes by accident.

    python -m tests.test_public_api > tests/public_api.txt

pins what there is now. What goes or changes there follows docs/versions.md and gets a line in CHANGELOG.md.
"""

import argparse
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.test_site import load, on_the_pages
from torchgeo_specdm.cli import _parser
from torchgeo_specdm.experiments import options as experiment

PIN = Path(__file__).with_name('public_api.txt')
_EXPERIMENT = experiment._DEFAULTS | experiment.FULL
PLAIN = (bool, int, float, str, type(None))


class Default:
    """The default of a parameter; of values that versions of libraries may print differently, that there is one."""

    def __init__(self, value: Any) -> None:
        items = value if isinstance(value, tuple) else (value,)
        self.text = repr(value) if all(isinstance(item, PLAIN) for item in items) else '...'

    def __repr__(self) -> str:
        return self.text


def parameters(function: Any) -> str:
    """``(a, *, b=1)``: names, order, kinds and defaults."""
    found = inspect.signature(function).parameters.values()
    shown = [
        each.replace(annotation=each.empty, default=each.empty if each.default is each.empty else Default(each.default))
        for each in found
    ]
    return str(inspect.Signature(shown))


def ours(value: Any) -> bool:
    return str(value.__module__).partition('.')[0] == 'torchgeo_specdm'


def methods(kind: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties that this package defines; those of another library's base are promised there."""
    theirs = {name for base in kind.__mro__ if not ours(base) for name in vars(base)}
    own = {name: value for base in reversed(kind.__mro__) if ours(base) for name, value in vars(base).items()}
    for name, value in sorted(own.items()):
        if not name.startswith('_') and name not in theirs:
            yield name, value.__func__ if isinstance(value, classmethod | staticmethod) else value


def options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """One line for each subcommand, and for each of its options and arguments; those of Lightning are not ours."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield command.prog
                yield from options(command)
        elif not isinstance(action, argparse._HelpAction | argparse._VersionAction):
            yield f'{parser.prog} {option(action)}'


def option(action: argparse.Action) -> str:
    """``--seeds/-s N*=(0, 1)``: names, how many values, what is taken where none is given."""
    name = '/'.join(action.option_strings) or str(action.metavar or action.dest)
    choices = f' {{{",".join(map(str, action.choices))}}}' if action.choices else ''
    values = (
        '' if action.nargs == 0 else f' N{action.nargs or ""}' if action.option_strings else str(action.nargs or '')
    )
    repeated = ' repeated' if isinstance(action, argparse._AppendAction) else ''
    # Those of an experiment are known when the file that gives them is read
    default = _EXPERIMENT.get(action.dest) if action.default == argparse.SUPPRESS else action.default
    default = tuple(default) if isinstance(default, list) else default
    default = default.as_posix() if isinstance(default, Path) else default
    return name + values + choices + repeated + (' required' if action.required else f'={Default(default)}')


def lines() -> Iterator[str]:
    """One for each public name, for each method and property of a public class, and for each option of ``specdm``."""
    yield from options(_parser())
    for name in sorted(on_the_pages()):
        value = load(name)
        if not callable(value) or not ours(value) or (isinstance(value, type) and issubclass(value, Exception)):
            yield name
            continue
        yield name + parameters(value)
        for method, function in methods(value) if isinstance(value, type) else ():
            if isinstance(function, property):
                yield f'{name}.{method}'
            elif inspect.isfunction(function):
                yield f'{name}.{method}{parameters(function)}'


def test_nothing_public_has_changed() -> None:
    pinned, found = PIN.read_text(encoding='utf-8').splitlines(), list(lines())
    gone, new = sorted(set(pinned) - set(found)), sorted(set(found) - set(pinned))
    assert (gone, new) == ([], []), f'gone {gone}, new {new}; where this is meant:\n{__doc__}'
    assert found == pinned


def test_a_changed_parameter_is_seen() -> None:
    def before(a: int, *, b: float = 1.0) -> None:
        """Nothing."""

    def after(a: int, *, b: float = 2.0) -> None:
        """Nothing."""

    assert parameters(before) == '(a, *, b=1.0)'
    assert parameters(before) != parameters(after)


def test_a_changed_option_is_seen() -> None:
    def pinned(*names: str, **about: Any) -> list[str]:
        parser = argparse.ArgumentParser(prog='specdm')
        made = parser.add_subparsers().add_parser('make')
        made.add_argument(*names, **about)
        return list(options(parser))

    assert pinned('--n', '-n', type=int, default=3) == ['specdm make', 'specdm make --n/-n N=3']
    others = [
        pinned('--n', '-n', type=int, default=4),
        pinned('--n', type=int, default=3),
        pinned('--n', '-n', nargs='+', default=3),
        pinned('--n', '-n', action='append', default=3),
        pinned('--n', '-n', choices=[3, 4], default=3),
        pinned('--n', '-n', required=True),
        pinned('n'),
    ]
    assert len({*map(str, others), str(pinned('--n', '-n', type=int, default=3))}) == len(others) + 1


def test_no_address_is_pinned() -> None:
    assert not re.search(r'0x[0-9a-f]{4}| object at |<class|<function', PIN.read_text(encoding='utf-8'))


if __name__ == '__main__':
    print('\n'.join(lines()))
