r"""What an autoencoder of image-mask pairs is: pairs to joint latents, and back.

A joint latent ``z (B, Z, h, w)`` holds one range of channels per *stream*, one thing that is encoded on its own. Only
the autoencoder knows how; the denoiser sees the ranges. To add one, subclass :class:`PairAutoencoder` and name it in
:data:`torchgeo_specdm.models.AUTOENCODERS`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.functional import spectral_angle
from torchgeo_specdm.spec import DatasetSpec, Task, fold_dates, one_hot, unfold_dates


@dataclass(frozen=True)
class Stream:
    """A range of channels of the joint latents.

    Attributes:
        name: ``image`` (all dates), ``image1`` or ``image2`` (one date), ``mask``, or ``pair`` (everything).
        channels: z.
        dates: Dates that it holds.
    """

    name: str
    channels: int
    dates: int = 1


@dataclass
class Posterior:
    """The Gaussian over joint latents that a batch was encoded to: ``mean`` and ``log_variance``, ``(B, Z, h, w)``."""

    mean: Tensor
    log_variance: Tensor

    def sample(self) -> Tensor:
        """A reparametrised draw, ``(B, Z, h, w)``."""
        return self.mean + (0.5 * self.log_variance).exp() * torch.randn_like(self.mean)

    def kl(self) -> Tensor:
        """KL divergence from the standard normal [nat] of each channel, summed over batch and places, ``(Z,)``."""
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1 - self.log_variance).sum((0, 2, 3))


class PairAutoencoder(nn.Module):
    """Base of the autoencoders of pairs: units, dates and losses; a subclass encodes and decodes.

    Args:
        task: Decides the shapes of images and masks, see :mod:`torchgeo_specdm.spec`.
        num_bands: Bands of one date.
        num_classes: Number of classes, K.
        ignore_index: Mask value of unlabelled pixels: encoded as zeros, left out of the cross-entropy.
        downsample: f [px].
        streams: In the order of the latents' channels.
        config: Further arguments of the subclass.
    """

    kind: str

    def __init__(
        self,
        task: Task,
        num_bands: int,
        num_classes: int,
        ignore_index: int | None,
        downsample: int,
        streams: Sequence[Stream],
        config: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.task: Task = task
        self.num_dates = 2 if task == 'change' else 1
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.downsample = downsample
        self.streams = tuple(streams)
        self.config = {
            'kind': self.kind,
            'task': task,
            'num_bands': num_bands,
            'num_classes': num_classes,
            'ignore_index': ignore_index,
            **config,
        }
        self.offset: Tensor
        self.gain: Tensor
        # Pixel value p of a band enters the network as (p - offset) / gain
        self.register_buffer('offset', torch.zeros(num_bands))
        self.register_buffer('gain', torch.ones(num_bands))

    @property
    def channels(self) -> int:
        """Z, latent channels of all streams."""
        return sum(stream.channels for stream in self.streams)

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
        """Set what pixel value becomes 0 and what difference becomes 1, ``(C,)`` or 0-d, in the dataset's unit."""
        self.offset.copy_(offset.expand_as(self.offset))
        self.gain.copy_(gain.expand_as(self.gain))

    def normalize(self, image: Tensor) -> Tensor:
        """Raw images ``(B, C, H, W)`` or ``(B, 2, C, H, W)`` as the network sees them, ``(B, T*C, H, W)``."""
        return fold_dates((image - self._per_band(self.offset)) / self._per_band(self.gain))

    def denormalize(self, x: Tensor) -> Tensor:
        """Inverse of :meth:`normalize`: ``(B, T*C, H, W)`` to images in raw units."""
        # The sum in place: it is large
        return (unfold_dates(x, self.num_dates) * self._per_band(self.gain)).add_(self._per_band(self.offset))

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
        return self._posterior(self.normalize(image), self._one_hot(mask))

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Decode joint latents ``(B, Z, h, w)``.

        Returns:
            Images in raw units, and class logits ``(B, K, H, W)``.
        """
        x, logits = self._decode(z)
        return self.denormalize(x), logits

    def decode_mask(self, z: Tensor) -> Tensor:
        """Class logits ``(B, K, H, W)`` of joint latents alone, as :meth:`decode` has them."""
        return self._decode(z)[1]

    def encode_given(self, given: Mapping[str, Tensor]) -> tuple[Tensor, tuple[bool, ...]]:
        """Encode some streams of a batch, from which the others are to be generated.

        Args:
            given: Names of streams, or ``image`` for all dates, and their batches: images in raw units, masks int64.

        Returns:
            Joint latents ``(B, Z, h, w)``, zero where nothing is given, and for each stream whether it is.

        Raises:
            SpecDMError: A name is no stream of this autoencoder, or nothing is left to generate.
        """
        parts = self._given_parts(given)
        if not parts or len(parts) == len(self.streams):
            raise SpecDMError('given must name at least one stream and leave at least one to generate')
        like = next(iter(parts.values()))
        empty = [like.new_zeros(len(like), stream.channels, *like.shape[2:]) for stream in self.streams]
        z = [parts.get(stream.name, zeros) for stream, zeros in zip(self.streams, empty, strict=True)]
        return torch.cat(z, 1), tuple(stream.name in parts for stream in self.streams)

    def losses(self, image: Tensor, mask: Tensor, halved: bool = False) -> dict[str, Tensor]:
        """The four terms of the paper's equations 1 and 2, each a 0-d mean per image value or mask pixel.

        Args:
            image: As for :meth:`encode`.
            mask: As for :meth:`encode`.
            halved: Whether to compute the last term too; h and w must be even.

        Returns:
            ``l1`` in the network's scaling, ``spectral_angle`` [rad], ``cross_entropy`` [nat] and ``kl`` [nat], of the
            mask's stream ``mask_kl``. KL is divided by the number of image values, which keeps LDM's balance of the
            summed terms. ``halved`` is
            L1 plus cross-entropy of what the latents at half their resolution are decoded to, which should be the pair
            at half its resolution: such latents are smooth and easier to generate (EQ-VAE, Kouzelis et al., 2025).
        """
        x, y = self.normalize(image), self._one_hot(mask)
        posterior = self._posterior(x, y)
        z = posterior.sample()
        x_hat, logits = self._decode(z)
        # The angle knows no scale; a mean near 1 keeps its eps meaningful for every unit
        scale = image.abs().mean().clamp_min(1e-12)
        angle = spectral_angle(self.denormalize(x_hat).float() / scale, image / scale, dim=image.ndim - 3)
        labelled = y.sum(1)
        kl = posterior.kl() / x.numel()
        # A mask's stream is the last one
        of_mask = sum(stream.channels for stream in self.streams if stream.name == 'mask')
        others_kl, mask_kl = torch.split(kl, [self.channels - of_mask, of_mask])
        cross_entropy = -(y * F.log_softmax(logits.float(), 1)).sum(1)
        return {
            'l1': (x_hat - x).abs().mean(),
            'spectral_angle': angle.mean(),
            'cross_entropy': cross_entropy.sum() / labelled.sum().clamp_min(1),
            'kl': others_kl.sum(),
            'mask_kl': mask_kl.sum(),
            **({'halved': self._halved(z, x, y)} if halved else {}),
        }

    def _halved(self, z: Tensor, x: Tensor, y: Tensor) -> Tensor:
        x_hat, logits = self._decode(F.avg_pool2d(z, 2))
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        cross_entropy = -(y * F.log_softmax(logits.float(), 1)).sum() / y.sum().clamp_min(1)
        return (x_hat - x).abs().mean() + cross_entropy

    def _posterior(self, x: Tensor, y: Tensor) -> Posterior:
        """Encode normalised images ``(B, T*C, H, W)`` and one-hot masks ``(B, K, H, W)``."""
        raise NotImplementedError

    def _decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised images and class logits."""
        raise NotImplementedError

    def _given_parts(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Latents of the given streams by name; by default a stream cannot be encoded without the others."""
        names = ', '.join(stream.name for stream in self.streams)
        raise SpecDMError(f'{type(self).__name__} cannot encode {", ".join(given)} alone; its streams: {names}')

    def _one_hot(self, mask: Tensor) -> Tensor:
        return one_hot(mask, self.num_classes, self.ignore_index)

    @staticmethod
    def _per_band(values: Tensor) -> Tensor:
        return values.view(-1, 1, 1)
