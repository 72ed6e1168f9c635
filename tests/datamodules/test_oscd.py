"""OSCDPatchesDataModule: splits, normalisation, and TorchGeo's change-detection task trained through it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import default_collate
from torchgeo.datasets import DatasetNotFoundError

from tests.data.oscd.data import write_oscd
from torchgeo_specdm.compat import change_task
from torchgeo_specdm.datamodules.oscd import MEAN, STD, OSCDPatchesDataModule
from torchgeo_specdm.datasets.oscd import OSCD
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.spec import find_spec


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('oscd')
    write_oscd(folder)
    return folder


def test_train_and_val_share_no_city_and_only_train_overlaps(root: Path) -> None:
    data = OSCDPatchesDataModule(root, patch_size=32)
    data.setup('fit')
    data.setup('test')
    assert [scene.region for scene in data.train_dataset.files] == ['beirut', 'paris']
    assert [scene.region for scene in data.val_dataset.files] == ['abudhabi', 'pisa', 'rennes']
    assert len(data.train_dataset) == 2 * 5 * 6
    assert len(data.val_dataset) == 3 * 3 * 4
    assert len(data.test_dataset) == 2 * 3 * 4
    assert find_spec(data.train_dataset) == data.val_dataset.spec == data.test_dataset.spec


def test_normalisation_keeps_shapes_and_masks(root: Path) -> None:
    bands = ('B12', 'B01')
    data = OSCDPatchesDataModule(root, bands=bands, patch_size=32)
    data.setup('fit')
    for size in (1, 3):
        raw = default_collate([data.train_dataset[index] for index in range(size)])
        mask = raw['mask'].clone()
        mean, std = (torch.tensor([table[band] for band in bands]).view(1, 1, 2, 1, 1) for table in (MEAN, STD))
        expected = (raw['image'] - mean) / std
        batch = data.aug(raw)
        torch.testing.assert_close(batch['image'], expected)
        assert batch['mask'].shape == (size, 1, 32, 32)
        assert torch.equal(batch['mask'], mask)


def test_train_split_smaller_than_the_batch_still_has_one(root: Path) -> None:
    data = OSCDPatchesDataModule(root, patch_size=96, overlap=0.0, batch_size=64)
    data.setup('fit')
    assert [len(batch['mask']) for batch in data.train_dataloader()] == [4]


@pytest.mark.parametrize('model', ['fcsiamdiff', 'unet'])
def test_torchgeo_change_detection_task_trains(root: Path, tmp_path: Path, model: str) -> None:
    data = OSCDPatchesDataModule(root, patch_size=32, overlap=0.0, batch_size=4)
    task = change_task()(model=model, backbone='resnet18', in_channels=10, task='binary', loss='bce')
    trainer = Trainer(
        default_root_dir=tmp_path,
        logger=TensorBoardLogger(tmp_path),
        accelerator='cpu',
        max_steps=2,
        val_check_interval=2,
        limit_val_batches=1,
        limit_test_batches=1,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(task, datamodule=data)
    assert trainer.global_step == 2
    assert torch.isfinite(trainer.callback_metrics['val_loss'])
    trainer.test(task, datamodule=data, verbose=False)
    assert torch.isfinite(trainer.callback_metrics['test_loss'])


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ({'bands': ('B2',)}, "no band 'B2'"),
        ({'val_cities': ('Pisa',)}, "no train city 'Pisa'"),
        ({'patch_size': 128}, 'larger than the scene'),
    ],
)
def test_arguments_that_cannot_work_are_refused(root: Path, arguments: dict[str, object], words: str) -> None:
    with pytest.raises(SpecDMError, match=words):
        OSCDPatchesDataModule(root, **arguments).setup('fit')  # type: ignore[arg-type]


def test_missing_root_is_found_in_setup(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError):
        OSCDPatchesDataModule(tmp_path).setup('fit')


def test_mean_and_std_are_those_of_the_real_train_cities(shared_data: Path) -> None:
    bands = ('B02', 'B11')
    dataset = OSCD(shared_data / 'oscd', bands=bands, patch_size=None)
    images = [sample['image'].double().movedim(1, 0).flatten(1) for sample in dataset]
    values = torch.cat(images, 1)
    np.testing.assert_allclose(values.mean(1), [MEAN[band] for band in bands], atol=0.06)
    np.testing.assert_allclose(values.std(1, correction=0), [STD[band] for band in bands], atol=0.06)
