import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import Subset

from tests.fake import FakeDataModule
from torchgeo_specdm.card import card
from torchgeo_specdm.datamodules.generator import GeneratorDataModule
from torchgeo_specdm.datamodules.latents import LatentDataModule
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.functional import dihedral
from torchgeo_specdm.models import PixelAutoencoder
from torchgeo_specdm.parts import load_autoencoder
from torchgeo_specdm.pipeline import SpecDMPipeline
from torchgeo_specdm.spec import find_spec
from torchgeo_specdm.tasks import AutoencoderTask, LatentDiffusionTask, PixelSpaceTask, generator
from torchgeo_specdm.tasks.generator import GeneratorTask

AUTOENCODER: dict[str, Any] = {'latent_channels': (2, 1), 'width': (32, 32), 'depth': 1}
DENOISER: dict[str, Any] = {'widths': (32, 32), 'depth': 1, 'warmup_steps': 2}


def fit(task: GeneratorTask, root: Path, data: str = 'segmentation', **settings: Any) -> Trainer:
    trainer = Trainer(
        accelerator='cpu',
        default_root_dir=root,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **({'max_steps': 2} | settings),
    )
    trainer.fit(task, task.wrap_datamodule(FakeDataModule(data), root))
    return trainer


@pytest.mark.parametrize('data', ['segmentation', 'change'])
def test_data_is_measured_where_it_is(data: str) -> None:
    """Networks are made where Lightning has all new tensors on the GPU; here, on a device that computes nothing."""
    module = GeneratorDataModule(FakeDataModule(task=data))
    module.setup('fit')
    expected = *module.band_statistics(), module.class_counts()
    with torch.device('meta'):
        found = *module.band_statistics(), module.class_counts()
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


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
    assert (pipeline.training['steps'], pipeline.training['batch_size']) == (16, FakeDataModule().batch_size)
    # The averaged weights are the ones that are saved
    saved = pipeline.denoiser.state_dict()
    average = stages[1].average.state_dict()
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
    task, followed = make(), []
    if isinstance(task, LatentDiffusionTask):
        follow = task._follow
        task._follow = lambda count: (followed.append(count), follow(count))  # type: ignore[assignment, method-assign, return-value, func-returns-value]
    trainer = Trainer(
        accelerator='cpu', max_steps=4, default_root_dir=tmp_path, logger=False, enable_progress_bar=False
    )
    trainer.fit(task, task.wrap_datamodule(FakeDataModule(), tmp_path), ckpt_path=tmp_path / 'last.ckpt')
    assert trainer.global_step == 4
    if isinstance(task, LatentDiffusionTask):
        # What was averaged before is counted
        assert followed == [2, 3]


def test_latents_are_normalised_per_channel_and_cover_all_orientations(tmp_path: Path) -> None:
    fit(AutoencoderTask(**AUTOENCODER), tmp_path)
    data = LatentDataModule(FakeDataModule(), load_autoencoder(tmp_path / 'autoencoder'))
    data.setup('fit')
    assert data.latents is not None
    assert len(data.latents) == 8 * 8
    samples = data.latents.batch(torch.arange(64))
    z = samples['latents']
    assert z.shape == (64, 3, 4, 4)
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(3), atol=2e-3, rtol=0)
    torch.testing.assert_close(z.std((0, 2, 3)), torch.ones(3), atol=2e-3, rtol=0)
    mean, std = data.latent_mean.view(-1, 1, 1), data.latent_std.view(-1, 1, 1)
    for index in (0, 13):
        number, orientation = divmod(index, 8)
        real = data.split('train')[number]
        turned = [dihedral(real[name][None], orientation) for name in ('image', 'mask')]
        expected = (data.autoencoder.encode(*turned).mean[0] - mean) / std
        torch.testing.assert_close(z[index], expected, atol=5e-3, rtol=0)
        assert int(samples['orientation'][index]) == orientation
        counts = torch.bincount(real['mask'].flatten(), minlength=data.spec.num_classes)
        torch.testing.assert_close(samples['shares'][index], counts / real['mask'].numel())


def test_latents_that_are_pixels_are_turned_when_they_are_read(tmp_path: Path) -> None:
    real = FakeDataModule()
    real.setup('fit')
    spec = find_spec(real.train_dataset)
    assert spec is not None
    pixels = PixelAutoencoder(spec.task, spec.num_bands, spec.num_classes, spec.ignore_index)
    data = LatentDataModule(FakeDataModule(), pixels)
    data.setup('fit')
    assert data.latents is not None
    assert len(data.latents) == 64
    straight, turned = data.latents.batch(torch.tensor([0, 5]))['latents']
    torch.testing.assert_close(turned, dihedral(straight, 5))


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


