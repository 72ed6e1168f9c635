"""The whole evaluation: a good generator passes, and each kind of bad one is flagged by the score meant for it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from torch import Tensor
from torch.nn.functional import avg_pool2d
from torchgeo.datamodules import NonGeoDataModule
from torchgeo.datasets import NonGeoDataset

from tests.conftest import slow_but
from torchgeo_specdm.cli import main
from torchgeo_specdm.disk import LOCK
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.evaluation import faults
from torchgeo_specdm.evaluation.evaluate import Settings, evaluate
from torchgeo_specdm.evaluation.real_data import RealData, open_real
from torchgeo_specdm.evaluation.result import Evaluation, Generator
from torchgeo_specdm.evaluation.usefulness import Budget
from torchgeo_specdm.spec import DatasetSpec

SIZE, SAMPLES = 32, 64
# Class spectra [DN]: water, forest, field
SPECTRA = torch.tensor([[900.0, 700.0, 400.0, 200.0], [400.0, 600.0, 400.0, 3000.0], [900.0, 1200.0, 1500.0, 2200.0]])


class Scenes(NonGeoDataset):
    """Smooth regions of three classes, with a spectrum, a texture and noise each."""

    def __init__(self, split: str = 'train', length: int = SAMPLES) -> None:
        self.split, self.length = split, length
        self.spec = DatasetSpec(
            name='scenes',
            task='segmentation',
            bands=('B02', 'B03', 'B04', 'B08'),
            classes=('water', 'forest', 'field'),
            patch_size=SIZE,
            unit='Sentinel-2 DN (reflectance x 10000)',
            scale=10_000.0,
            value_range=(0.0, 4000.0),
            dtype='uint16',
            wavelengths=(492.4, 559.8, 664.6, 832.8),
        )

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not 0 <= index < self.length:
            raise IndexError(index)
        generator = torch.Generator().manual_seed(1000 * ['train', 'val', 'test', 'made'].index(self.split) + index)
        field = torch.randn(1, 1, SIZE + 8, SIZE + 8, generator=generator)
        mask = torch.bucketize(avg_pool2d(field, 9, 1)[0, 0], torch.tensor([-0.07, 0.07]))
        texture = avg_pool2d(torch.randn(1, 4, SIZE + 2, SIZE + 2, generator=generator), 3, 1)[0]
        image = SPECTRA[mask].movedim(-1, 0) * (1 + 0.15 * texture) + 40 * torch.randn(
            4, SIZE, SIZE, generator=generator
        )
        return {'image': image.clamp_min(0).round(), 'mask': mask}


class ScenesDataModule(NonGeoDataModule):
    def __init__(self) -> None:
        super().__init__(Scenes, 8, 0)

    def setup(self, stage: str) -> None:
        if stage == 'fit':
            self.train_dataset, self.val_dataset = Scenes('train'), Scenes('val')
        else:
            self.test_dataset = Scenes('test')


@pytest.fixture(scope='module')
def real() -> RealData:
    return open_real(ScenesDataModule(), Scenes().spec)


@pytest.fixture(scope='module')
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    budget = Budget(steps=20, batch_size=4, runs=1, real=16, test=8)
    return Settings(extractors=('spectral',), judge_steps=60, usefulness=budget, cache=tmp_path_factory.mktemp('cache'))


def sections_with_flags(generator: Generator) -> dict[str, list[str]]:
    return {section.title: section.flags for section in generator.sections if section.flags}


@pytest.fixture(scope='module')
def good(real: RealData, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> tuple[Evaluation, Path]:
    out = tmp_path_factory.mktemp('good')
    return evaluate({'good': Scenes('made')}, real, out, settings), out


def test_a_generator_that_draws_from_the_same_distribution_passes(good: tuple[Evaluation, Path]) -> None:
    flags = sections_with_flags(good[0].generators[0])
    # A training of twenty steps says nothing
    flags.pop('Usefulness', None)
    assert flags == {}


FAULTS: dict[str, tuple[Callable[[], Any], str]] = {
    'stored training patches': (lambda: faults.replayed(Scenes('train'), SAMPLES), 'Copying'),
    'shuffled masks': (lambda: faults.shuffled(Scenes('val')), 'Alignment'),
    'swapped bands': (lambda: faults.band_swapped(Scenes('made')), 'Spectra'),
    'blurred images': (lambda: faults.blurred(Scenes('made')), 'Spectra'),
    'one repeated sample': (lambda: faults.repeated(Scenes('made'), SAMPLES), 'Fidelity and diversity'),
}


@pytest.mark.parametrize('fault', slow_but(['shuffled masks', 'one repeated sample'], FAULTS))
def test_a_planted_fault_is_found(fault: str, real: RealData, settings: Settings, tmp_path: Path) -> None:
    make, section = FAULTS[fault]
    quick = Settings(**vars(settings) | {'usefulness': None})
    (generator,) = evaluate({fault: make()}, real, tmp_path, quick).generators
    assert section in sections_with_flags(generator), sections_with_flags(generator)


def test_what_is_written(good: tuple[Evaluation, Path]) -> None:
    evaluation, out = good
    values = json.loads((out / 'metrics.json').read_text())
    page = (out / 'report.html').read_text()
    for section in evaluation.generators[0].sections:
        assert section.title in page
        for measure in section.measures:
            assert measure.name in json.dumps(values, ensure_ascii=False)
    assert 'extractor' in json.dumps(values)
    assert len(evaluation.generators[0].closest) == 10
    assert evaluation.generators[0].worst


def test_the_real_side_is_computed_once(
    real: RealData, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good: object
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError('trained again')

    monkeypatch.setattr('torchgeo_specdm.evaluation.real_side.train_judge', refuse)
    quick = Settings(**vars(settings) | {'usefulness': None})
    evaluate({'again': Scenes('made', 8)}, real, tmp_path, quick)


def test_a_second_evaluation_in_one_folder_is_refused(real: RealData, settings: Settings, tmp_path: Path) -> None:
    out = tmp_path / 'report'
    out.mkdir()
    with FileLock(out / LOCK), pytest.raises(SpecDMError, match=r'another evaluation is at work in .*--out'):
        evaluate({'again': Scenes('made', 8)}, real, out, settings)
    assert [path.name for path in out.iterdir()] == [LOCK]


@pytest.mark.slow
def test_the_command_evaluates_a_checkpoint_and_an_export(
    tiny_segmentation_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / 'data.yaml'
    config.write_text('data: {class_path: tests.fake.FakeDataModule, init_args: {length: 50}}\n')
    folder = tmp_path / 'made'
    assert main(['sample', str(tiny_segmentation_checkpoint), '--n', '6', '--out', str(folder), '--steps', '2']) == 0
    command = ['evaluate', str(folder), '--compare', str(tiny_segmentation_checkpoint), '--data', str(config)]
    command += ['--out', str(tmp_path / 'report'), '--n', '6', '--no-usefulness', '--extractors', 'spectral']
    command += ['--cache', str(tmp_path / 'cache'), '--judge-steps', '3']
    assert main(command) == 0
    values = json.loads((tmp_path / 'report' / 'metrics.json').read_text())
    assert 'made' in json.dumps(values)
    # An untrained generator is no good, and the command says so
    assert 'Spectra' in capsys.readouterr().out


def test_another_datamodule_is_refused_in_one_line(
    tiny_change_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / 'data.yaml'
    config.write_text('data: {class_path: tests.fake.FakeDataModule}\n')
    command = ['evaluate', str(tiny_change_checkpoint), '--data', str(config), '--out', str(tmp_path / 'report')]
    assert main(command) == 2
    assert 'task' in capsys.readouterr().err
    assert not (tmp_path / 'report').exists()
