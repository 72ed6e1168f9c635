"""OSCDLandCoverDataModule: splits, normalisation, and TorchGeo's segmentation task trained through it."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import default_collate

from tests.data.oscd.data import write_oscd
from torchgeo_specdm.compat import segmentation_task
from torchgeo_specdm.datamodules import OSCDLandCoverDataModule
from torchgeo_specdm.datamodules.oscd import MEAN, STD
from torchgeo_specdm.errors import SpecDMError


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('oscd')
    write_oscd(folder)
    return folder


def test_train_and_val_share_no_city_and_only_train_overlaps(root: Path) -> None:
    data = OSCDLandCoverDataModule(root, patch_size=32)
    data.setup('fit')
    data.setup('test')
    assert [scene.region for scene in data.train_dataset.scenes.files] == ['abudhabi', 'beirut']
    assert [scene.region for scene in data.val_dataset.scenes.files] == ['paris', 'pisa', 'rennes']
    assert len(data.train_dataset) == 2 * 2 * 5 * 6
    assert len(data.val_dataset) == 2 * 3 * 3 * 4
    assert len(data.test_dataset) == 2 * 2 * 3 * 4
    assert data.train_dataset.spec == data.val_dataset.spec == data.test_dataset.spec


def test_normalisation_keeps_shapes_and_masks(root: Path) -> None:
    bands = ('B12', 'B01')
    data = OSCDLandCoverDataModule(root, bands=bands, patch_size=32)
    data.setup('fit')
    raw = default_collate([data.train_dataset[index] for index in range(3)])
    mask = raw['mask'].clone()
    mean, std = (torch.tensor([table[band] for band in bands]).view(1, 2, 1, 1) for table in (MEAN, STD))
    expected = (raw['image'] - mean) / std
    batch = data.aug(raw)
    torch.testing.assert_close(batch['image'], expected)
    assert torch.equal(batch['mask'], mask)


def test_torchgeo_segmentation_task_trains(root: Path, tmp_path: Path) -> None:
    data = OSCDLandCoverDataModule(root, patch_size=32, overlap=0.0, batch_size=4)
    task = segmentation_task()(model='unet', backbone='resnet18', in_channels=10, num_classes=6, task='multiclass')
    trainer = Trainer(
        default_root_dir=tmp_path,
        logger=False,
        accelerator='cpu',
        max_steps=1,
        limit_val_batches=1,
        limit_test_batches=1,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(task, datamodule=data)
    assert trainer.global_step == 1
    trainer.test(task, datamodule=data, verbose=False)
    assert torch.isfinite(trainer.callback_metrics['test_loss'])


def test_a_band_that_does_not_exist_is_refused(root: Path) -> None:
    with pytest.raises(SpecDMError, match="no band 'B2'"):
        OSCDLandCoverDataModule(root, bands=('B2',))
