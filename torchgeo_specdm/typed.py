"""Values from JSON as arguments of a class: each is compared with its annotation, none is converted by guessing.

A file may come from anybody, so a number too many, a word for a number or a name that no argument has is refused
before anything is built from it.
"""

import dataclasses
import inspect
import math
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from torchgeo_specdm.errors import SpecDMError

T = TypeVar('T')
# Integers of JSON are endless, those of tensors are not
_LARGEST = 2**63 - 1


def construct(make: Callable[..., T], values: Any, what: str) -> T:
    """Call a class with the arguments in a JSON object.

    Args:
        make: A class whose arguments are annotated with plain types, tuples, sequences, mappings and dataclasses.
        values: The arguments by name.
        what: How an error calls the object.

    Returns:
        ``make(**values)``; lists are tuples where the annotation says so.

    Raises:
        SpecDMError: Names the argument that is unknown, missing or of another type.
    """
    if not isinstance(values, Mapping):
        raise SpecDMError(f'{what} must be a JSON object, not {_short(values)}')
    # What an instance is made of: __init__ of a dataclass has the same annotations as its fields
    hints = get_type_hints(make.__init__)  # type: ignore[misc]
    parameters = {n: p for n, p in inspect.signature(make).parameters.items() if p.kind is not p.VAR_KEYWORD}
    if unknown := [name for name in values if name not in parameters]:
        raise SpecDMError(f'{what} has the unknown field {_short(unknown[0])}')
    needed = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    if missing := [name for name in needed if name not in values]:
        raise SpecDMError(f'{what} lacks the field {missing[0]}')
    return make(**{name: checked(hints[name], value, f'{name} of {what}') for name, value in values.items()})


def checked(kind: Any, value: Any, what: str) -> Any:
    """A value of JSON as an annotation wants it.

    Raises:
        SpecDMError: It has another type.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _first(inner, value, what)
    if dataclasses.is_dataclass(kind):
        return construct(kind, value, what)  # type: ignore[arg-type]
    if origin in (tuple, Sequence) and isinstance(value, list | tuple):
        endless = origin is Sequence or inner[-1] is Ellipsis
        kinds = inner[:1] * len(value) if endless else inner
        if len(kinds) == len(value):
            items = [
                checked(k, item, f'{what}, entry {i}') for i, (k, item) in enumerate(zip(kinds, value, strict=True))
            ]
            return tuple(items) if origin is tuple else items
    elif kind is Any or (origin is Literal and value in inner and isinstance(value, str)):
        return value
    elif origin is Mapping and isinstance(value, Mapping):
        return {name: checked(inner[1], item, f'{what}, entry {_short(name)}') for name, item in value.items()}
    elif _is_plain(kind, value):
        return value
    raise SpecDMError(f'{what} is {_short(value)}, which is no {_name(kind)}')


def _is_plain(kind: Any, value: Any) -> bool:
    if kind in (bool, str, types.NoneType):
        return isinstance(value, kind)
    if isinstance(value, int) and not isinstance(value, bool):
        return kind in (int, float) and abs(value) <= _LARGEST
    # 1e999 is valid JSON
    return kind is float and isinstance(value, float) and math.isfinite(value)


def _first(kinds: Sequence[Any], value: Any, what: str) -> Any:
    if value is None and types.NoneType in kinds:
        return None
    kinds = [kind for kind in kinds if kind is not types.NoneType]
    for kind in kinds[:-1]:
        try:
            return checked(kind, value, what)
        except SpecDMError:
            continue
    return checked(kinds[-1], value, what)


def _name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind).replace('typing.', '')


def _short(value: Any) -> str:
    """What an error shows of a value: a line at most."""
    if isinstance(value, list | tuple | Mapping):
        return f'a {type(value).__name__} of {len(value)}'
    # An integer of thousands of digits is itself an error to print
    text = repr(value) if not isinstance(value, int) or abs(value) <= _LARGEST else 'an integer of more than 64 bits'
    return text if len(text) <= 60 else f'{text[:57]}...'
