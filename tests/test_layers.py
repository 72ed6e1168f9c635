"""A module imports from its own layer and the layers above it in docs/architecture.md, never from below."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'torchgeo_specdm'
LAYERS = {
    **dict.fromkeys(['errors', 'sensors', 'spec', 'compat', 'hub', 'catalogue'], 0),
    **dict.fromkeys(['functional', 'models', 'diffusion'], 1),
    **dict.fromkeys(['checkpoint', 'pipeline', 'plotting', 'class_statistics'], 2),
    **dict.fromkeys(['metrics', 'extractors', 'alignment', 'datasets'], 2),
    **dict.fromkeys(['datamodules', 'tasks', 'export'], 3),
    **dict.fromkeys(['report', 'comparison', 'resume', 'stages', 'evaluation', 'card'], 4),
    **dict.fromkeys(['demo', 'demo_cases', 'demo_page', 'fit', 'cli', '__main__'], 5),
}
# These run where neither TorchGeo nor GDAL is installed
LIGHT = (
    *('errors', 'sensors', 'spec', 'compat', 'hub', 'catalogue'),
    *('functional', 'models', 'diffusion', 'checkpoint', 'pipeline'),
)
HEAVY = {'torchgeo', 'rasterio', 'kornia', 'lightning', 'pytorch_lightning'}
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob('*.py'))


def imported(path: Path) -> Iterator[str]:
    """Dotted names of all modules that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path} imports relatively'
            # from torchgeo_specdm import compat: the module is in the names
            yield from (f'{node.module}.{name.name}' for name in node.names)


def part(module: str) -> str:
    return Path(module).parts[0].removesuffix('.py')


@pytest.mark.parametrize('module', [module for module in MODULES if module != '__init__.py'])
def test_imports_point_upwards(module: str) -> None:
    assert part(module) in LAYERS, f'{module} has no layer: add it here and to docs/architecture.md'
    for name in imported(PACKAGE / module):
        top, _, rest = name.partition('.')
        if top == 'torchgeo_specdm' and (other := rest.split('.')[0]) in LAYERS:
            assert LAYERS[other] <= LAYERS[part(module)], f'{module} imports {name}, of a layer below'
        if part(module) in LIGHT:
            assert top not in HEAVY, f'{module} imports {name}'


def test_the_documentation_draws_the_same_layers() -> None:
    text = (PACKAGE.parent / 'docs' / 'architecture.md').read_text(encoding='utf-8')
    rows = re.findall(r'^\| (\d) \| (.*) \|$', text, re.MULTILINE)
    drawn = {name: int(layer) for layer, cells in rows for name in re.findall(r'`(\w+)(?:\.py|/)`', cells)}
    assert drawn
    assert drawn.items() <= LAYERS.items()
