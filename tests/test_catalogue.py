"""A name, a folder or an address becomes one folder, and every entry point takes any of them."""

import dataclasses
import json
import os
from pathlib import Path

import pytest
import torch
import yaml

from tests.conftest import strict_filter, tiny_pipeline, tiny_spec
from tests.fake import FakeDataModule
from torchgeo_specdm import catalogue
from torchgeo_specdm.catalogue import CATALOGUE, listing, resolve
from torchgeo_specdm.cli import main
from torchgeo_specdm.datamodules import MixedDataModule
from torchgeo_specdm.datasets import SpecDMSynthetic
from torchgeo_specdm.errors import CheckpointError
from torchgeo_specdm.pipeline import SpecDMPipeline

NAMES = ('indian-pines', 'oscd-landcover', 'oscd-change')


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of ``indian-pines``, in which a tiny generator with a filter stands in; the work is done elsewhere."""
    folder = tmp_path / 'installed' / 'indian-pines'
    tiny_pipeline(tiny_spec('segmentation')).save_pretrained(folder)
    strict_filter(tiny_spec('segmentation'), folder / 'filter').save(folder / 'filter')
    monkeypatch.setitem(CATALOGUE, 'indian-pines', dataclasses.replace(CATALOGUE['indian-pines'], folder=folder))
    (tmp_path / 'work').mkdir()
    monkeypatch.chdir(tmp_path / 'work')
    return folder


def test_the_names() -> None:
    assert tuple(CATALOGUE) == NAMES
    assert all(entry.folder.name == name for name, entry in CATALOGUE.items())
    # What may be used commercially ships with the package, what may not lies beside it
    package = Path(catalogue.__file__).parent
    assert [name for name, entry in CATALOGUE.items() if package not in entry.folder.parents] == ['oscd-change']
    assert [name for name, entry in CATALOGUE.items() if entry.hub] == ['oscd-change']


def test_a_name_and_a_folder(named: Path) -> None:
    assert resolve('indian-pines') == resolve(Path('indian-pines')) == resolve(named) == resolve(str(named)) == named
    assert resolve(Path(os.path.relpath(named))) == Path(os.path.relpath(named))


def test_a_folder_wins_over_a_name(named: Path) -> None:
    tiny_pipeline(tiny_spec('change')).save_pretrained('indian-pines')
    assert resolve('indian-pines') == Path('indian-pines')
    assert SpecDMPipeline.read_spec('indian-pines').task == 'change'


def test_a_folder_of_another_kind_is_no_reason_for_another_checkpoint(named: Path) -> None:
    Path('indian-pines', 'image').mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r'hides the checkpoint of that name.*rename it'):
        resolve('indian-pines')
    # Samples, and the folder of a run, are sources of an evaluation
    Path('indian-pines', 'specdm.json').write_text('{}')
    assert resolve('indian-pines') == Path('indian-pines')


@pytest.mark.parametrize(
    'wrong',
    [
        'indian_pines',
        'Indian-Pines',
        'indian-pines/',
        '../indian-pines',
        'checkpoints/../indian-pines',
        '/indian-pines',
        '/no/such/folder',
        'indian-pines/denoiser/config.json',
    ],
)
def test_what_is_neither(wrong: str, named: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r'no checkpoint folder at .*"specdm fit".*a name: indian-pines, oscd-landcover'
    ) as error:
        resolve(wrong)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('name', ['indian-pines', 'oscd-landcover'])
def test_a_missing_one_says_where_it_can_be_had(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CATALOGUE, name, dataclasses.replace(CATALOGUE[name], folder=tmp_path / name))
    (tmp_path / name).mkdir()
    with pytest.raises(CheckpointError, match=rf'{name} is missing.*reinstall.*examples/conf/{name}\.yaml') as error:
        SpecDMSynthetic(name)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('name', NAMES)
def test_the_preset_that_trains_one_exists(name: str) -> None:
    assert (Path(__file__).parents[1] / 'examples' / 'conf' / f'{CATALOGUE[name].preset}.yaml').is_file()


def test_entry_points_take_names(named: Path) -> None:
    assert SpecDMPipeline.read_spec('indian-pines') == SpecDMPipeline.read_spec(named)
    assert SpecDMPipeline.read_conditions('indian-pines') == SpecDMPipeline.read_conditions(named)
    settings = {'steps': 1, 'batch_size': 2, 'device': 'cpu'}
    drawn = SpecDMPipeline.from_pretrained('indian-pines').sample([0, 1], steps=1)
    by_name, by_folder = (SpecDMSynthetic(source, 2, keep='aligned', **settings) for source in ('indian-pines', named))  # type: ignore[arg-type]
    assert torch.equal(SpecDMSynthetic('indian-pines', 2, **settings)[1]['image'], drawn['image'][1])  # type: ignore[arg-type]
    assert by_name.checkpoint == named
    assert by_name.filter == named / 'filter'
    assert torch.equal(by_name[1]['image'], by_folder[1]['image'])
    module = MixedDataModule(FakeDataModule(), 'indian-pines', 1, steps=1, keep='aligned')
    assert module.synthetic.checkpoint == named


def test_commands_take_names(named: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ['--n', '4', '--steps', '1', '--device', 'cpu']
    assert main(['sample', 'indian-pines', '--out', 'out', *options]) == 0
    assert json.loads(Path('out', 'specdm.json').read_text())['generator'] == 'indian-pines'
    # The same samples, whatever the checkpoint was called
    assert main(['sample', str(named), '--out', 'out', *options]) == 0
    Path('data.yaml').write_text(yaml.safe_dump({'data': {'class_path': 'tests.fake.FakeDataModule'}}))
    command = ['evaluate', 'indian-pines', '--keep', 'aligned', '--compare', 'indian-pines', '--data', 'data.yaml']
    command += ['--out', 'report', '--cache', 'cache', '--no-usefulness', '--extractors', 'spectral']
    assert main([*command, '--judge-steps', '1', *options]) == 0
    generators = json.loads(Path('report', 'metrics.json').read_text())['generators']
    assert set(generators) == {'indian-pines (filtered)', 'indian-pines'}
    capsys.readouterr()
    assert main(['evaluate', 'nowhere', '--data', 'data.yaml', '--out', 'none']) == 2
    assert capsys.readouterr().err.startswith('specdm: error: there is no checkpoint folder at nowhere')


def test_the_list_says_where_each_lies(named: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['checkpoints']) == 0
    printed = capsys.readouterr().out
    assert printed == listing() + '\n'
    assert [line for line in printed.splitlines() if line in NAMES] == list(NAMES)
    assert f'{named} (' in printed
    assert 'tiny segmentation: segmentation, 3 bands, 4 classes, 16 x 16 px' in printed
    if not CATALOGUE['oscd-change'].present:
        assert 'examples/checkpoints/oscd-change; elsewhere' in printed
        assert 'hf://torchgeo-specdm/oscd-change' in printed
    (named / 'specdm.json').write_text('{"spec": []}')
    assert main(['checkpoints']) == 2
    error = capsys.readouterr().err
    assert 'describes no checkpoint' in error
    assert error.count('\n') == 1
