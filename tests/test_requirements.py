"""What the package imports is what it requires: a clean environment lacks nothing, and installs nothing for nothing."""

import ast
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))['project']
# Required for what others import: see their comments in pyproject.toml
FOR_OTHERS = {'requests'}


def normal(name: str) -> str:
    return name.lower().replace('_', '-')


def required(*extras: str) -> set[str]:
    texts = [*PROJECT['dependencies'], *(text for extra in extras for text in PROJECT['optional-dependencies'][extra])]
    return {normal(Requirement(text).name) for text in texts}


def imported() -> dict[str, str]:
    """Modules of others that the package imports, wherever in a file, and a file that does."""
    found = {}
    for path in sorted((ROOT / 'torchgeo_specdm').rglob('*.py')):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names.append(str(node.module))
            found |= {name.partition('.')[0]: path.name for name in names}
    return {name: file for name, file in found.items() if name not in sys.stdlib_module_names | {'torchgeo_specdm'}}


def test_what_is_imported_is_required() -> None:
    homes = packages_distributions()
    told = required(*(extra for extra in PROJECT['optional-dependencies'] if extra not in ('tests', 'docs', 'all')))
    missing = {name: file for name, file in imported().items() if not told & set(map(normal, homes.get(name, [name])))}
    assert not missing


def test_what_is_required_is_imported() -> None:
    homes = packages_distributions()
    used = {normal(home) for name in imported() for home in homes.get(name, [name])}
    assert required() - used == FOR_OTHERS
