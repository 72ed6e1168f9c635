r"""The two-stream autoencoder (section 3.1 of the paper).

Image :math:`x` and mask :math:`y` have their own encoder and decoder, which share no parameter:

.. math:: z = [z_x, z_y], \quad z_x \sim \mathcal{N}(\mu_x(x), \sigma_x^2(x)), \quad
          \hat x = D_x(z_x), \quad \hat y = \operatorname{softmax} D_y(z_y)

The loss (equations 1 and 2) is the L1 distance plus :math:`\lambda` times the spectral angle of the image,
the cross-entropy of the mask and a weak KL divergence from the standard normal on both.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.functional import spectral_angle
from torchgeo_specdm.models.branches import BRANCHES, Branch
from torchgeo_specdm.spec import DatasetSpec, Task, fold_dates, one_hot, unfold_dates

STREAMS = ('image', 'mask')


@dataclass
class Posterior:
    """The Gaussian over joint latents that a batch was encoded to; both tensors are ``(B, Z, h, w)``."""

    mean: Tensor
    log_variance: Tensor

    def sample(self) -> Tensor:
        """A reparametrised draw."""
        return self.mean + (0.5 * self.log_variance).exp() * torch.randn_like(self.mean)

    def kl(self) -> Tensor:
        """KL divergence from the standard normal [nat], summed over everything."""
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1 - self.log_variance).sum()


class TwoStreamAutoencoder(nn.Module):
    """Encodes image-mask pairs into joint latents, image channels first, and decodes them again.

    Args:
        task: Decides the shapes of images and masks, see :mod:`torchgeo_specdm.spec`.
        num_bands: Bands of one date.
        num_classes: K.
        ignore_index: Mask value of unlabelled pixels: encoded as zeros, left out of the cross-entropy.
        architecture: A name in :data:`~torchgeo_specdm.models.branches.BRANCHES`.
        downsample: f [px].
        latent_channels: z of the image and of the mask stream.
        width: Width of the image and of the mask branch.
        depth: Residual blocks of a branch.
    """

    def __init__(
        self,
        task: Task,
        num_bands: int,
        num_classes: int,
        ignore_index: int | None = None,
        *,
        architecture: str = 'space_to_depth',
        downsample: int = 4,
        latent_channels: Sequence[int] = (6, 3),
        width: Sequence[int] = (128, 64),
        depth: int = 2,
    ) -> None:
        super().__init__()
        if architecture not in BRANCHES:
            raise SpecDMError(f'architecture is {architecture!r}; it must be one of {", ".join(BRANCHES)}')
        self.config = {
            'task': task,
            'num_bands': num_bands,
            'num_classes': num_classes,
            'ignore_index': ignore_index,
            'architecture': architecture,
            'downsample': downsample,
            'latent_channels': list(latent_channels),
            'width': list(width),
            'depth': depth,
        }
        self.task: Task = task
        self.num_dates = 2 if task == 'change' else 1
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.downsample = downsample
        self.latent_channels = tuple(latent_channels)
        channels = (self.num_dates * num_bands, num_classes)
        image, mask = (
            BRANCHES[architecture](c, z, downsample, w, depth)
            for c, z, w in zip(channels, latent_channels, width, strict=True)
        )
        self.image_branch: Branch = image
        self.mask_branch: Branch = mask
        self.offset: Tensor
        self.gain: Tensor
        # Pixel value p of a band enters the network as (p - offset) / gain
        self.register_buffer('offset', torch.zeros(num_bands))
        self.register_buffer('gain', torch.ones(num_bands))

    def check_patch_size(self, spec: DatasetSpec) -> None:
        """Refuse patches that cannot be folded.

        Raises:
            SpecDMError: The patch size is not a multiple of the downsampling factor.
        """
        if spec.patch_size % self.downsample:
            raise SpecDMError(
                f'patch_size {spec.patch_size} px is not divisible by the downsampling factor {self.downsample} '
                f'of the autoencoder; choose a multiple of {self.downsample}'
            )

    def set_scaling(self, offset: Tensor, gain: Tensor) -> None:
        """Set what pixel value becomes 0 and what difference becomes 1, per band, in the dataset's unit."""
        self.offset.copy_(offset.expand_as(self.offset))
        self.gain.copy_(gain.expand_as(self.gain))

    def normalize(self, image: Tensor) -> Tensor:
        """Raw images ``(B, C, H, W)`` or ``(B, 2, C, H, W)`` as the network sees them, ``(B, T*C, H, W)``."""
        return fold_dates((image - self._per_band(self.offset)) / self._per_band(self.gain))

    def denormalize(self, x: Tensor) -> Tensor:
        """Inverse of :meth:`normalize`."""
        return unfold_dates(x, self.num_dates) * self._per_band(self.gain) + self._per_band(self.offset)

    def encode(self, image: Tensor, mask: Tensor) -> Posterior:
        """Encode a batch.

        Args:
            image: ``(B, C, H, W)`` or ``(B, 2, C, H, W)``, raw units.
            mask: ``(B, H, W)`` or ``(B, 1, H, W)``, int64.

        Returns:
            Posterior over joint latents ``(B, Z, H/f, W/f)``.

        Raises:
            SpecDMError: The mask holds a value that is neither a class nor the ignore index.
        """
        return self._posterior(self.normalize(image), one_hot(mask, self.num_classes, self.ignore_index))

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Decode joint latents ``(B, Z, h, w)``.

        Returns:
            Images in raw units, and class logits ``(B, K, H, W)``.
        """
        x, logits = self._decode(z)
        return self.denormalize(x), logits

    def losses(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """The four terms of the paper's equations 1 and 2, each a mean per image value or mask pixel.

        Args:
            image: As for :meth:`encode`.
            mask: As for :meth:`encode`.

        Returns:
            ``l1`` in the network's scaling, ``spectral_angle`` [rad], ``cross_entropy`` [nat] and ``kl`` [nat].
            KL is divided by the number of image values, which keeps LDM's balance of the summed terms.
        """
        x, y = self.normalize(image), one_hot(mask, self.num_classes, self.ignore_index)
        posterior = self._posterior(x, y)
        x_hat, logits = self._decode(posterior.sample())
        # The angle knows no scale; a mean near 1 keeps its eps meaningful for every unit
        scale = image.abs().mean().clamp_min(1e-12)
        angle = spectral_angle(self.denormalize(x_hat).float() / scale, image / scale, dim=image.ndim - 3)
        labelled = y.sum(1)
        cross_entropy = -(y * F.log_softmax(logits.float(), 1)).sum(1)
        return {
            'l1': (x_hat - x).abs().mean(),
            'spectral_angle': angle.mean(),
            'cross_entropy': cross_entropy.sum() / labelled.sum().clamp_min(1),
            'kl': posterior.kl() / x.numel(),
        }

    def _posterior(self, x: Tensor, y: Tensor) -> Posterior:
        moments = [self.image_branch.encode(x).chunk(2, 1), self.mask_branch.encode(y).chunk(2, 1)]
        mean, log_variance = (torch.cat(parts, 1) for parts in zip(*moments, strict=True))
        return Posterior(mean, log_variance.clamp(-30, 20))

    def _decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        image, mask = torch.split(z, list(self.latent_channels), 1)
        return self.image_branch.decode(image), self.mask_branch.decode(mask)

    @staticmethod
    def _per_band(values: Tensor) -> Tensor:
        return values.view(-1, 1, 1)
