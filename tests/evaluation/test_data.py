"""A user names data in one of three ways, and an error says which would work."""

import dataclasses
from pathlib import Path

import pytest
import torch

from tests.conftest import tiny_spec
from tests.fake import FakeDataModule
from torchgeo_specdm.datasets import IndianPines, SpecDMSynthetic
from torchgeo_specdm.datasets.exported import ExportedPairs
from torchgeo_specdm.errors import SpecDMError, SpecMismatchError
from torchgeo_specdm.evaluation.data import find_datamodule, open_synthetic, read_datamodule
from torchgeo_specdm.evaluation.observation import draw
from torchgeo_specdm.evaluation.real_data import open_real
from torchgeo_specdm.export import export

CONF = Path(__file__).parents[2] / 'examples' / 'conf'


def test_indian_pines_is_always_at_hand() -> None:
    spec = IndianPines().spec
    real = open_real(find_datamodule(spec), spec)
    # Two val patches are too few
    assert len(real.train) == len(IndianPines())
    assert len(real.held_out) == len(IndianPines('val')) + len(IndianPines('test'))
    assert real.test is not real.held_out
    assert real.mean.shape == (200,)


def test_unknown_data_asks_for_a_configuration() -> None:
    with pytest.raises(SpecDMError, match='--data'):
        find_datamodule(tiny_spec('change'))


def test_missing_data_asks_for_a_root(tmp_path: Path) -> None:
    spec = dataclasses.replace(tiny_spec('change'), name='OSCD')
    with pytest.raises(SpecDMError, match='--root'):
        find_datamodule(spec, tmp_path / 'nowhere')


@pytest.mark.parametrize('name', ['indian-pines', 'mixed-indian-pines'])
def test_a_configuration_names_the_real_data(name: str) -> None:
    datamodule = read_datamodule(CONF / f'{name}.yaml')
    assert type(datamodule).__name__ == 'IndianPinesDataModule'


def test_overrides_win() -> None:
    assert read_datamodule(CONF / 'indian-pines.yaml', ['--data.batch_size', '3']).batch_size == 3
    with pytest.raises(SpecDMError, match='nonsense'):
        read_datamodule(CONF / 'indian-pines.yaml', ['--data.nonsense', '3'])


def test_a_configuration_without_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / 'no.yaml').write_text('trainer: {}\n')
    with pytest.raises(SpecDMError, match='no "data:"'):
        read_datamodule(tmp_path / 'no.yaml')


def test_splits_are_raw_and_statistics_are_of_the_bands() -> None:
    module = FakeDataModule('change')
    real = open_real(module, tiny_spec('change'))
    assert (len(real.train), len(real.held_out), len(real.test)) == (8, 16, 8)
    assert len(open_real(FakeDataModule('change', length=50), tiny_spec('change')).held_out) == 50
    assert not torch.equal(real.train[0]['image'], real.held_out[0]['image'])
    assert real.mean.shape == (3,)
    assert 1000 < float(real.mean[0]) < 2500


def test_another_generator_is_refused() -> None:
    with pytest.raises(SpecMismatchError, match='patch_size'):
        open_real(FakeDataModule('change'), dataclasses.replace(tiny_spec('change'), patch_size=32))


def test_synthetic_samples_come_from_a_checkpoint_or_an_export(tiny_change_checkpoint: Path, tmp_path: Path) -> None:
    made = open_synthetic(tiny_change_checkpoint, 5, steps=2, solver=None)
    assert isinstance(made, SpecDMSynthetic)
    assert (len(made), made.steps) == (5, 2)
    export(tiny_change_checkpoint, tmp_path, 2, steps=2)
    assert isinstance(open_synthetic(tmp_path, 5), ExportedPairs)
    with pytest.raises(SpecDMError, match='steps cannot be chosen'):
        open_synthetic(tmp_path, 5, steps=2)


def test_a_draw_is_repeatable_and_ordered() -> None:
    assert draw(range(10), 20) == list(range(10))
    found = draw(range(1000), 10)
    assert found == sorted(found) == draw(range(1000), 10)
    assert found != draw(range(1000), 10, seed=1)
