"""What is special about each dataset of ``specdm demo``; the flow that they share is in ``demo.py``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torchgeo.datamodules import NonGeoDataModule

from torchgeo_specdm import compat
from torchgeo_specdm.catalogue import CATALOGUE
from torchgeo_specdm.comparison import Score, f1, iou
from torchgeo_specdm.datamodules import IndianPinesDataModule, OSCDPatchesDataModule
from torchgeo_specdm.datasets import IndianPines
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.pipeline import SpecDMPipeline

_INDIAN_PINES = CATALOGUE['indian-pines'].folder
# What the presets write, from the working directory; then what a checkout may hold
_OSCD = (
    Path('runs/oscd-cpu/checkpoint'),
    Path('runs/oscd/checkpoint'),
    CATALOGUE['oscd-change'].folder,
)


@dataclass(frozen=True)
class Budget:
    """How much is computed.

    Attributes:
        real: Real train patches, drawn at random; None for all.
        test: Test patches, drawn at random; None for all.
        ratio: Synthetic patches per real one.
        steps: Optimiser steps of each training.
        batch_size: Patches in a batch.
        runs: Trainings of each kind, with seeds 0, 1, ...
    """

    real: int | None = None
    test: int | None = None
    ratio: float = 5
    steps: int = 150
    batch_size: int = 16
    runs: int = 3


@dataclass(frozen=True)
class Case:
    """A dataset, its generator and TorchGeo's task on it.

    Attributes:
        name: Name of the dataset.
        checkpoint: Folder of the generator.
        data: Train and test patches, and mean and standard deviation of each band.
        task: Makes TorchGeo's task.
        scored: Classes that the scores are about.
        scores: Scores by name, the most telling one first.
        group: Test dataset and position to the unit that intervals resample.
        unit: What that unit is, in the plural.
        caveat: What the scores do not show.
        budget: How much is computed.
    """

    name: str
    checkpoint: Path
    data: NonGeoDataModule
    task: Callable[[], LightningModule]
    scored: tuple[int, ...]
    scores: Mapping[str, Score]
    group: Callable[[Any, int], int]
    unit: str
    caveat: str
    budget: Budget = field(default_factory=Budget)


def indian_pines(root: Path | None = None) -> Case:
    """The scene that tensorly ships, and the generator that this package ships; ``root`` is not used.

    Raises:
        SpecDMError: tensorly is missing.
    """
    measurable = IndianPines.test_classes(50)
    scored = [label for label, name in enumerate(IndianPines.classes) if name in measurable]

    def task() -> Any:
        # On a scene this small it scores twice what a U-Net on a ResNet-18 does, and trains faster
        return compat.segmentation_task()(
            model='fcn', num_filters=32, weights=None, in_channels=200, num_classes=16, ignore_index=255
        )

    return Case(
        name='Indian Pines',
        checkpoint=_INDIAN_PINES,
        # Fewer windows than the generator learned from, on the same pixels
        data=IndianPinesDataModule(overlap=0.75),
        task=task,
        scored=tuple(scored),
        scores={'mIoU': lambda counts: iou(counts)[..., scored].nanmean(-1)},
        group=lambda dataset, position: position,
        unit='test patches',
        caveat='One small scene proves that the plumbing works, not that synthetic data brings a gain.',
    )


def oscd(root: Path | None) -> Case:
    """OSCD in ``root``, and a generator that the user trained.

    Raises:
        SpecDMError: There is no such generator, or no ``root``.
        CheckpointError: The generator cannot be read.
    """
    if root is None:
        raise SpecDMError('the demo on OSCD needs --root, the folder of the dataset')
    found = next((folder for folder in _OSCD if (folder / 'specdm.json').is_file()), None)
    if found is None:
        raise SpecDMError(
            'no generator for OSCD ships with the package: train one with "specdm fit --config '
            f'examples/conf/oscd-cpu.yaml --data.root {root}"; it is looked for at {_OSCD[0]}'
        )
    spec = SpecDMPipeline.read_spec(found)

    def task() -> Any:
        # One pixel in fifty changed: unweighted, a short training learns that nothing ever does
        return compat.change_task()(
            model='fcn',
            num_filters=32,
            weights=None,
            in_channels=spec.num_bands,
            pos_weight=torch.tensor(10.0),
        )

    return Case(
        name='OSCD',
        checkpoint=found,
        data=OSCDPatchesDataModule(root, spec.bands, spec.patch_size, overlap=0.0),
        task=task,
        scored=(0, 1),
        scores={
            'IoU of change': lambda counts: iou(counts)[..., 1],
            'F1 of change': lambda counts: f1(counts)[..., 1],
            'mIoU': lambda counts: iou(counts).nanmean(-1),
        },
        group=lambda dataset, position: int(dataset.windows[position][0]),
        unit='test cities',
        caveat='A short training on few patches proves that the plumbing works, not that synthetic data brings a gain.',
        budget=Budget(real=64, test=240),
    )


CASES: dict[str, Callable[[Path | None], Case]] = {'indian-pines': indian_pines, 'oscd': oscd}
