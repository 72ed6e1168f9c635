"""Every test asserts something, by itself or by a helper that it calls, and leaves the environment as it was."""

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
Function = ast.FunctionDef | ast.AsyncFunctionDef
# Of pytest, torch.testing, numpy.testing and subprocess: what fails where something is not as it should be
_CHECKS = ('raises', 'warns', 'fail')


def name_of(call: ast.Call) -> str:
    """The last part of what is called: ``close`` of ``a.b.close()``."""
    target = call.func
    return target.attr if isinstance(target, ast.Attribute) else target.id if isinstance(target, ast.Name) else ''


def asserts(function: Function) -> bool:
    """Whether a function itself asserts, or has a library do it."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assert) or (isinstance(node, ast.Raise) and 'AssertionError' in ast.unparse(node)):
            return True
        if isinstance(node, ast.Call):
            checked = any(word.arg == 'check' and getattr(word.value, 'value', False) for word in node.keywords)
            if name_of(node) in _CHECKS or name_of(node).startswith('assert_') or checked:
                return True
    return False


def functions(tree: ast.AST) -> Iterator[Function]:
    """All functions of a file, methods and inner ones too."""
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def calls(function: Function) -> set[str]:
    return {name_of(node) for node in ast.walk(function) if isinstance(node, ast.Call)}


def without_assertion(sources: dict[str, str]) -> list[str]:
    """``file::test`` of each test that asserts nothing.

    Args:
        sources: Text of each file by name. A helper is one of the same file or, if there is none, of any other.
    """
    every = [(name, function) for name, text in sources.items() for function in functions(ast.parse(text))]
    homes: dict[str, set[str]] = {}
    for name, function in every:
        homes.setdefault(function.name, set()).add(name)
    relies_on = {
        (name, function.name): {
            (home, called)
            for called in calls(function) & set(homes)
            for home in homes[called] & {name} or homes[called]
        }
        for name, function in every
    }
    asserting = {(name, function.name) for name, function in every if asserts(function)}
    while found := {test for test, called in relies_on.items() if called & asserting} - asserting:
        asserting |= found
    return [
        f'{name}::{function.name}'
        for name, function in every
        if function.name.startswith('test_') and (name, function.name) not in asserting
    ]


def test_no_test_is_without_assertion() -> None:
    sources = {path.relative_to(TESTS).as_posix(): path.read_text(encoding='utf-8') for path in TESTS.rglob('*.py')}
    assert sum(text.count('def test_') for text in sources.values()) > 300
    assert without_assertion(sources) == []


@pytest.mark.parametrize(
    ('body', 'found'),
    [
        ('    run()', True),
        ('    assert run()', False),
        ('    with pytest.raises(ValueError):\n        run()', False),
        ('    torch.testing.assert_close(run(), 1)', False),
        ('    subprocess.run([], check=True)', False),
        ('    subprocess.run([], check=False)', True),
        ('    helper()', False),
        ('    through()', False),
    ],
)
def test_it_is_found(body: str, found: bool) -> None:
    helpers = 'def helper():\n    assert True\n\ndef through():\n    helper()\n\ndef run():\n    pass\n\n'
    sources = {'helpers.py': helpers, 'test_a.py': f'def test_a():\n{body}\n'}
    assert without_assertion(sources) == (['test_a.py::test_a'] if found else [])


@pytest.mark.parametrize('turn', ['first', 'second'])
def test_what_one_leaves_in_the_environment_the_next_does_not_find(turn: str) -> None:
    assert os.environ.setdefault('LEFT_BY_A_TEST', turn) == turn
