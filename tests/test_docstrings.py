"""Docstrings of public names say the shape of every tensor, and what every argument is."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

from tests.test_public_api import methods, ours
from tests.test_site import load, on_the_pages

_TENSOR = re.compile(r"(<class 'torch\.Tensor'>|dict\[str, torch\.Tensor\]|torch\.Tensor)")
# A tuple of sizes, no dimension, or the shapes of samples, which are those of spec.py
_SHAPE = re.compile(r'``\([^`]+\)``|0-d|[Ss]haped as|spec\.py|torchgeo_specdm\.spec')


def described() -> Iterator[tuple[str, Any, str]]:
    """Public functions and classes, and methods of these, with their docstrings; a class has those of its bases too."""
    for name in on_the_pages():
        value = load(name)
        if inspect.isfunction(value):
            yield name, value, inspect.getdoc(value) or ''
        elif isinstance(value, type) and not issubclass(value, Exception):
            bases = [base for base in value.__mro__ if ours(base)]
            yield name, value, '\n'.join(f'{base.__doc__}\n{base.__init__.__doc__}' for base in bases)
            for method, function in methods(value):
                if inspect.isfunction(function):
                    yield f'{name}.{method}', function, inspect.getdoc(getattr(value, method)) or ''


def tensors_without_shape(function: Any, text: str) -> bool:
    signature = inspect.signature(function)
    seen = [each.annotation for each in signature.parameters.values()] + [signature.return_annotation]
    return any(_TENSOR.match(str(each)) for each in seen) and not _SHAPE.search(text)


def arguments_unsaid(function: Any, text: str) -> list[str]:
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    found = inspect.signature(function).parameters.values()
    return [each.name for each in found if each.kind not in variable and not re.search(rf'\b{each.name}\b', text)]


def test_tensors_have_shapes() -> None:
    assert [name for name, value, text in described() if tensors_without_shape(value, text)] == []


def test_arguments_are_described() -> None:
    """Of classes and functions; a method may say in other words what its one argument is."""
    top = [(name, value, text) for name, value, text in described() if name in on_the_pages()]
    assert len(top) > 100
    assert {name: unsaid for name, value, text in top if (unsaid := arguments_unsaid(value, text))} == {}


def test_a_gap_is_seen() -> None:
    namespace: dict[str, Any] = {}
    exec('from torch import Tensor\ndef f(image: Tensor, scale: float) -> Tensor: ...', namespace)
    assert tensors_without_shape(namespace['f'], 'Scales an image.')
    assert not tensors_without_shape(namespace['f'], 'Scales an image ``(B, C, H, W)``.')
    assert arguments_unsaid(namespace['f'], 'Multiplies image.') == ['scale']
