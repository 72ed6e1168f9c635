"""Training a judge: it learns, rare classes too, and its seed alone decides."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

from tests.fake import FakeDataModule
from torchgeo_specdm.alignment.judge import Judge
from torchgeo_specdm.datamodules import GeneratorDataModule
from torchgeo_specdm.tasks import JudgeTask, train_judge


def fit(root: Path, data: str = 'segmentation', steps: int = 40) -> tuple[JudgeTask, Trainer]:
    task = JudgeTask(warmup_steps=5)
    torch.manual_seed(0)
    trainer = Trainer(
        accelerator='cpu',
        max_steps=steps,
        default_root_dir=root,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        check_val_every_n_epoch=steps // 2,
    )
    trainer.fit(task, task.wrap_datamodule(FakeDataModule(data), root))
    return task, trainer


@pytest.mark.parametrize('data', ['segmentation', 'change'])
def test_the_judge_learns(data: str, tmp_path: Path) -> None:
    task, trainer = fit(tmp_path, data)
    assert task.finished(tmp_path)
    assert trainer.callback_metrics['val_miou'] > 0.5
    assert trainer.callback_metrics['val_f1'] > 0.6
    judge = Judge.from_pretrained(tmp_path / task.output / 'judge')
    data_module = FakeDataModule(data)
    data_module.setup('fit')
    assert data_module.val_dataset is not None
    samples = [data_module.val_dataset[i] for i in range(8)]
    image, mask = (torch.stack([sample[key] for sample in samples]) for key in ('image', 'mask'))
    own, others = judge.pixel_loss(image, mask).mean(), judge.pixel_loss(image, mask.roll(1, 0)).mean()
    assert own < 0.7 * others
    loss = float(trainer.callback_metrics['val_loss'])
    assert loss == pytest.approx(float(own), rel=0.02), 'the logged loss is that of the pixels, half precision apart'


def test_a_class_weighs_one_over_the_square_root_of_its_share(tmp_path: Path) -> None:
    task, _ = fit(tmp_path, steps=2)
    data = GeneratorDataModule(FakeDataModule())
    data.setup('fit')
    masks = torch.stack([data.split('train')[i]['mask'] for i in range(8)])
    shares = torch.tensor([float((masks == k).double().mean()) for k in range(4)])
    torch.testing.assert_close(task.class_weights, shares.clamp_min(1 / masks.numel()).rsqrt(), rtol=1e-4, atol=0)


def test_the_seed_alone_decides(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    judges = [train_judge(FakeDataModule(), tmp_path / str(n), steps=3, seed=seed) for n, seed in enumerate((1, 1, 2))]
    assert torch.equal(torch.get_rng_state(), before)
    one, same, other = (torch.cat([p.flatten() for p in judge.parameters()]) for judge in judges)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert not any(parameter.requires_grad for parameter in judges[0].parameters())
    loaded = Judge.from_pretrained(tmp_path / '0' / 'judge')
    assert torch.equal(torch.cat([p.flatten() for p in loaded.parameters()]), one)
