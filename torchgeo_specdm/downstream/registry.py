"""Downstream models by name."""

import importlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from torchgeo_specdm.downstream.base import DenseModel
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.spec import TASKS, Task


class Entry(NamedTuple):
    """Where a model is made.

    Attributes:
        tasks: What it can be trained for.
        module: A module of this package, imported on first use: each needs only the libraries of its own models.
        maker: The name there of a function (or class) of num_bands, num_classes and options. A model of both tasks has
            an option ``task``.
    """

    tasks: tuple[Task, ...]
    module: str
    maker: str

    def load(self) -> Callable[..., DenseModel]:
        """What makes the model.

        Raises:
            SpecDMError: A library that it needs is not installed.
        """
        with _installed(self.maker):
            module = importlib.import_module(f'{__package__}.{self.module}')
        found: Callable[..., DenseModel] = getattr(module, self.maker)
        return found


DOWNSTREAM: dict[str, Entry] = {
    'segformer': Entry(('segmentation',), 'segformer', 'SegFormer'),
    'pfsegnet': Entry(('segmentation',), 'pfsegnet', 'PFSegNet'),
    'siamcrnn': Entry(('change',), 'siamcrnn', 'SiamCRNN'),
    'changeformer': Entry(('change',), 'changeformer', 'ChangeFormer'),
    'unet': Entry(TASKS, 'library', 'UNet'),
    'deeplabv3+': Entry(TASKS, 'library', 'DeepLabV3Plus'),
    'upernet': Entry(TASKS, 'library', 'UPerNet'),
    'fcsiamdiff': Entry(('change',), 'library', 'fcsiamdiff'),
    'fcsiamconc': Entry(('change',), 'library', 'fcsiamconc'),
    'changevit': Entry(('change',), 'library', 'changevit'),
}


def make_model(name: str, num_bands: int, num_classes: int, *, task: Task | None = None, **options: Any) -> DenseModel:
    """A downstream model, with random weights unless an option says otherwise.

    Args:
        name: A key of :data:`DOWNSTREAM`.
        num_bands: C, of one date.
        num_classes: K; 1 for the single logit of a binary task.
        task: What it is for; by default the first of what the model can be trained for.
        options: What the model's class lists, ``backbone`` and ``weights`` for most.

    Raises:
        SpecDMError: There is no such model or option, it is not for that task, or a library that it needs is not
            installed.
    """
    if name not in DOWNSTREAM:
        raise SpecDMError(f'there is no model {name!r}; choose from {", ".join(DOWNSTREAM)}')
    entry = DOWNSTREAM[name]
    if task is not None and task not in entry.tasks:
        others = [other for other, each in DOWNSTREAM.items() if task in each.tasks]
        raise SpecDMError(f'{name} is no model for {task}; choose from {", ".join(others)}')
    make = entry.load()
    known = list(inspect.signature(make).parameters)[2:]
    if unknown := sorted(set(options) - set(known)):
        raise SpecDMError(
            f'{name} has no option {unknown[0]!r}; it has {", ".join(each for each in known if each != "task")}'
        )
    if 'task' in known:
        options['task'] = task or entry.tasks[0]
    with _installed(name):
        return make(num_bands, num_classes, **options)


@contextmanager
def _installed(name: str) -> Iterator[None]:
    """Say which library a model lacks."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise SpecDMError(f'{name} needs {error.name}, which is not installed: install it or choose another') from error
