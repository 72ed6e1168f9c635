"""A module imports from its own layer and the layers above it in docs/architecture.md, never from below."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'torchgeo_specdm'
LAYERS = {
    **dict.fromkeys(['errors', 'sensors', 'spec', 'compat', 'lazy', 'hub', 'catalogue'], 0),
    **dict.fromkeys(['sizes', 'typed', 'disk', 'draws', 'losses'], 0),
    **dict.fromkeys(['functional', 'models', 'diffusion'], 1),
    **dict.fromkeys(['strangers', 'checkpoint', 'description', 'parts', 'pipeline'], 2),
    **dict.fromkeys(['plotting', 'class_statistics', 'ranks'], 2),
    **dict.fromkeys(['metrics', 'extractors', 'alignment', 'datasets'], 2),
    **dict.fromkeys(['datamodules', 'tasks', 'export', 'exporting', 'producer'], 3),
    **dict.fromkeys(['report', 'comparison', 'resume', 'stages', 'evaluation', 'card', 'downstream', 'starting'], 4),
    **dict.fromkeys(['finished', 'diverging'], 4),
    **dict.fromkeys(['demo', 'demo_cases', 'demo_page', 'experiments', 'fit'], 5),
    **dict.fromkeys(['commands', 'cli', '__main__'], 5),
}
# These run where neither TorchGeo nor GDAL is installed
LIGHT = (
    *('errors', 'sensors', 'spec', 'compat', 'lazy', 'hub', 'catalogue', 'sizes', 'typed', 'draws', 'losses'),
    *('functional', 'models', 'diffusion', 'strangers', 'checkpoint', 'description', 'parts', 'pipeline'),
)
HEAVY = {'torchgeo', 'rasterio', 'kornia', 'lightning', 'pytorch_lightning'}
# What trains and measures a generator, and its experiments, run where these are not installed; tests/test_gpu.py and
# tests/experiments/test_packs.py try it
ABSENT = ('torchgeo', 'rasterio', 'kornia', 'segmentation_models_pytorch', 'jsonargparse', 'platformdirs')
TRAINING = (
    'tasks.autoencoder',
    'tasks.latent_diffusion',
    'tasks.pixels',
    'datamodules.packed',
    'resume',
    'alignment.copies',
    'datasets.synthetic',
    'datasets.mixed',
    'commands.experiment',
    *(f'experiments.{name}' for name in ('packs', 'grid', 'samples', 'training')),
    *(f'downstream.{name}' for name in ('registry', 'pfsegnet', 'siamcrnn', 'changeformer', 'scenes', 'scores')),
    *(
        f'evaluation.{name}'
        for name in ('copying', 'fidelity', 'quality', 'real_data', 'reconstruction', 'rule', 'semantics', 'spectra')
    ),
)
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


def on_import(path: Path) -> Iterator[str]:
    """Dotted names of the modules that importing a file imports."""
    for node in ast.parse(path.read_text(encoding='utf-8')).body:
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from {str(node.module), *(f'{node.module}.{name.name}' for name in node.names)}


def file_of(module: str) -> Path | None:
    """The file of a module of this package."""
    path = PACKAGE.parent / module.replace('.', '/')
    return next((p for p in (path.with_suffix('.py'), path / '__init__.py') if p.is_file()), None)


@pytest.mark.parametrize('module', TRAINING)
def test_training_a_generator_imports_no_torchgeo(module: str) -> None:
    waiting, seen = [f'torchgeo_specdm.{module}'], set()
    while waiting:
        name = waiting.pop()
        assert name.partition('.')[0] not in ABSENT, f'{module} imports {name}'
        path = file_of(name)
        if path is not None and name not in seen:
            seen.add(name)
            parents = ['.'.join(name.split('.')[:end]) for end in range(1, name.count('.') + 1)]
            waiting += [*on_import(path), *parents]
    assert len(seen) > 1


def test_the_documentation_draws_the_same_layers() -> None:
    text = (PACKAGE.parent / 'docs' / 'architecture.md').read_text(encoding='utf-8')
    rows = re.findall(r'^\| (\d) \| (.*) \|$', text, re.MULTILINE)
    drawn = {name: int(layer) for layer, cells in rows for name in re.findall(r'`(\w+)(?:\.py|/)`', cells)}
    assert drawn
    assert drawn.items() <= LAYERS.items()
