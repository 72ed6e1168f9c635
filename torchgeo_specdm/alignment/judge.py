"""A model of real data that says how well a mask fits an image.

The judge is a segmenter or change detector with parameters theta, trained on real pairs alone. A pixel of class y is as
implausible as its loss -log p(y | image; theta) is large (FreeMask, Yang et al., NeurIPS 2023, section 3.2).
"""

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torchgeo_specdm.checkpoint import load_network, save_network
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.spec import DatasetSpec
from torchgeo_specdm.typed import construct

# The encoder halves the image this often; more levels cost memory on disk and see no more of a patch of 64 px
_DEPTH = 3


class Judge(nn.Module):
    """A U-Net (Ronneberger et al., 2015) with the first levels of a ResNet-18.

    Of two dates, one encoder sees each, and the decoder gets the absolute differences of the features (FC-Siam-diff,
    Caye Daudt et al., ICIP 2018); given the dates stacked as channels, it learns the train scenes by heart. Patches of
    any size are accepted: they are padded by repeating the border.

    Args:
        num_dates: Number of dates, T.
        num_bands: Number of bands of a date, C.
        num_classes: Number of classes, K.
        widths: Channels of the decoder, from the lowest resolution to the highest.
    """

    def __init__(
        self, num_dates: int, num_bands: int, num_classes: int, widths: tuple[int, int, int] = (64, 32, 16)
    ) -> None:
        # Samples that no filter judges are read where the library is not installed
        import segmentation_models_pytorch as smp

        super().__init__()
        self.config: dict[str, Any] = {
            'num_dates': num_dates,
            'num_bands': num_bands,
            'num_classes': num_classes,
            'widths': list(widths),
        }
        self.num_classes = num_classes
        self.network = smp.Unet(
            'resnet18',
            encoder_depth=_DEPTH,
            encoder_weights=None,
            decoder_channels=tuple(widths),
            in_channels=num_bands,
            classes=num_classes,
        )
        # Nine tenths of the parameters, which an encoder of this depth never uses
        del self.network.encoder.layer3, self.network.encoder.layer4
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer('mean', torch.zeros(num_bands))
        self.register_buffer('std', torch.ones(num_bands))

    @classmethod
    def for_spec(cls, spec: DatasetSpec) -> 'Judge':
        """An untrained judge of a dataset's pairs."""
        return cls(spec.num_dates, spec.num_bands, spec.num_classes)

    def set_scaling(self, mean: Tensor, std: Tensor) -> None:
        """Set the mean and the standard deviation of each band, ``(C,)`` each, in the dataset's unit."""
        self.mean.copy_(mean)
        self.std.copy_(std)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of the classes.

        Args:
            image: ``(B, T, C, H, W)``, or ``(B, C, H, W)`` for one date; raw units.

        Returns:
            ``(B, K, H, W)``.

        Raises:
            SpecDMError: The number of dates or bands is not the judge's.
        """
        dates, bands = self.config['num_dates'], self.config['num_bands']
        found = tuple(image.shape[1:-2])
        if found != (dates, bands) and (dates, found) != (1, (bands,)):
            raise SpecDMError(
                f'the judge was trained on {dates} date(s) of {bands} bands, but an image is {tuple(image.shape[1:])}'
            )
        height, width = image.shape[-2:]
        x = (image.reshape(-1, bands, height, width) - self.mean.view(-1, 1, 1)) / self.std.view(-1, 1, 1)
        multiple = 2**_DEPTH
        x = F.pad(x, (0, -width % multiple, 0, -height % multiple), mode='replicate')
        features = self.network.encoder(x)
        if dates == 2:
            features = [(feature[1::2] - feature[::2]).abs() for feature in features]
        logits: Tensor = self.network.segmentation_head(self.network.decoder(features))
        return logits[..., :height, :width]

    @torch.no_grad()
    def log_probabilities(self, image: Tensor) -> Tensor:
        """Log-probability of each class at each pixel [nat].

        Args:
            image: As for :meth:`forward`; on any device.

        Returns:
            ``(B, K, H, W)`` float32 on the judge's device.
        """
        return self(image.to(self.mean)).float().log_softmax(1)  # type: ignore[no-any-return]

    def pixel_loss(self, image: Tensor, mask: Tensor) -> Tensor:
        """Loss -log p(mask | image) of each pixel [nat].

        Args:
            image: As for :meth:`forward`.
            mask: ``(B, H, W)`` or ``(B, 1, H, W)`` int64.

        Returns:
            ``(B, H, W)`` float32; NaN where the mask holds no class, so that no mean counts these pixels unnoticed and
            no comparison with a threshold holds there.
        """
        return self.losses(self.log_probabilities(image), mask)

    @staticmethod
    def losses(log_probabilities: Tensor, mask: Tensor) -> Tensor:
        """:meth:`pixel_loss` from ``(B, K, H, W)`` that :meth:`log_probabilities` returned."""
        mask = mask.reshape(len(mask), *mask.shape[-2:]).to(log_probabilities.device)
        labelled = (mask >= 0) & (mask < log_probabilities.shape[1])
        loss = -log_probabilities.gather(1, mask.where(labelled, 0).unsqueeze(1)).squeeze(1)
        return loss.masked_fill(~labelled, torch.nan)

    @torch.no_grad()
    def round_to_half(self) -> None:
        """Round kernels to what :meth:`save_pretrained` in half precision stores."""
        for parameter in self.parameters():
            if parameter.ndim > 1:
                parameter.copy_(parameter.half())

    def save_pretrained(self, folder: str | Path, half_precision: bool = False) -> None:
        """Write ``config.json`` and the weights into ``folder``.

        Args:
            folder: Where to.
            half_precision: Store kernels as float16; they are loaded as float32 all the same.
        """
        save_network(self, self.config, Path(folder), half_precision)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> 'Judge':
        """Load a judge.

        Raises:
            CheckpointError: The folder is missing, damaged or unsafe.
        """
        folder = Path(folder)
        return cast(Judge, load_network(folder, lambda config: construct(cls, config, 'config.json')))
