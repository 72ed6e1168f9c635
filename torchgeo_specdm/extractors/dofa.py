"""Features of DOFA, a vision transformer whose first layer is made for the wavelengths of whatever bands it is shown.

Xiong et al., Neural plasticity-inspired multimodal foundation model for Earth observation,
https://arxiv.org/abs/2403.15356; the network and its weights are TorchGeo's.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.extractors import rendering
from torchgeo_specdm.extractors.base import scale_to_unit
from torchgeo_specdm.extractors.network import NetworkExtractor, download_weights
from torchgeo_specdm.spec import DatasetSpec

_SIZE = 224
# Centre and spread, as shares of the value range: about those of land in reflectance. DOFA was trained on images
# that each sensor's own statistics standardise; fixed numbers serve every dataset alike.
_IMAGE_MEAN, _IMAGE_STD = 0.2, 0.1
_MASK_MEAN, _MASK_STD = 0.5, 0.25
_RGB_MICROMETRES = (0.665, 0.56, 0.49)
# TorchGeo makes these anew, whatever the weights: a normalisation by one and zero, and a classifier that is not used
_NOT_IN_FILE = {'fc_norm.weight', 'fc_norm.bias', 'head.weight', 'head.bias'}


class DOFA(NetworkExtractor):
    """The 768 features of DOFA base with patches of 16 px, averaged over patches, of all bands.

    Args:
        spec: Describes the samples; needs wavelengths.
        device: Where the network runs.

    Raises:
        SpecDMError: The spec has no wavelengths, or the device or, without network, the weights are not there.
    """

    name = 'dofa'
    dimensions = 768
    mask_dimensions = 768

    def __init__(self, spec: DatasetSpec, device: str | torch.device = 'cpu') -> None:
        if spec.wavelengths is None:
            raise SpecDMError(
                f'the extractor dofa needs the wavelengths of the bands, which {spec.name or "the dataset"} '
                'does not declare: declare them, or use the extractor lite0 or spectral'
            )
        self.wavelengths = [nanometres / 1000 for nanometres in spec.wavelengths]
        super().__init__(spec, device)

    @property
    def settings(self) -> dict[str, Any]:
        """Weights and preprocessing."""
        return {
            'weights': Path(_models().DOFABase16_Weights.DOFA_MAE.url).name,
            'bands': [name or band for band, name in enumerate(self.spec.bands)],
            'wavelengths_um': self.wavelengths,
            'stretch': {'value_range': list(self.spec.value_range), 'transfer': 'linear', 'clipped': False},
            'resize': f'bilinear to {_SIZE} px, antialiased',
            'normalisation': {'mean': _IMAGE_MEAN, 'std': _IMAGE_STD},
            'masks': {
                **rendering.describe_masks(self.spec),
                'wavelengths_um': list(_RGB_MICROMETRES),
                'resize': f'nearest to {_SIZE} px',
                'normalisation': {'mean': _MASK_MEAN, 'std': _MASK_STD},
            },
        }

    def load(self) -> nn.Module:
        """TorchGeo's network."""
        network: nn.Module = _models().dofa_base_patch16_224()
        url = _models().DOFABase16_Weights.DOFA_MAE.url
        missing, unexpected = network.load_state_dict(download_weights(url, self.name), strict=False)
        if unexpected or not set(missing) <= _NOT_IN_FILE:
            raise SpecDMError(f'{Path(url).name} does not hold the weights of DOFA base: delete it from the cache')
        return network

    def forward_images(self, image: Tensor) -> Tensor:
        """Features ``(B, 768)`` of images."""
        share = rendering.resize_images(scale_to_unit(image, self.spec), _SIZE)
        return self._features((share - _IMAGE_MEAN) / _IMAGE_STD, self.wavelengths)

    def forward_masks(self, mask: Tensor) -> Tensor:
        """Features ``(B, 768)`` of masks, as pictures in the bands red, green and blue."""
        picture = rendering.resize_masks(rendering.render_masks(mask, self.spec), _SIZE)
        return self._features((picture - _MASK_MEAN) / _MASK_STD, list(_RGB_MICROMETRES))

    def _features(self, x: Tensor, wavelengths: list[float]) -> Tensor:
        network: Any = self.network
        found: Tensor = network.forward_features(x, wavelengths)
        return found


def _models() -> Any:
    """TorchGeo's, imported here alone, because the other extractors do without."""
    from torchgeo import models

    return models
