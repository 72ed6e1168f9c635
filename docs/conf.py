"""Sphinx: ``pip install '.[docs]' && sphinx-build -W docs site``. The tutorial is executed, the API read by autodoc."""

from torchgeo_specdm import __version__

project = 'torchgeo_specdm'
author = 'The torchgeo_specdm authors'
copyright = f'2026, {author}'
version = release = __version__

# myst_nb reads Markdown as myst_parser does, and executes the pages that name a kernel
extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
exclude_patterns = ['site', '_build', '**.ipynb_checkpoints']

myst_enable_extensions = ['dollarmath']
myst_heading_anchors = 3
nb_execution_mode = 'force'
nb_execution_raise_on_error = True
nb_execution_timeout = 300
# Progress bars and notes of libraries
nb_output_stderr = 'remove'

autodoc_member_order = 'bysource'
autodoc_typehints = 'description'
autodoc_typehints_description_target = 'documented'
napoleon_use_rtype = False

html_theme = 'furo'
html_title = f'{project} {version}'
