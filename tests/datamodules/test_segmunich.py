from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from tests.data.segmunich.data import write_segmunich
from torchgeo_specdm.compat import segmentation_task
from torchgeo_specdm.datamodules.segmunich import SegMunichDataModule
from torchgeo_specdm.functional.near_duplicates import block_means, near_duplicate_groups


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('segmunich')
    write_segmunich(folder, places=5)
    return folder


@pytest.mark.parametrize('group_split', [True, False])
def test_no_copy_of_a_val_patch_in_train(root: Path, group_split: bool) -> None:
    datamodule = SegMunichDataModule(root, drop_blank=None, group_split=group_split)
    datamodule.setup('fit')
    train, val = datamodule.train_dataset, datamodule.val_dataset
    images = torch.stack([split[i]['image'] for split in (train, val) for i in range(len(split))])
    groups = near_duplicate_groups(block_means(images)).tolist()
    assert len(groups) == 20
    # The published split leaks, which the fake data imitates
    assert set(groups[: len(train)]).isdisjoint(groups[len(train) :]) == group_split


def test_train_pixels_are_standardised(root: Path) -> None:
    datamodule = SegMunichDataModule(root, drop_blank=0.9)
    for stage in ('fit', 'test'):
        datamodule.setup(stage)
    train = datamodule.train_dataset
    assert len(train) + len(datamodule.val_dataset) == 16
    image = datamodule.aug({'image': torch.stack([train[i]['image'] for i in range(len(train))])})['image']
    torch.testing.assert_close(image.mean((0, 2, 3)), torch.zeros(10), atol=1e-3, rtol=0)
    torch.testing.assert_close(image.std((0, 2, 3)), torch.ones(10), atol=1e-3, rtol=0)


@pytest.mark.parametrize('bands', [('B02', 'B03', 'B04', 'B08'), ('B08', 'B11')])
def test_torchgeo_task_learns(root: Path, tmp_path: Path, bands: tuple[str, ...]) -> None:
    """TensorBoard's logger makes TorchGeo draw validation samples, where the bands allow it."""
    datamodule = SegMunichDataModule(root, bands, batch_size=2)
    task = segmentation_task()(
        model='unet', backbone='resnet18', in_channels=len(bands), task='multiclass', num_classes=13
    )
    trainer = Trainer(
        accelerator='cpu',
        max_epochs=1,
        limit_train_batches=1,
        limit_val_batches=1,
        limit_test_batches=1,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        enable_progress_bar=False,
        default_root_dir=tmp_path,
        logger=TensorBoardLogger(tmp_path),
    )
    trainer.fit(task, datamodule=datamodule)
    assert torch.isfinite(trainer.callback_metrics['val_loss'])
    trainer.test(task, datamodule=datamodule, verbose=False)
    assert torch.isfinite(trainer.callback_metrics['test_loss'])
