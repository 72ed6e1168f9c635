"""The real samples of an evaluation: the splits of a datamodule."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import ConcatDataset

from torchgeo_specdm.datamodules import GeneratorDataModule
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.spec import DatasetSpec

# Fewer held-out samples say next to nothing: their shares and means have no usable interval
_FEW = 50


@dataclass(frozen=True)
class RealData:
    """A real dataset in raw units.

    Attributes:
        spec: Describes the samples.
        datamodule: Where they come from.
        train: What a generator learns from.
        held_out: Its val split; where that has fewer than 50 samples, its test split too.
        test: Its test split; the val split where it has none.
        mean: Mean of each band over train samples, ``(C,)``.
        std: Standard deviation of each band over train samples, ``(C,)``.
    """

    spec: DatasetSpec
    datamodule: LightningDataModule
    train: Any
    held_out: Any
    test: Any
    mean: Tensor
    std: Tensor


def open_real(datamodule: Any, spec: DatasetSpec) -> RealData:
    """The splits of a datamodule.

    Args:
        datamodule: Of the data that the generator learned from: as of :class:`GeneratorDataModule`.
        spec: The generator's.

    Raises:
        SpecDMError: A split is missing or empty.
        SpecMismatchError: The generator imitates other data.
    """
    generator_data = GeneratorDataModule(datamodule, dihedral=False)
    generator_data.prepare_data()
    generator_data.setup('fit')
    generator_data.spec.require_match(spec, 'the real data', 'the generator')
    train, held_out = datamodule.train_dataset, datamodule.val_dataset
    if held_out is None or len(held_out) == 0:
        raise SpecDMError(f'{type(datamodule).__name__} has no val split, without which nothing is held out')
    datamodule.setup('test')
    test = datamodule.test_dataset if getattr(datamodule, 'test_dataset', None) else held_out
    if test is not held_out and len(held_out) < _FEW:
        held_out = ConcatDataset([held_out, test])
    mean, std = generator_data.band_statistics()
    return RealData(generator_data.spec, datamodule, train, held_out, test, mean, std)


def spread(indices: Sequence[int], count: int) -> list[int]:
    """At most ``count`` of the indices, from all over them."""
    return [indices[i] for i in torch.linspace(0, len(indices) - 1, min(count, len(indices))).long().tolist()]
