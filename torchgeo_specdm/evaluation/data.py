"""The data of an evaluation, real and synthetic, found from what a user names."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule
from torchgeo.datamodules import NonGeoDataModule

from torchgeo_specdm import compat, datamodules
from torchgeo_specdm.checkpoint import read_json
from torchgeo_specdm.datamodules import (
    IndianPinesDataModule,
    MixedDataModule,
    OSCDLandCoverDataModule,
    OSCDPatchesDataModule,
    SegMunichDataModule,
)
from torchgeo_specdm.datasets import SpecDMSynthetic
from torchgeo_specdm.datasets.exported import DESCRIPTION, ExportedPairs
from torchgeo_specdm.errors import SpecDMError, refusal
from torchgeo_specdm.lazy import load_all
from torchgeo_specdm.spec import DatasetSpec
from torchgeo_specdm.stages import read_config, to_the_point


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
    if not isinstance(data, dict) or not isinstance(data.get('class_path'), str):
        raise SpecDMError(f'{config} has no "data:" (class_path, init_args)')
    if data['class_path'].rpartition('.')[-1] == MixedDataModule.__name__:
        # Its checkpoint need not exist to read the real data
        about = data.get('init_args')
        data = about.get('real') if isinstance(about, dict) else None
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
