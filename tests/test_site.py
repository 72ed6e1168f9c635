"""The documentation names every public name once, and builds without a warning."""

import importlib
import importlib.util
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest

import torchgeo_specdm
from torchgeo_specdm.errors import SpecDMError

ROOT = Path(__file__).parents[1]
DOCS = ROOT / 'docs'
EXTRA = ('sphinx', 'furo', 'myst_nb')


def in_the_table() -> list[str]:
    """Dotted names in the table of docs/api.md."""
    rows = re.findall(r'^\| (`.*?) \| `([\w.]+)`.*? \|', (DOCS / 'api.md').read_text(encoding='utf-8'), re.MULTILINE)
    return [f'{module}.{name}' for names, module in rows for name in re.findall(r'`(\w+)`', names)]


def on_the_pages() -> list[str]:
    """Dotted names that the pages below docs/api describe, without that of the module of the tensors."""
    text = ''.join(page.read_text(encoding='utf-8') for page in (DOCS / 'api').glob('*.md'))
    return re.findall(r'^\.\. (?:auto(?!module)\w+|py:data):: ([\w.]+)$', text, re.MULTILINE)


def load(name: str) -> object:
    module, _, attribute = name.rpartition('.')
    return getattr(importlib.import_module(module), attribute)


def test_table_and_pages_name_the_same() -> None:
    assert len(on_the_pages()) > 100
    assert sorted(on_the_pages()) == sorted(in_the_table())
    assert len(set(on_the_pages())) == len(on_the_pages())


def test_packages_export_nothing_else() -> None:
    """What is described exists; what a package has in ``__all__`` is public, so it is described."""
    described = {id(load(name)) for name in on_the_pages()}
    packages = [module.name for module in pkgutil.iter_modules(torchgeo_specdm.__path__) if module.ispkg]
    exported = [f'{package}.{name}' for package in packages for name in public_names(f'torchgeo_specdm.{package}')]
    assert len(exported) > 50
    assert [name for name in exported if id(load(f'torchgeo_specdm.{name}')) not in described] == []


def public_names(package: str) -> list[str]:
    return list(getattr(importlib.import_module(package), '__all__', []))


@pytest.mark.parametrize('registry', ['diffusion.SOLVERS', 'extractors.EXTRACTORS', 'exporting.FORMATS'])
def test_all_names_of_a_registry_are_described(registry: str) -> None:
    text = ''.join(page.read_text(encoding='utf-8') for page in (DOCS / 'api').glob('*.md'))
    (about,) = re.findall(rf'py:data:: torchgeo_specdm\.{registry}\n\n((?:   .*\n)+)', text)
    assert re.findall(r'``([^`]+)``', about)
    assert set(re.findall(r'``([^`]+)``', about)) == set(cast(dict[str, object], load(f'torchgeo_specdm.{registry}')))


def test_errors_are_all_described() -> None:
    errors = importlib.import_module('torchgeo_specdm.errors')
    kinds = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, SpecDMError)}
    assert kinds <= {name.rpartition('.')[-1] for name in on_the_pages()}


@pytest.mark.parametrize('page', sorted(DOCS.glob('*.md')), ids=lambda page: page.stem)
def test_pages_link_to_pages_that_exist(page: Path) -> None:
    """Also where no Sphinx is installed; anchors are Sphinx's to check."""
    links = re.findall(r'\]\((?!https?:)([^)#\s]+)', page.read_text(encoding='utf-8'))
    assert [link for link in links if not (page.parent / link).is_file()] == []


@pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in EXTRA), reason="needs the extra 'docs'; it takes a minute"
)
def test_the_site_builds(tmp_path: Path) -> None:
    """Every warning is an error: links, docstrings, a cell of the tutorial that fails."""
    site = tmp_path / 'site'
    command = [sys.executable, '-m', 'sphinx', '-W', '--keep-going', '-q', '-b', 'html', str(DOCS), str(site)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert built.returncode == 0, built.stderr
    index = (site / 'index.html').read_text(encoding='utf-8')
    pages = {page.stem for page in DOCS.glob('*.md')} - {'index'}
    assert {page for page in pages if f'href="{page}.html"' not in index} == set()
    # What a cell printed
    assert '(200, 32, 32)' in (site / 'tutorial.html').read_text(encoding='utf-8').replace('[', '(').replace(']', ')')
