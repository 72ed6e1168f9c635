"""What every downstream model has in common: images of N bands and any size in, logits of their pixels out."""

from torch import Tensor, nn
from torch.nn import functional as F

from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.spec import fold_dates, unfold_dates


class DenseModel(nn.Module):
    """Predicts the logits of the classes at each pixel. Subclasses override :meth:`logits`.

    Images of any size are accepted: they are padded on the right and at the bottom by repeating the border, and the
    logits are cropped. The parts ``encoder`` and ``decoder`` of a model are what TorchGeo's options ``freeze_backbone``
    and ``freeze_decoder`` freeze.

    Args:
        num_bands: C, of one date.
        num_classes: K; 1 for the single logit of a binary task.

    Attributes:
        num_dates: T, 2 for change detection.
        multiple: Height and width that :meth:`logits` sees are multiples of it [px].
    """

    num_dates = 1
    multiple = 32
    encoder: nn.Module
    decoder: nn.Module

    def __init__(self, num_bands: int, num_classes: int) -> None:
        super().__init__()
        if min(num_bands, num_classes) < 1:
            raise SpecDMError(f'a model needs at least one band and one class, not {num_bands} and {num_classes}')
        self.num_bands = num_bands
        self.num_classes = num_classes

    def forward(self, image: Tensor) -> Tensor:
        """Logits of the classes.

        Args:
            image: Normalised; ``(B, C, H, W)``, of two dates ``(B, 2, C, H, W)`` or folded as TorchGeo's change task
                does it, ``(B, 2C, H, W)``.

        Returns:
            ``(B, K, H, W)``.

        Raises:
            SpecDMError: The number of bands or dates is not the model's.
        """
        folded = fold_dates(image)
        if folded.ndim != 4 or folded.shape[1] != self.num_dates * self.num_bands:
            raise SpecDMError(
                f'{type(self).__name__} takes {self.num_dates} date(s) of {self.num_bands} bands, but an image is '
                f'{tuple(image.shape[1:])}'
            )
        height, width = folded.shape[-2:]
        padded = F.pad(folded, (0, -width % self.multiple, 0, -height % self.multiple), mode='replicate')
        return self.logits(unfold_dates(padded, self.num_dates))[..., :height, :width]

    def logits(self, image: Tensor) -> Tensor:
        """Logits ``(B, K, H, W)`` of images ``(B, C, H, W)`` or ``(B, 2, C, H, W)`` of a size that suits the model."""
        raise NotImplementedError

    def extra_loss(self, mask: Tensor) -> Tensor | None:
        """What the model's paper adds to the loss of its logits, of the batch that was last seen in training mode.

        Args:
            mask: ``(B, H, W)`` or ``(B, 1, H, W)``.

        Returns:
            A 0-d tensor, or None where the paper adds nothing.
        """
        return None


class SiameseModel(DenseModel):
    """Change detection by one encoder, which sees each of the two dates."""

    num_dates = 2

    def features(self, image: Tensor) -> list[Tensor]:
        """Features of both dates at each scale.

        Both dates go through the encoder as one batch, so that its batch statistics are those of both.

        Args:
            image: ``(B, 2, C, H, W)``.

        Returns:
            ``(B, 2, C_i, H_i, W_i)``, from the highest resolution to the lowest.
        """
        return [scale.unflatten(0, (len(image), 2)) for scale in self.encoder(image.flatten(0, 1))]


def each_date(network: nn.Module, x: Tensor) -> Tensor:
    """``network``, which maps ``(B, C, H, W)``, on both dates of ``(B, 2, C, H, W)`` as one batch."""
    return network(x.flatten(0, 1)).unflatten(0, (-1, 2))  # type: ignore[no-any-return]


def resize(x: Tensor, like: Tensor) -> Tensor:
    """Interpolate ``(B, C, h, w)`` bilinearly to the height and width of ``like``."""
    return F.interpolate(x, like.shape[-2:], mode='bilinear', align_corners=False)