@pytest.mark.parametrize('data', ['segmentation', 'change'])
@pytest.mark.parametrize(
    'first',
    [
        AutoencoderTask(kind='single_stream', **AUTOENCODER),
        AutoencoderTask(sad_weight=0.0, **AUTOENCODER),
        PixelSpaceTask(),
    ],
    ids=['single_stream', 'no_sad', 'pixels'],
)
def test_the_baselines_leave_a_checkpoint_too(first: GeneratorTask, data: str, tmp_path: Path) -> None:
    fit(copy.deepcopy(first), tmp_path, data)
    fit(LatentDiffusionTask(**DENOISER, adaptive_norm=False), tmp_path, data)
    pipeline = SpecDMPipeline.from_pretrained(tmp_path / 'checkpoint')
    assert pipeline.sample([0], steps=2)['image'].shape == (1, *pipeline.spec.image_shape)
    assert SpecDMPipeline.read_conditions(tmp_path / 'checkpoint') == frozenset()


def test_one_image_branch_serves_segmentation_and_change(tmp_path: Path) -> None:
    """The image branch of land cover encodes each date of change detection, and is not trained any further."""
    fit(AutoencoderTask(**AUTOENCODER), tmp_path / 'land', max_steps=4)
    taken = {**AUTOENCODER, 'separate_dates': True, 'image_branch': str(tmp_path / 'land' / 'autoencoder')}
    fit(AutoencoderTask(**taken), tmp_path / 'change', 'change', max_steps=4)
    land, change = (load_autoencoder(tmp_path / name / 'autoencoder') for name in ('land', 'change'))
    theirs, ours = (model.image_branch.state_dict() for model in (land, change))  # type: ignore[union-attr]
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    assert torch.equal(change.gain, land.gain)
    with pytest.raises(SpecDMError, match=r"image branch to take over has other bands.*'latent_channels': \[2, 1\]"):
        fit(AutoencoderTask(**{**taken, 'latent_channels': (3, 1)}), tmp_path / 'other', 'change')
    values = json.loads((tmp_path / 'land' / 'autoencoder' / 'spec.json').read_text())
    values['bands'] = values['bands'][::-1]
    (tmp_path / 'land' / 'autoencoder' / 'spec.json').write_text(json.dumps(values))
    with pytest.raises(SpecDMError, match='was trained on bands'):
        fit(AutoencoderTask(**taken), tmp_path / 'swapped', 'change')


def test_a_training_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    fit(AutoencoderTask(**AUTOENCODER), tmp_path / 'first')
    fit(LatentDiffusionTask(**DENOISER), tmp_path / 'first')
    folder = tmp_path / 'first' / 'checkpoint'
    fit(LatentDiffusionTask(**DENOISER, pretrained=str(folder), lr=0.0), tmp_path / 'then')
    first, then = (SpecDMPipeline.from_pretrained(tmp_path / name / 'checkpoint') for name in ('first', 'then'))
    for part in ('autoencoder', 'denoiser'):
        theirs, ours = (getattr(pipeline, part).state_dict() for pipeline in (first, then))
        for name, value in theirs.items():
            torch.testing.assert_close(ours[name], value)
    assert then.training['pretrained'] == first.training
    assert card(tmp_path / 'then' / 'checkpoint').count('2 steps') == 2
    with pytest.raises(SpecDMError, match=r'differ: widths: \[32, 64\] against \[32, 32\]'):
        fit(LatentDiffusionTask(**DENOISER | {'widths': (32, 64)}, pretrained=str(folder)), tmp_path / 'wider')
    with pytest.raises(SpecDMError, match='leave autoencoder out'):
        LatentDiffusionTask(pretrained=str(folder), autoencoder='elsewhere')


def test_half_precision_is_for_training_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[tuple[bool, torch.dtype]] = set()

    class Watched(AutoencoderTask):
        def configure_model(self) -> None:
            super().configure_model()
            layer = self.model.image_branch.decoder[0]
            layer.register_forward_hook(lambda _, __, answer: seen.add((self.training, answer.dtype)))

    monkeypatch.setattr(generator, 'has_bfloat16', lambda: True)
    fit(Watched(**AUTOENCODER), tmp_path / 'a', precision='bf16-mixed')
    assert seen == {(True, torch.bfloat16), (False, torch.float32)}
    monkeypatch.setattr(generator, 'has_bfloat16', lambda: False)
    with pytest.warns(UserWarning, match='emulates it.*--trainer.precision 32-true'):
        fit(AutoencoderTask(**AUTOENCODER), tmp_path / 'b', precision='bf16-mixed', max_steps=1)


