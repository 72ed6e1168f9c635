import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import torchgeo_specdm

LAZY = ('datamodules', 'datasets', 'downstream', 'tasks')
HEAVY = "{'torch', 'torchgeo', 'lightning', 'numpy', 'rasterio', 'diffusers'} & set(sys.modules)"


@pytest.mark.parametrize(
    'action',
    [
        'import torchgeo_specdm; dir(torchgeo_specdm)',
        'from torchgeo_specdm.cli import main; main(["--help"])',
        'from torchgeo_specdm.cli import main; main(["sample", "--help"])',
        'from torchgeo_specdm.cli import main; main(["experiment", "--help"])',
        'from torchgeo_specdm.cli import main; main(["init", "--help"])',
        'from torchgeo_specdm.cli import main; main(["checkpoints"])',
        'from torchgeo_specdm.cli import main; main(["cache", "list"])',
    ],
)
def test_the_first_contact_is_fast(action: str) -> None:
    code = f"""
import sys, time
start = time.perf_counter()
try:
    {action}
except SystemExit as end:
    assert not end.code
assert not {HEAVY}, {HEAVY}
assert time.perf_counter() - start < 1
"""
    subprocess.run([sys.executable, '-c', code], check=True, stdout=subprocess.DEVNULL, timeout=60)


def test_who_reads_samples_does_without_networks() -> None:
    """A worker that is spawned imports this; diffusers and Lightning take seconds each."""
    code = """
import sys
from torchgeo_specdm.datasets import MixedDataset, SpecDMSynthetic
SpecDMSynthetic('indian-pines', length=1)
assert not {'diffusers', 'lightning', 'kornia', 'sklearn'} & set(sys.modules)
"""
    subprocess.run([sys.executable, '-c', code], check=True, timeout=120)


@pytest.mark.parametrize('name', torchgeo_specdm.__all__)
def test_public_names_load(name: str) -> None:
    assert getattr(torchgeo_specdm, name) is not None
    assert name in dir(torchgeo_specdm)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match='nothing'):
        _ = torchgeo_specdm.nothing


@pytest.mark.parametrize('package', ['torchgeo_specdm', *(f'torchgeo_specdm.{n}' for n in LAZY)])
def test_lazy_names_are_those_that_type_checkers_see(package: str) -> None:
    module = importlib.import_module(package)
    source = ast.parse(Path(str(module.__file__)).read_text(encoding='utf-8'))
    homes = {
        name.name: node.module
        for node in ast.walk(source)
        if isinstance(node, ast.ImportFrom) and node.module != 'torchgeo_specdm.lazy' and node.module != 'typing'
        for name in node.names
    }
    assert sorted(homes) == sorted(set(module.__all__) - {'__version__'})
    for name, home in homes.items():
        assert getattr(module, name) is getattr(importlib.import_module(str(home)), name)
