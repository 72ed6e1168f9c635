"""Features of pretrained networks, and the weights that are downloaded for them."""

import pickle
from abc import abstractmethod
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from torchgeo_specdm.datasets.device import same_arithmetic
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.extractors.base import Extractor
from torchgeo_specdm.spec import DatasetSpec


class NetworkExtractor(Extractor):
    """Features of a network that is loaded once and never trained.

    Args:
        spec: Describes the samples.
        device: Where the network runs.

    Raises:
        SpecDMError: The device, a package or the weights are not there.
    """

    def __init__(self, spec: DatasetSpec, device: str | torch.device = 'cpu') -> None:
        super().__init__(spec, device)
        self.network = self.load().to(self.device).eval().requires_grad_(False)

    @abstractmethod
    def load(self) -> nn.Module:
        """The network with its weights, on the CPU."""

    @abstractmethod
    def forward_images(self, image: Tensor) -> Tensor:
        """Features ``(B, dimensions)`` of images ``(B, C, H, W)`` in raw units, on the device."""

    @abstractmethod
    def forward_masks(self, mask: Tensor) -> Tensor:
        """Features ``(B, mask_dimensions)`` of masks ``(B, H, W)``, on the device."""

    def images(self, image: Tensor) -> Tensor:
        """Features ``(B, dimensions)`` of images ``(B, C, H, W)`` in raw units."""
        with self._arithmetic():
            return self.forward_images(image.to(self.device)).float().cpu()

    def masks(self, mask: Tensor) -> Tensor:
        """Features ``(B, mask_dimensions)`` of masks ``(B, H, W)``."""
        with self._arithmetic():
            return self.forward_masks(mask.to(self.device)).float().cpu()

    def _arithmetic(self) -> Any:
        # TF32, which a GPU uses by default, would change the third digit of a feature
        return same_arithmetic(self.device) if self.device.type == 'cuda' else nullcontext()


def download_weights(url: str, extractor: str) -> dict[str, Tensor]:
    """The weights at ``url``, downloaded once into the cache of ``torch.hub``.

    Args:
        url: Its file name ends in the first digits of its SHA-256.
        extractor: What needs the weights.

    Raises:
        SpecDMError: They cannot be downloaded, or are not what they must be.
    """
    try:
        weights: dict[str, Tensor] = torch.hub.load_state_dict_from_url(
            url, map_location='cpu', progress=False, check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise SpecDMError(
            f'the weights of the extractor {extractor} cannot be had from {url} ({error}): put that file into '
            f'{torch.hub.get_dir()}/checkpoints, or use the extractor lite0 or spectral, which need no network'
        ) from error
    return weights
