"""docs/versions.md says what the code and pyproject.toml do."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from torchgeo_specdm import checkpoint
from torchgeo_specdm.alignment import copies
from torchgeo_specdm.alignment import filter as filters
from torchgeo_specdm.datasets import pack

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / 'docs' / 'versions.md').read_text(encoding='utf-8')
PROJECT: dict[str, Any] = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))['project']


@pytest.mark.parametrize('name', ['torchgeo', 'torch'])
def test_lowest_versions_are_those_required(name: str) -> None:
    (lowest,) = re.findall(rf'^\| {name} \| ≥ ([\d.]+)', PAGE, re.MULTILINE | re.IGNORECASE)
    assert f'{name}>={lowest}' in PROJECT['dependencies']


def test_pythons_are_those_that_the_lanes_run() -> None:
    assert f'| Python | {PROJECT["requires-python"].replace(">=", "≥ ")} |' in PAGE
    (tested,) = re.findall(r'^\| Python \| .* \| (.*) \|$', PAGE, re.MULTILINE)
    listed = {line.rpartition(' ')[2] for line in PROJECT['classifiers'] if ' :: Python :: ' in line}
    assert set(re.findall(r'3\.\d+', tested)) == listed


@pytest.mark.parametrize(
    ('row', 'version'),
    [
        ('checkpoint', checkpoint.FORMAT),
        ('filter of a checkpoint', filters.FORMAT),
        ('index of training patches', copies.FORMAT),
        ('pack of scenes', pack.FORMAT),
    ],
)
def test_formats_are_those_that_are_written(row: str, version: int) -> None:
    assert re.findall(rf'^\| {row} \| .*, now (\d+) \|', PAGE, re.MULTILINE) == [str(version)]
