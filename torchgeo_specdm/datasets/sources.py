"""The splits of a dataset or datamodule that is named by its class path, whoever wrote it."""

import importlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torchgeo.datamodules import NonGeoDataModule
from torchgeo.datasets import DependencyNotFoundError, NonGeoDataset

from torchgeo_specdm.datasets.splitters import SPLITS, Splitter
from torchgeo_specdm.errors import SpecDMError


class Part(NamedTuple):
    """Samples of one split.

    Attributes:
        dataset: The source's own dataset that they are in.
        numbers: Which of its samples.
        origin: The number of that dataset among the source's own.
    """

    dataset: Any
    numbers: list[int]
    origin: int


class Source(ABC):
    """A class of somebody else, and which of its splits is what; a subclass makes its own splits.

    Args:
        cls: The class.
        arguments: Its arguments.
        splits: The class's own name of ``train``, and of ``val`` and ``test`` where it has them.
        splitter: Deals the samples of the train split to the splits that the class does not have, by their number.

    Raises:
        SpecDMError: The arguments do not fit the class, or ``splits`` has no ``train``.
    """

    def __init__(
        self, cls: type, arguments: Mapping[str, Any], splits: Mapping[str, str], splitter: Splitter | None
    ) -> None:
        if unknown := sorted(set(splits) - set(SPLITS)):
            raise SpecDMError(f'splits names {unknown[0]}; they are {", ".join(SPLITS)}')
        if 'train' not in splits:
            raise SpecDMError("splits must say what the class calls 'train'")
        self.cls, self.arguments, self.splits, self.splitter = cls, dict(arguments), dict(splits), splitter
        self._require_arguments()

    @property
    def name(self) -> str:
        """Name of the class."""
        return self.cls.__name__

    @abstractmethod
    def own(self, name: str) -> Any:
        """The dataset of one of the class's own splits; None where there is none."""

    def has(self, split: str) -> bool:
        """Whether there is such a split, by what is declared."""
        return split in self.splits or self.splitter is not None

    def part(self, split: str) -> Part:
        """The samples of a split.

        Raises:
            SpecDMError: There is no such split, it is empty, or the splitter deals to a split that the class has.
        """
        if not self.has(split):
            raise SpecDMError(
                f'no {split} split of {self.name} is declared: name it in splits, or declare a splitter, which deals '
                'train samples to it'
            )
        own = split if split in self.splits else 'train'
        dataset = self._opened(self.splits[own])
        numbers = list(range(len(dataset)))
        if self.splitter is not None and own == 'train':
            dealt = self.splitter.assign([str(n) for n in numbers], Path(str(self.arguments.get('root', '.'))))
            if twice := sorted(set(dealt) & set(self.splits) - {'train'}, key=str):
                raise SpecDMError(
                    f'the splitter deals samples to {twice[0]}, which {self.name} has itself: leave {twice[0]} out of '
                    'splits, or give its share to nobody'
                )
            numbers = [number for number in numbers if dealt[number] == split]
        if not numbers:
            raise SpecDMError(f'the {split} split of {self.name} is empty')
        return Part(dataset, numbers, SPLITS.index(own))

    @abstractmethod
    def download(self) -> None:
        """Let the class download what it does not find, if its arguments say so."""

    def _opened(self, name: str) -> Any:
        try:
            dataset = self.own(name)
        except (AssertionError, KeyError) as error:
            # How TorchGeo's datasets refuse a split
            raise SpecDMError(f'{self.name} refuses the split {name!r} or its arguments ({error!r})') from error
        except DependencyNotFoundError as error:
            raise SpecDMError(f'{self.name} lacks a library: {error}') from error
        if dataset is None:
            raise SpecDMError(f'{self.name} has no {name} dataset: leave {name} out of splits')
        return dataset

    def _require_arguments(self) -> None:
        try:
            inspect.signature(self.cls).bind(**self.arguments)
        except TypeError as error:
            raise SpecDMError(f'arguments of {self.name}: {error}') from error


class DatasetSource(Source):
    """A dataset, whose argument ``split`` says which of its splits it is; one without has ``train`` alone."""

    @property
    def takes_split(self) -> bool:
        """Whether the class has the argument."""
        return 'split' in inspect.signature(self.cls).parameters

    def own(self, name: str) -> Any:
        """A dataset of the class; nothing is downloaded."""
        return self._make(name, download=False)

    def download(self) -> None:
        """Make each split once with the argument ``download``."""
        if self.arguments.get('download'):
            for name in self.splits.values():
                self._make(name, download=True)

    def _make(self, name: str, download: bool) -> Any:
        arguments = {key: value for key, value in self.arguments.items() if key != 'download' or download}
        return self.cls(**arguments, **({'split': name} if self.takes_split else {}))


class DataModuleSource(Source):
    """A datamodule, of which the datasets are read; its batch transforms are not applied."""

    def __init__(
        self, cls: type, arguments: Mapping[str, Any], splits: Mapping[str, str], splitter: Splitter | None
    ) -> None:
        super().__init__(cls, arguments, splits, splitter)
        self.module: Any = cls(**self.arguments)

    def own(self, name: str) -> Any:
        """The datamodule's ``<name>_dataset`` after ``setup``."""
        self.module.setup('test' if name == 'test' else 'fit')
        return getattr(self.module, f'{name}_dataset', None)

    def download(self) -> None:
        """What the datamodule does."""
        self.module.prepare_data()


def open_source(
    class_path: str,
    arguments: Mapping[str, Any] | None = None,
    splits: Mapping[str, str] | None = None,
    splitter: Splitter | None = None,
) -> Source:
    """The source of a class.

    Args:
        class_path: Module and name of a ``NonGeoDataset`` or ``NonGeoDataModule``.
        arguments: Its arguments, without ``split``.
        splits: As for :class:`Source`. By default ``train``, ``val`` and ``test`` have these names; where there is a
            splitter, or a dataset has no argument ``split``, ``train`` alone.
        splitter: As for :class:`Source`.

    Raises:
        SpecDMError: There is no such class, it is neither of the two, or its arguments do not fit it.
    """
    cls = load_class(class_path)
    is_dataset = issubclass(cls, NonGeoDataset)
    only_train = splitter is not None or (is_dataset and 'split' not in inspect.signature(cls).parameters)
    default = {split: split for split in (('train',) if only_train else SPLITS)}
    kind = DatasetSource if is_dataset else DataModuleSource
    return kind(cls, arguments or {}, splits or default, splitter)


def load_class(class_path: str) -> type:
    """The dataset or datamodule of a class path.

    Raises:
        SpecDMError: There is none, or it is of another kind.
    """
    module, _, name = class_path.rpartition('.')
    try:
        cls = getattr(importlib.import_module(module), name, None) if module else None
    except ModuleNotFoundError as error:
        raise SpecDMError(f'{class_path} cannot be imported: {error}') from error
    if not (isinstance(cls, type) and issubclass(cls, NonGeoDataset | NonGeoDataModule)):
        raise SpecDMError(
            f'{class_path!r} is no class path of a NonGeoDataset or NonGeoDataModule; torchgeo.datasets.LoveDA is one'
        )
    return cls