def test_everything_the_denoiser_can_be_told(tmp_path: Path) -> None:
    """Three streams with clocks of their own, class shares and orientations, from training to sampling."""
    fit(AutoencoderTask(**AUTOENCODER, separate_dates=True), tmp_path, 'change')
    task = LatentDiffusionTask(
        **DENOISER,
        together=0.5,
        absent=0.5,
        class_control=True,
        orientations=True,
        prediction='v_prediction',
        min_snr_gamma=5.0,
    )
    fit(task, tmp_path, 'change')
    folder = tmp_path / 'checkpoint'
    assert SpecDMPipeline.read_conditions(folder) == {'image', 'image1', 'image2', 'mask', 'shares', 'agreement'}
    pipeline = SpecDMPipeline.from_pretrained(folder)
    assert pipeline.shares is not None
    assert pipeline.shares.shape == (2, 21)
    assert pipeline.share_rows is not None
    torch.testing.assert_close(pipeline.share_rows.sum(1), torch.ones(len(pipeline.share_rows)))
    shares = torch.tensor([[torch.nan, 0.5]])
    free, asked = pipeline.sample([3], steps=2), pipeline.sample([3], steps=2, shares=shares)
    assert not torch.equal(free['image'], asked['image'])
    agreeing = pipeline.sample([3], steps=2, agreement=2.0)
    assert not torch.equal(free['image'], agreeing['image'])
    # The same whatever else is in the batch, and with streams that are given
    torch.testing.assert_close(
        pipeline.sample([5, 3], steps=2, agreement=2.0)['image'][1:], agreeing['image'], atol=3, rtol=0
    )
    given = {'mask': free['mask']}
    assert torch.equal(pipeline.sample([4], steps=2, agreement=2.0, given=given)['mask'], free['mask'])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'orientations': True, 'dihedral': False}, 'needs dihedral'),
        ({'together': 2}, 'share'),
        ({'absent': 1}, 'share'),
    ],
)
def test_contradictions_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecDMError, match=message):
        LatentDiffusionTask(**options)


@pytest.mark.parametrize(
    ('asked', 'device', 'ranks', 'done'),
    [(True, 'cuda', 1, True), (False, 'cuda', 1, False), (True, 'cpu', 1, False), (True, 'cuda', 2, False)],
)
def test_one_gpu_compiles_the_denoiser(
    asked: bool, device: str, ranks: int, done: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[dict[str, Any]] = []
    task = LatentDiffusionTask(compile=asked)
    task.model = SimpleNamespace(compile=lambda **options: compiled.append(options))  # type: ignore[assignment]
    monkeypatch.setattr(LatentDiffusionTask, 'device', torch.device(device))
    monkeypatch.setattr(LatentDiffusionTask, 'trainer', SimpleNamespace(world_size=ranks, precision='32-true'))
    task.on_fit_start()
    assert bool(compiled) is done


@pytest.mark.parametrize(('updates', 'kept'), [(0, 0.0), (1, 2 / 11), (2, 3 / 12), (10**6, 0.9)])
def test_the_average_of_a_short_history_forgets_its_start(updates: int, kept: float) -> None:
    task = LatentDiffusionTask(ema_decay=0.9)
    task.model, task.average = (nn.Linear(1, size) for size in (3, 3))  # type: ignore[assignment]
    for network, value in ((task.average, 1.0), (task.model, 5.0)):
        for parameter in network.parameters():
            nn.init.constant_(parameter, value)
    task._follow(updates)
    expected = kept + (1 - kept) * 5
    assert all(values.flatten().tolist() == pytest.approx([expected] * 3) for values in task.average.parameters())


def test_the_average_of_weights_is_that_of_pytorch(tmp_path: Path) -> None:
    """A short history forgets its start; a long one decays as it is told."""
    task = LatentDiffusionTask(ema_decay=0.5)
    task.model, task.average = nn.Linear(2, 3), nn.Linear(2, 3)  # type: ignore[assignment]
    expected = AveragedModel(
        task.model, multi_avg_fn=lambda old, new, n: torch._foreach_lerp_(old, new, 1 - min(0.5, (1 + n) / (10 + n)))
    )
    for step in range(12):
        nn.init.normal_(task.model.weight)
        task._follow(step)
        expected.update_parameters(task.model)
        torch.testing.assert_close(task.average.state_dict(), expected.module.state_dict())
