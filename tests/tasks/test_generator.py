from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import Subset

from tests.fake import FakeDataModule
from torchgeo_specdm.datamodules.generator import GeneratorDataModule, LatentDataModule
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.pipeline import SpecDMPipeline, load_autoencoder
from torchgeo_specdm.tasks import AutoencoderTask, LatentDiffusionTask
from torchgeo_specdm.tasks.generator import GeneratorTask

AUTOENCODER: dict[str, Any] = {'latent_channels': (2, 1), 'width': (32, 32), 'depth': 1}
DENOISER: dict[str, Any] = {'widths': (32, 32), 'depth': 1, 'warmup_steps': 2}


def fit(task: GeneratorTask, root: Path, data: str = 'segmentation', **settings: Any) -> Trainer:
    trainer = Trainer(
        accelerator='cpu',
        default_root_dir=root,
        logger=TensorBoardLogger(root),
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        **({'max_steps': 2} | settings),
    )
    trainer.fit(task, task.wrap_datamodule(FakeDataModule(data), root))
    return trainer


@pytest.mark.parametrize('data', ['segmentation', 'change'])
def test_both_stages_leave_a_checkpoint(data: str, tmp_path: Path) -> None:
    stages = (AutoencoderTask(**AUTOENCODER), LatentDiffusionTask(**DENOISER))
    for stage in stages:
        assert not stage.finished(tmp_path)
        metrics = fit(stage, tmp_path, data, max_steps=16).callback_metrics
        assert metrics['val_loss'].isfinite()
        assert stage.finished(tmp_path)
    pipeline = SpecDMPipeline.from_pretrained(tmp_path / 'checkpoint')
    assert pipeline.spec.task == data
    # The averaged weights are the ones that are saved
    saved = pipeline.denoiser.state_dict()
    average = stages[1].average.module.state_dict()
    assert all(torch.equal(saved[name], average[name]) for name in saved)
    assert not all(torch.equal(saved[name], value) for name, value in stages[1].model.state_dict().items())


def test_the_autoencoder_learns(tmp_path: Path) -> None:
    first = fit(AutoencoderTask(**AUTOENCODER), tmp_path / 'a', max_steps=2).callback_metrics
    later = fit(AutoencoderTask(**AUTOENCODER, warmup_steps=5), tmp_path / 'b', max_steps=60).callback_metrics
    for name in ('val_rmse', 'val_cross_entropy', 'val_loss'):
        assert later[name] < 0.8 * first[name]
    assert later['val_miou'] > first['val_miou']


def test_metrics_agree_with_a_loop(tmp_path: Path) -> None:
    task = AutoencoderTask(**AUTOENCODER)
    metrics = fit(task, tmp_path).callback_metrics
    data = FakeDataModule()
    data.setup('fit')
    squares, pixels = 0.0, 0
    assert data.val_dataset is not None
    with torch.no_grad():
        for i in range(8):
            sample = data.val_dataset[i]
            image, mask = sample['image'][None], sample['mask'][None]
            made, _ = task.model.decode(task.model.encode(image, mask).mean)
            squares += float((made - image).square().sum())
            pixels += image.numel()
    assert float(metrics['val_rmse']) == pytest.approx((squares / pixels) ** 0.5, rel=1e-4)


@pytest.mark.parametrize('stage', ['autoencoder', 'denoiser'])
def test_an_interrupted_run_continues(stage: str, tmp_path: Path) -> None:
    """Stopped after 2 steps and resumed, a run takes 2 more, not 4, and still averages its weights."""

    def make() -> GeneratorTask:
        return AutoencoderTask(**AUTOENCODER) if stage == 'autoencoder' else LatentDiffusionTask(**DENOISER)

    if stage == 'denoiser':
        fit(AutoencoderTask(**AUTOENCODER), tmp_path)
    first = fit(make(), tmp_path, max_steps=2)
    first.save_checkpoint(tmp_path / 'last.ckpt')
    task = make()
    trainer = Trainer(
        accelerator='cpu', max_steps=4, default_root_dir=tmp_path, logger=False, enable_progress_bar=False
    )
    trainer.fit(task, task.wrap_datamodule(FakeDataModule(), tmp_path), ckpt_path=tmp_path / 'last.ckpt')
    assert trainer.global_step == 4
    if isinstance(task, LatentDiffusionTask):
        assert int(task.average.n_averaged) == 4


def test_latents_are_normalised_per_channel_and_cover_all_orientations(tmp_path: Path) -> None:
    fit(AutoencoderTask(**AUTOENCODER), tmp_path)
    data = LatentDataModule(FakeDataModule(), load_autoencoder(tmp_path / 'autoencoder'))
    data.setup('fit')
    assert data.latents is not None
    assert data.latents.shape == (8 * 8, 3, 4, 4)
    torch.testing.assert_close(data.latents.float().mean((0, 2, 3)), torch.zeros(3), atol=2e-3, rtol=0)
    torch.testing.assert_close(data.latents.float().std((0, 2, 3)), torch.ones(3), atol=2e-3, rtol=0)


def test_raw_units_reach_the_generator() -> None:
    data = GeneratorDataModule(FakeDataModule(batch_size=8))
    data.setup('fit')
    batch = next(iter(data.train_dataloader()))
    assert set(batch) == {'image', 'mask'}
    assert batch['image'].mean() > 1000
    mean, std = data.band_statistics()
    every = torch.stack([data.real.train_dataset[i]['image'] for i in range(8)])  # type: ignore[index]
    torch.testing.assert_close(mean, every.mean((0, 2, 3)), rtol=1e-4, atol=0)
    torch.testing.assert_close(std, every.std((0, 2, 3)), rtol=1e-3, atol=0)


def test_fewer_samples_than_a_batch_still_train() -> None:
    data = GeneratorDataModule(FakeDataModule(length=3, batch_size=8))
    data.setup('fit')
    assert len(data.train_dataloader()) == 1


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(SpecDMError, match='NonGeoDataModule'):
        GeneratorDataModule(LightningModule())  # type: ignore[arg-type]
    nameless = GeneratorDataModule(FakeDataModule(with_spec=False))
    with pytest.raises(SpecDMError, match='has no spec'):
        nameless.setup('fit')
    trainer = Trainer(accelerator='cpu', max_steps=1, default_root_dir=tmp_path, logger=False)
    with pytest.raises(SpecDMError, match='wrap_datamodule'):
        trainer.fit(AutoencoderTask(), FakeDataModule())
    odd = GeneratorDataModule(FakeDataModule(patch_size=18))
    with pytest.raises(SpecDMError, match='18 px is not divisible'):
        trainer.fit(AutoencoderTask(), odd)
    empty = FakeDataModule()
    wrapped = GeneratorDataModule(empty)
    wrapped.setup('fit')
    assert empty.train_dataset is not None
    empty.setup = lambda stage: None  # type: ignore[method-assign]
    empty.train_dataset = Subset(empty.train_dataset, [])
    with pytest.raises(SpecDMError, match='is empty'):
        wrapped.setup('fit')
