"""Sizes for a dataset are those of the preset for such data, and always fit together."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from tests.conftest import tiny_spec
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.sizes import choose_patch_size, choose_sizes
from torchgeo_specdm.spec import DatasetSpec

CONF = Path(__file__).parents[1] / 'examples' / 'conf'


def spec(patch_size: int, bands: int) -> DatasetSpec:
    names = tuple(f'b{number}' for number in range(bands))
    return dataclasses.replace(tiny_spec('segmentation'), patch_size=patch_size, bands=names, wavelengths=None)


@pytest.mark.parametrize(
    ('preset', 'patch_size', 'bands', 'pairs'),
    [('indian-pines', 32, 200, 213), ('oscd-landcover-cpu', 64, 10, 3000)],
)
def test_a_preset_is_what_its_data_asks_for(preset: str, patch_size: int, bands: int, pairs: int) -> None:
    first, second, _ = yaml.safe_load((CONF / f'{preset}.yaml').read_text())['stages']
    sizes = choose_sizes(spec(patch_size, bands), pairs)
    assert list(sizes.latent_channels) == first['model']['init_args']['latent_channels']
    assert list(sizes.width) == first['model']['init_args']['width']
    assert list(sizes.widths) == second['model']['init_args']['widths']


@pytest.mark.parametrize('bands', [1, 3, 10, 400])
@pytest.mark.parametrize('pairs', [1, 999, 100_000])
def test_latents_can_be_halved_once_a_level(bands: int, pairs: int) -> None:
    for patch_size in range(4, 260, 4):
        sizes = choose_sizes(spec(patch_size, bands), pairs)
        assert (patch_size // 4) % 2 ** (len(sizes.widths) - 1) == 0
        assert all(width % 32 == 0 for width in sizes.widths)
        assert sizes.latent_channels[0] <= 16 * bands


@pytest.mark.parametrize(
    ('shapes', 'expected'),
    [
        ([(1024, 1024)] * 4, 128),
        ([(1024, 1024)], 64),
        ([(145, 145)], 32),
        ([(64, 64)] * 300, 64),
        ([(64, 64)] * 30, 32),
        ([(500, 500)] * 30 + [(20, 400)], 16),
        ([(7, 7)], 4),
    ],
)
def test_a_patch_fits_every_raster(shapes: list[tuple[int, int]], expected: int) -> None:
    assert choose_patch_size('auto', shapes) == expected
    assert choose_patch_size(48, shapes) == 48


def test_rasters_smaller_than_any_patch_are_refused() -> None:
    with pytest.raises(SpecDMError, match='the smallest raster is 3 px'):
        choose_patch_size('auto', [(64, 3)])
    with pytest.raises(SpecDMError, match='number of pixels or auto'):
        choose_patch_size('large', [(64, 64)])
