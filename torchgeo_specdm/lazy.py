"""Public names that load on first use, so that importing a package costs nothing and needs nothing."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def loader(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package.

    Args:
        package: Its ``__name__``.
        homes: The module that defines each public name, below ``package``.
    """

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f'module {package!r} has no attribute {name!r}')
        return getattr(importlib.import_module(f'{package}.{homes[name]}'), name)

    return load


def load_all(package: Any) -> None:
    """Import every public name of a package: Lightning's command line finds a class once it is imported."""
    for name in package.__all__:
        getattr(package, name)
