import importlib
import pkgutil
from importlib.metadata import version

import torch
from lightning.pytorch import LightningDataModule, LightningModule

import torchgeo_specdm
from torchgeo_specdm import compat

OLD = tuple(map(int, version('torchgeo').split('.')[:2])) < (0, 9)


def below(kind: type) -> set[type]:
    """All classes derived from ``kind`` that are imported."""
    return {kind}.union(*(below(each) for each in kind.__subclasses__()))


def test_no_class_name_is_torchgeos() -> None:
    """Lightning's command line refuses a short name that two imported classes share."""
    compat.register_torchgeo()
    for module in pkgutil.walk_packages(torchgeo_specdm.__path__, 'torchgeo_specdm.'):
        if not module.name.endswith('__main__'):
            importlib.import_module(module.name)
    kinds = below(LightningModule) | below(LightningDataModule)
    names = {
        top: {k.__name__ for k in kinds if k.__module__.split('.')[0] == top} for top in ('torchgeo', 'torchgeo_specdm')
    }
    assert {'OSCDDataModule', 'SemanticSegmentationTask'} <= names['torchgeo']
    assert {'AutoencoderTask', 'LatentDiffusionTask', 'GeneratorDataModule'} <= names['torchgeo_specdm']
    assert not names['torchgeo'] & names['torchgeo_specdm']


def test_tasks_are_the_current_ones() -> None:
    assert compat.segmentation_task().__name__ == 'SemanticSegmentation' + 'Task' * OLD
    assert compat.change_task().__name__ == 'ChangeDetection' + 'Task' * OLD
    assert compat.change_task().__module__.startswith('torchgeo.trainers' if OLD else 'torchgeo.tasks')


def test_predictions_become_probabilities() -> None:
    task = compat.segmentation_task()(
        model='unet', backbone='resnet18', in_channels=3, task='multiclass', num_classes=4
    )
    batch = {'image': torch.rand(1, 3, 32, 32), 'bounds': torch.zeros(1, 4), 'transform': torch.zeros(1, 6)}
    with torch.no_grad():
        found = compat.probabilities(task.eval().predict_step(batch, 0))
    torch.testing.assert_close(found.sum(1), torch.ones(1, 32, 32))
