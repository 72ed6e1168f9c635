"""The real and the synthetic samples of an evaluation, found from what a user names."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml  # type: ignore[import-untyped]
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import ConcatDataset
from torchgeo.datamodules import NonGeoDataModule

from torchgeo_specdm import compat, datamodules
from torchgeo_specdm.checkpoint import read_json
from torchgeo_specdm.datamodules import (
    GeneratorDataModule,
    IndianPinesDataModule,
    MixedDataModule,
    OSCDLandCoverDataModule,
    OSCDPatchesDataModule,
    SegMunichDataModule,
)
from torchgeo_specdm.datasets import SpecDMSynthetic
from torchgeo_specdm.datasets.exported import DESCRIPTION, ExportedPairs
from torchgeo_specdm.errors import SpecDMError, refusal
from torchgeo_specdm.evaluation.observation import draw as draw
from torchgeo_specdm.lazy import load_all
from torchgeo_specdm.spec import DatasetSpec
from torchgeo_specdm.stages import read_config, to_the_point

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
    datamodule: NonGeoDataModule
    train: Any
    held_out: Any
    test: Any
    mean: Tensor
    std: Tensor


def _in_root(module: Callable[..., NonGeoDataModule], **names: str) -> Callable[..., NonGeoDataModule]:
    """A maker of datamodules from a spec and a root; ``names`` are arguments that take a field of the spec."""

    def make(spec: DatasetSpec, root: Path) -> NonGeoDataModule:
        return module(root=root, **{argument: getattr(spec, field) for argument, field in names.items()})

    return make


# By the name in the spec: the datamodule, and the folder where the presets have the data
_KNOWN: dict[str, tuple[Callable[..., NonGeoDataModule], str]] = {
    'Indian Pines': (lambda spec, root: IndianPinesDataModule(spec.patch_size), '.'),
    'OSCD': (_in_root(OSCDPatchesDataModule, bands='bands', patch_size='patch_size'), 'data/oscd'),
    'OSCD landcover': (_in_root(OSCDLandCoverDataModule, bands='bands', patch_size='patch_size'), 'data/oscd'),
    'SegMunich': (_in_root(SegMunichDataModule, bands='bands'), 'data/segmunich'),
}


def find_datamodule(spec: DatasetSpec, root: Path | None = None) -> NonGeoDataModule:
    """The datamodule of the dataset that a checkpoint was trained on.

    Args:
        spec: The checkpoint's.
        root: Folder of the dataset; by default where the presets have it.

    Raises:
        SpecDMError: The dataset is none of this package's, or is not there.
    """
    if spec.name not in _KNOWN:
        raise SpecDMError(
            f'the checkpoint imitates {spec.name or "a dataset without a name"}: name its YAML with --data'
        )
    make, folder = _KNOWN[spec.name]
    root = root or Path(folder)
    if not root.is_dir():
        raise SpecDMError(f'{spec.name} is not in {root}: name its folder with --root, or a YAML with --data')
    return make(spec, root)


def read_datamodule(config: Path, overrides: Sequence[str] = ()) -> NonGeoDataModule:
    """The datamodule under ``data:`` of a configuration; under ``data.init_args.real`` of one that mixes.

    Args:
        config: A YAML file as for ``specdm fit``.
        overrides: Options of the real datamodule, such as ``--data.root data/oscd``.

    Raises:
        SpecDMError: The file has no ``data``, or its arguments are wrong.
    """
    compat.register_torchgeo()
    load_all(datamodules)
    values = read_config(config)
    data = values.get('data')
    if not isinstance(data, dict) or 'class_path' not in data:
        raise SpecDMError(f'{config} has no "data:" (class_path, init_args)')
    if data['class_path'].rpartition('.')[-1] == MixedDataModule.__name__:
        # Its checkpoint need not exist to read the real data
        data = data.get('init_args', {}).get('real')
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument('--config', action='config')
    parser.add_subclass_arguments(LightningDataModule, 'data', required=True)
    try:
        parsed = parser.parse_args(['--config', yaml.safe_dump({'data': data}), *overrides])
        datamodule = parser.instantiate_classes(parsed).data
    except argparse.ArgumentError as error:
        raise SpecDMError(to_the_point(str(error))) from error
    except ValueError as error:
        # jsonargparse wraps what a class refuses in __init__
        if refused := refusal(error):
            raise SpecDMError(str(refused)) from error
        raise
    if not isinstance(datamodule, NonGeoDataModule):
        raise SpecDMError(f'{type(datamodule).__name__} is no NonGeoDataModule, which an evaluation needs')
    return datamodule


def open_real(datamodule: NonGeoDataModule, spec: DatasetSpec) -> RealData:
    """The splits of a datamodule.

    Args:
        datamodule: Of the data that the generator learned from.
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


def open_synthetic(path: Path, count: int, **settings: Any) -> SpecDMSynthetic | ExportedPairs:
    """``count`` samples of a checkpoint, or at most as many of a folder that ``specdm sample`` wrote.

    Args:
        path: A checkpoint, the folder of a run that has one, or an export.
        count: Number of samples.
        settings: Arguments of :class:`SpecDMSynthetic`; an export has its own.

    Raises:
        SpecDMError: There is neither a checkpoint nor an export.
    """
    if (path / 'checkpoint' / DESCRIPTION).is_file():
        path = path / 'checkpoint'
    if (path / DESCRIPTION).is_file() and 'count' in read_json(path / DESCRIPTION):
        if given := [name for name, value in settings.items() if value is not None]:
            raise SpecDMError(f'{path} holds samples that are made already: {", ".join(given)} cannot be chosen')
        return ExportedPairs(path, count)
    chosen = {name: value for name, value in settings.items() if value is not None}
    # Each sample is read once, and what is measured of it is kept
    return SpecDMSynthetic(path, count, cache=None, **chosen)


def spread(indices: Sequence[int], count: int) -> list[int]:
    """At most ``count`` of the indices, from all over them."""
    return [indices[i] for i in torch.linspace(0, len(indices) - 1, min(count, len(indices))).long().tolist()]
