"""An extractor maps an image, or a mask, to a vector: what Fréchet distances and nearest neighbours are measured in."""

import importlib
from abc import ABC, abstractmethod
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from torchgeo_specdm.datasets.device import resolve_device
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.spec import DatasetSpec


class Extractor(ABC):
    """Features of the images and of the masks of one dataset; a row depends on no other of its batch.

    Args:
        spec: Describes the samples.
        device: Where features are computed.

    Attributes:
        name: Name of the extractor in :data:`~torchgeo_specdm.extractors.EXTRACTORS`.
        dimensions: Number of features of an image.
        mask_dimensions: Number of features of a mask.

    Raises:
        SpecDMError: The device is not there.
    """

    name: str
    dimensions: int
    mask_dimensions: int

    def __init__(self, spec: DatasetSpec, device: str | torch.device = 'cpu') -> None:
        self.spec = spec
        self.device = resolve_device(device)

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """All that a reader needs to compute the same features, as JSON types."""

    @abstractmethod
    def images(self, image: Tensor) -> Tensor:
        """Features of images.

        Args:
            image: ``(B, C, H, W)`` float32 of one date, in raw units.

        Returns:
            ``(B, dimensions)``, float32, on the CPU.
        """

    @abstractmethod
    def masks(self, mask: Tensor) -> Tensor:
        """Features of masks.

        Args:
            mask: ``(B, H, W)`` int64; values that are no class are ignored.

        Returns:
            ``(B, mask_dimensions)``, float32, on the CPU.
        """


def scale_to_unit(image: Tensor, spec: DatasetSpec) -> Tensor:
    """Raw units as shares of the dataset's ``value_range``: alike for all images, so that radiometry counts."""
    low, high = spec.value_range
    return (image - low) / (high - low)


def require(module: str, package: str, extractor: str) -> ModuleType:
    """An optional module.

    Args:
        module: Its name.
        package: The package that it is in.
        extractor: What needs it.

    Raises:
        SpecDMError: It is not installed; says how to.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise SpecDMError(
            f'the extractor {extractor} needs {package}, which is not installed: '
            "pip install 'torchgeo-specdm[evaluate]'"
        ) from error
