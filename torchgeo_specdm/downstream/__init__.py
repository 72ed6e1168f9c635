"""Downstream models, TorchGeo tasks for them, and scores of whole scenes. Imported on first use."""

from typing import TYPE_CHECKING

from torchgeo_specdm.lazy import loader

if TYPE_CHECKING:
    from torchgeo_specdm.downstream.base import DenseModel
    from torchgeo_specdm.downstream.registry import DOWNSTREAM, make_model
    from torchgeo_specdm.downstream.scenes import count_scenes, predict_scene
    from torchgeo_specdm.downstream.scores import ClassScores
    from torchgeo_specdm.downstream.tasks import DownstreamChangeTask, DownstreamSegmentationTask

_HOMES = {
    'DOWNSTREAM': 'registry',
    'ClassScores': 'scores',
    'DenseModel': 'base',
    'DownstreamChangeTask': 'tasks',
    'DownstreamSegmentationTask': 'tasks',
    'count_scenes': 'scenes',
    'make_model': 'registry',
    'predict_scene': 'scenes',
}

__all__ = [
    'DOWNSTREAM',
    'ClassScores',
    'DenseModel',
    'DownstreamChangeTask',
    'DownstreamSegmentationTask',
    'count_scenes',
    'make_model',
    'predict_scene',
]

__getattr__ = loader(__name__, _HOMES)
