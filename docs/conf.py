"""Sphinx: ``pip install '.[docs]' && sphinx-build -W docs site``. The package itself is not imported."""

from pathlib import Path

project = 'torchgeo_specdm'
author = 'The torchgeo_specdm authors'
copyright = f'2026, {author}'
_init = (Path(__file__).parents[1] / 'torchgeo_specdm' / '__init__.py').read_text()
version = release = _init.partition("__version__ = '")[2].partition("'")[0]

extensions = ['myst_parser']
myst_heading_anchors = 3
exclude_patterns = ['site', '_build']
html_theme = 'furo'
html_title = f'{project} {version}'
