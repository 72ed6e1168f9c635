"""SegFormer for images of N bands: a mapping layer to three channels before a backbone for RGB images.

Xie et al., "SegFormer: Simple and Efficient Design for Semantic Segmentation with Transformers", NeurIPS 2021; the
mapping layer is SpecDM's (section 3.4).
"""

import segmentation_models_pytorch as smp
from torch import Tensor, nn

from torchgeo_specdm.downstream.base import DenseModel
from torchgeo_specdm.downstream.resnet import require_weights
from torchgeo_specdm.errors import SpecDMError

# Width of the decoder for each backbone, as its authors configure it
DECODER_WIDTHS = {'mit_b0': 256, 'mit_b1': 256, 'mit_b2': 768, 'mit_b3': 768, 'mit_b4': 768, 'mit_b5': 768}


class SegFormer(DenseModel):
    """SegFormer after a mapping layer.

    The layer makes ``(B, 3, H, W)``; features are ``(B, C_i, H / 2^(i+2), W / 2^(i+2))`` with 64, 128, 320 and 512
    channels (half as many with mit_b0); the decoder fuses them to ``(B, 768 or 256, H/4, W/4)``; logits are
    interpolated to ``(B, K, H, W)``.

    Args:
        num_bands: C.
        num_classes: K.
        backbone: A key of :data:`DECODER_WIDTHS`.
        weights: ``imagenet`` or None.

    Raises:
        SpecDMError: There is no such backbone or weights.
    """

    def __init__(
        self, num_bands: int, num_classes: int, *, backbone: str = 'mit_b5', weights: str | None = None
    ) -> None:
        super().__init__(num_bands, num_classes)
        if backbone not in DECODER_WIDTHS:
            raise SpecDMError(f'backbone is {backbone!r}; it must be one of {", ".join(DECODER_WIDTHS)}')
        require_weights(weights)
        network = smp.Segformer(
            backbone,
            encoder_weights=weights,
            decoder_segmentation_channels=DECODER_WIDTHS[backbone],
            in_channels=3,
            classes=num_classes,
        )
        self.mapping = nn.Conv2d(num_bands, 3, 1)
        self.encoder, self.decoder, self.head = network.encoder, network.decoder, network.segmentation_head

    def logits(self, image: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, K, H, W)``."""
        return self.head(self.decoder(self.encoder(self.mapping(image))))  # type: ignore[no-any-return]
