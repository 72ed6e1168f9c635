from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from torchgeo_specdm.compat import segmentation_task
from torchgeo_specdm.datamodules.indian_pines import IndianPinesDataModule

pytest.importorskip('tensorly', reason="the scene needs the extra 'demo'")


def test_train_pixels_are_standardised() -> None:
    datamodule = IndianPinesDataModule(batch_size=256)
    datamodule.setup('fit')
    dataset = datamodule.train_dataset
    batch = datamodule.aug({'image': torch.stack([dataset[i]['image'] for i in range(len(dataset))])})
    # Overlapping windows weigh the pixels unevenly, so only about 0 and 1
    assert batch['image'].mean((0, 2, 3)).abs().max() < 0.5
    assert (batch['image'].std((0, 2, 3)) - 1).abs().max() < 0.5


def test_torchgeo_task_learns(tmp_path: Path) -> None:
    """TensorBoard's logger makes TorchGeo draw validation samples."""
    datamodule = IndianPinesDataModule(batch_size=4, overlap=0.5)
    task = segmentation_task()(
        model='unet', backbone='resnet18', in_channels=200, task='multiclass', num_classes=16, ignore_index=255
    )
    trainer = Trainer(
        accelerator='cpu',
        max_epochs=1,
        limit_train_batches=1,
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
