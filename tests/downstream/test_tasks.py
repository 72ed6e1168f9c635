"""TorchGeo's tasks train models by name, log the paper's scores, and load again."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torchgeo.main
import yaml
from lightning.pytorch import Trainer
from torchmetrics.classification import MulticlassF1Score, MulticlassJaccardIndex

from tests.fake import FakeDataModule
from torchgeo_specdm import compat
from torchgeo_specdm.downstream import ClassScores, DownstreamChangeTask, DownstreamSegmentationTask
from torchgeo_specdm.errors import SpecDMError

DOCS = Path(__file__).parents[2] / 'docs' / 'downstream.md'
QUIET: dict[str, Any] = {
    'accelerator': 'cpu',
    'logger': False,
    'enable_progress_bar': False,
    'enable_model_summary': False,
}


def segmentation(**given: Any) -> Any:
    values = {'model': 'pfsegnet', 'backbone': 'resnet18', 'in_channels': 3, 'num_classes': 4} | given
    return DownstreamSegmentationTask(**values)


def change(**given: Any) -> Any:
    values = {'model': 'siamcrnn', 'backbone': 'resnet18', 'in_channels': 3, 'loss': 'dice'} | given
    return DownstreamChangeTask(**values)


CASES = [(segmentation, 'segmentation', 4), (change, 'change', 2)]


@pytest.mark.parametrize(('make', 'kind', 'classes'), CASES, ids=['segmentation', 'change'])
def test_a_task_is_trained_scored_and_loaded(make: Any, kind: str, classes: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    task, data = make(), FakeDataModule(kind, patch_size=32)
    trainer = Trainer(max_steps=2, default_root_dir=tmp_path, **QUIET)
    trainer.fit(task, data)
    logged = trainer.callback_metrics
    for stage in ('train', 'val'):
        assert {f'{stage}_mIoU', f'{stage}_mF1', f'{stage}_loss'} <= logged.keys()
        ious = [float(logged[f'{stage}_IoU_{k}']) for k in range(classes)]
        there = [iou for iou in ious if not math.isnan(iou)]
        assert float(logged[f'{stage}_mIoU']) == pytest.approx(sum(there) / len(there))
    (scores,) = trainer.test(task, data, verbose=False)
    assert {'test_mIoU', 'test_mF1', f'test_F1_{classes - 1}'} <= scores.keys()

    path = tmp_path / 'task.ckpt'
    trainer.save_checkpoint(path)
    loaded = type(task).load_from_checkpoint(path)
    assert loaded.hparams == task.hparams
    shape = (1, 3, 20, 24) if kind == 'segmentation' else (1, 6, 20, 24)
    image = torch.randn(shape)
    with torch.no_grad():
        torch.testing.assert_close(loaded.eval()(image), task.eval()(image))


def test_options_and_classes_are_hyper_parameters() -> None:
    with torch.device('meta'):
        task = change(
            model='changeformer', backbone=None, options={'version': 'v3'}, task='multiclass', num_classes=2, loss='ce'
        )
    assert task.hparams['options'] == {'version': 'v3'}
    assert 'weights' not in task.hparams
    assert task.model.num_classes == 2
    assert isinstance(task, compat.change_task())


def test_the_loss_of_the_model_is_added() -> None:
    torch.manual_seed(0)
    task = segmentation(options={'boundary_weight': 0.0})
    heavy = segmentation(options={'boundary_weight': 100.0})
    heavy.load_state_dict(task.state_dict())
    mask = torch.zeros(2, 32, 32, dtype=torch.long)
    mask[:, 10:20] = 1
    batch = {'image': torch.randn(2, 3, 32, 32), 'mask': mask}
    losses = []
    for each in (task, heavy):
        each.log = lambda *_, **__: None
        torch.manual_seed(0)
        losses.append(each.train().training_step(batch, 0).item())
    assert losses[1] > losses[0] + 1


def test_parts_are_frozen() -> None:
    task = change(freeze_backbone=True)
    assert not any(p.requires_grad for p in task.model.encoder.parameters())
    assert all(p.requires_grad for p in task.model.decoder.parameters())


@pytest.mark.parametrize(
    ('make', 'given', 'words'),
    [
        (segmentation, {'model': 'siamcrnn'}, 'no model for segmentation; choose from segformer'),
        (segmentation, {'options': {'depth': 3}}, "no option 'depth'"),
        (segmentation, {'weights': 'SENTINEL2'}, "Others: use TorchGeo's own task"),
        (segmentation, {'num_classes': None}, 'it must be binary, or multiclass'),
        (change, {'task': 'multilabel', 'num_labels': 2}, 'it must be binary, or multiclass'),
    ],
)
def test_what_cannot_be_trained_is_refused(make: Any, given: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecDMError, match=words), torch.device('meta'):
        make(**given)


@pytest.mark.parametrize('binary', [False, True])
def test_scores_agree_with_torchmetrics(binary: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    classes = 2 if binary else 4
    scores = ClassScores(classes, ignore_index=255, labels=[f'c{k}' for k in range(classes)])
    theirs = {
        'IoU': MulticlassJaccardIndex(classes, average=None, ignore_index=255),
        'F1': MulticlassF1Score(classes, average=None, ignore_index=255),
    }
    for _ in range(3):
        target = torch.randint(classes, (2, 1, 9, 7), generator=generator)
        target[torch.rand(target.shape, generator=generator) < 0.2] = 255
        logits = torch.randn(2, 1 if binary else classes, 9, 7, generator=generator)
        scores(logits, target)
        predicted = (logits[:, 0] >= 0).long() if binary else logits.argmax(1)
        for metric in theirs.values():
            metric.update(predicted, target[:, 0])
    found = scores.compute()
    for name, metric in theirs.items():
        expected = metric.compute()
        torch.testing.assert_close(torch.stack([found[f'{name}_c{k}'] for k in range(classes)]), expected)
        torch.testing.assert_close(found[f'm{name}'], expected.mean())


def test_all_unchanged_scores_what_it_is_worth() -> None:
    """With 5.17 % of the pixels changed, as in OSCD's test cities, that is an mIoU of 0.474."""
    target = torch.zeros(1, 1, 100, 100, dtype=torch.long)
    target.view(-1)[:517] = 1
    scores = ClassScores(2)
    scores.update(-torch.ones(1, 1, 100, 100), target)
    found = scores.compute()
    assert float(found['mIoU']) == pytest.approx(0.474, abs=5e-4)
    assert float(found['F1_1']) == 0


def test_the_yaml_of_the_documentation_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r'```yaml\n(.*?)```', DOCS.read_text(encoding='utf-8'), re.DOTALL)
    config = yaml.safe_load(block)
    config['trainer'] = QUIET | {'fast_dev_run': True, 'default_root_dir': str(tmp_path)}
    config['model']['init_args']['in_channels'] = 3
    config['data'] = {'class_path': 'tests.fake.FakeDataModule', 'init_args': {'task': 'change', 'patch_size': 32}}
    path = tmp_path / 'config.yaml'
    path.write_text(yaml.safe_dump(config))
    monkeypatch.setattr('sys.argv', ['torchgeo'])
    trained: list[Any] = []
    monkeypatch.setattr(DownstreamChangeTask, 'on_train_end', lambda task: trained.append(task.hparams['model']))
    torchgeo.main.main(['fit', '--config', str(path)])
    assert trained == [config['model']['init_args']['model']]
