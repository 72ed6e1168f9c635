"""Features of the Inception network of the Fréchet Inception distance, for comparison with published figures.

Heusel et al., GANs trained by a two time-scale update rule (NeurIPS 2017); weights and arithmetic are torch-fidelity's
port of the original ones, which Fréchet distances depend on. They see three bands only.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchgeo_specdm.extractors import rendering
from torchgeo_specdm.extractors.base import require
from torchgeo_specdm.extractors.network import NetworkExtractor, download_weights

_MODULE = 'torch_fidelity.feature_extractor_inceptionv3'


class Inception(NetworkExtractor):
    """The 2048 features of the last pooling of Inception v3, of pictures in natural colours.

    Args:
        spec: Describes the samples.
        device: Where the network runs.

    Raises:
        SpecDMError: torch-fidelity (extra ``evaluate``), the device or, without network, the weights are not there.
    """

    name = 'inception'
    dimensions = 2048
    mask_dimensions = 2048

    @property
    def settings(self) -> dict[str, Any]:
        """Weights and preprocessing."""
        return {
            'weights': Path(self._torch_fidelity().URL_INCEPTION_V3).name,
            **rendering.describe_images(self.spec),
            'resize': "bilinear to 299 px, as TensorFlow 1's",
            'normalisation': {'rounded_to': 'uint8', 'mean': 128, 'std': 128},
            'masks': {**rendering.describe_masks(self.spec), 'resize': 'as images'},
        }

    def load(self) -> nn.Module:
        """torch-fidelity's network."""
        module = self._torch_fidelity()
        # torch-fidelity would unpickle whatever the file holds; once this has read it, it is known to hold tensors
        download_weights(module.URL_INCEPTION_V3, self.name)
        file = Path(torch.hub.get_dir(), 'checkpoints', Path(module.URL_INCEPTION_V3).name)
        network: nn.Module = module.FeatureExtractorInceptionV3(self.name, ['2048'], str(file))
        return network

    def forward_images(self, image: Tensor) -> Tensor:
        """Features ``(B, 2048)`` of images."""
        return self._features(rendering.render_images(image, self.spec))

    def forward_masks(self, mask: Tensor) -> Tensor:
        """Features ``(B, 2048)`` of masks; resized as images are, as published figures of masks are."""
        return self._features(rendering.render_masks(mask, self.spec))

    def _features(self, picture: Tensor) -> Tensor:
        (found,) = self.network((255 * picture).round().byte())
        return found  # type: ignore[no-any-return]

    def _torch_fidelity(self) -> Any:
        return require(_MODULE, 'torch-fidelity', self.name)
