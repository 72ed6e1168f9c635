"""The one place that knows the versions of TorchGeo: where its tasks are, what they are called and what they return.

TorchGeo is imported inside the functions, so that importing this module costs nothing.
"""

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset


def tasks_module() -> ModuleType:
    """TorchGeo's tasks: ``torchgeo.tasks`` where it exists (0.9 and later), else ``torchgeo.trainers``."""
    name = 'torchgeo.tasks' if importlib.util.find_spec('torchgeo.tasks') else 'torchgeo.trainers'
    return importlib.import_module(name)


def register_torchgeo() -> None:
    """Import TorchGeo's datamodules and tasks, so that a command line finds them by class name.

    Where the tasks have two names (``ChangeDetection`` and the deprecated ``ChangeDetectionTask``), both are found.
    """
    importlib.import_module('torchgeo.datamodules')
    importlib.import_module('torchgeo.trainers')
    tasks_module()


def non_geo_dataset() -> Any:
    """TorchGeo's ``NonGeoDataset``; where TorchGeo is not installed, and nobody asks for one, PyTorch's dataset."""
    if importlib.util.find_spec('torchgeo') is None:
        return Dataset
    return importlib.import_module('torchgeo.datasets').NonGeoDataset


def is_non_geo(datamodule: Any) -> bool:
    """Whether a datamodule is a ``NonGeoDataModule``; TorchGeo is not imported for that, for there is none without."""
    return _is('datamodules', 'NonGeoDataModule', datamodule)


def is_geo_dataset(dataset: Any) -> bool:
    """Whether a dataset is a ``GeoDataset``; as :func:`is_non_geo`."""
    return _is('datasets', 'GeoDataset', dataset)


def is_oscd(dataset: Any) -> bool:
    """Whether a dataset is TorchGeo's ``OSCD``; as :func:`is_non_geo`."""
    return _is('datasets', 'OSCD', dataset)


def _is(package: str, name: str, found: Any) -> bool:
    module = sys.modules.get(f'torchgeo.{package}')
    return module is not None and isinstance(found, getattr(module, name))


def _task(name: str) -> type[Any]:
    module = tasks_module()
    found: type[Any] = getattr(module, name if hasattr(module, name) else f'{name}Task')
    return found


def segmentation_task() -> type[Any]:
    """TorchGeo's semantic segmentation task: ``SemanticSegmentation``, before 0.9 ``SemanticSegmentationTask``."""
    return _task('SemanticSegmentation')


def change_task() -> type[Any]:
    """TorchGeo's change detection task: ``ChangeDetection``, before 0.9 ``ChangeDetectionTask``."""
    return _task('ChangeDetection')


def probabilities(prediction: Tensor | Mapping[str, Any]) -> Tensor:
    """The probabilities that a TorchGeo task's ``predict_step`` returns, alone or (0.9 and later) in a dictionary."""
    found: Tensor = prediction['probabilities'] if isinstance(prediction, Mapping) else prediction
    return found
