r"""The two-stream autoencoder (section 3.1 of the paper).

Image :math:`x` and mask :math:`y` have their own encoder and decoder, which share no parameter:

.. math:: z = [z_x, z_y], \quad z_x \sim \mathcal{N}(\mu_x(x), \sigma_x^2(x)), \quad
          \hat x = D_x(z_x), \quad \hat y = \operatorname{softmax} D_y(z_y)

The loss (equations 1 and 2) is the L1 distance plus :math:`\lambda` times the spectral angle of the image,
the cross-entropy of the mask and a weak KL divergence from the standard normal on both.

The two dates of change detection are one stream, as in the paper, or a stream each with one encoder for both: it then
learns from twice as many images, and date 2 can be generated for a given date 1.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.models.autoencoder import PairAutoencoder, Posterior, Stream
from torchgeo_specdm.models.branches import Branch, find_branch
from torchgeo_specdm.spec import Task, fold_dates, unfold_dates


class TwoStreamAutoencoder(PairAutoencoder):
    """Encodes image-mask pairs into joint latents, image channels first, and decodes them again.

    Args:
        task: Decides the shapes of images and masks, see :mod:`torchgeo_specdm.spec`.
        num_bands: Bands of one date.
        num_classes: Number of classes, K.
        ignore_index: Mask value of unlabelled pixels: encoded as zeros, left out of the cross-entropy.
        architecture: A name in :data:`~torchgeo_specdm.models.branches.BRANCHES`.
        downsample: f [px].
        latent_channels: z of an image stream and of the mask stream.
        width: Width of the image and of the mask branch.
        depth: Residual blocks of a branch.
        separate_dates: Each date is a stream of its own; one image branch encodes both.
        mask_sees_image: The decoder of the mask sees the latents of the image too, so that a mask follows the image
            that it was generated with; it does not train them. ``space_to_depth`` only.

    Raises:
        SpecDMError: There is no such architecture, one date was to be separated, or masks cannot see the image.
    """

    kind = 'two_stream'

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
        separate_dates: bool = False,
        mask_sees_image: bool = False,
    ) -> None:
        make = find_branch(architecture)
        if mask_sees_image and architecture != 'space_to_depth':
            raise SpecDMError(f'mask_sees_image needs architecture: space_to_depth, not {architecture}')
        if separate_dates and task != 'change':
            raise SpecDMError(f'separate_dates needs a task of two dates, not {task}')
        image, mask = latent_channels
        dates = 2 if task == 'change' else 1
        images = (
            [Stream('image1', image), Stream('image2', image)] if separate_dates else [Stream('image', image, dates)]
        )
        super().__init__(
            task,
            num_bands,
            num_classes,
            ignore_index,
            downsample,
            [*images, Stream('mask', mask)],
            {
                'architecture': architecture,
                'downsample': downsample,
                'latent_channels': list(latent_channels),
                'width': list(width),
                'depth': depth,
                'separate_dates': separate_dates,
                'mask_sees_image': mask_sees_image,
            },
        )
        self.separate_dates = separate_dates
        self.mask_sees_image = mask_sees_image
        encoded_dates = 1 if separate_dates else dates
        self.image_branch: Branch = make(encoded_dates * num_bands, image, downsample, width[0], depth)
        seen = {'context': self.channels - mask} if mask_sees_image else {}
        self.mask_branch: Branch = make(num_classes, mask, downsample, width[1], depth, **seen)

    def adopt_image_branch(self, other: PairAutoencoder) -> None:
        """Take over the image branch and the scaling of ``other``, and train them no further.

        So one sensor's image autoencoder serves segmentation and, a stream for each date, change detection.

        Raises:
            SpecDMError: ``other`` has no such branch.
        """
        if not isinstance(other, TwoStreamAutoencoder):
            raise SpecDMError(f'{type(other).__name__} has no image branch to take over: it must be two_stream')
        try:
            self.image_branch.load_state_dict(other.image_branch.state_dict())
        except RuntimeError as error:
            raise SpecDMError(
                'the image branch to take over has other bands, dates, latent_channels, width or depth: '
                f'{other.config} instead of {self.config}'
            ) from error
        self.image_branch.requires_grad_(False)
        self.set_scaling(other.offset, other.gain)

    def _posterior(self, x: Tensor, y: Tensor) -> Posterior:
        moments = [self._encode_image(x), self.mask_branch.encode(y).chunk(2, 1)]
        mean, log_variance = (torch.cat(parts, 1) for parts in zip(*moments, strict=True))
        return Posterior(mean, log_variance.clamp(-30, 20))

    def decode_mask(self, z: Tensor) -> Tensor:
        """Class logits ``(B, K, H, W)`` of joint latents; no image is decoded."""
        image, mask = self._streams(z)
        # No loss of the mask reaches the image branch: the streams are trained apart
        return self.mask_branch.decode(torch.cat([mask, image.detach()], 1) if self.mask_sees_image else mask)

    def _decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        image, _ = self._streams(z)
        return self._unfold(self.image_branch.decode(self._fold(image))), self.decode_mask(z)

    def _streams(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Latents of all images and of the mask."""
        mask = self.streams[-1].channels
        return z[:, :-mask], z[:, -mask:]

    def _encode_image(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self._unfold(part) for part in self.image_branch.encode(self._fold(x)).chunk(2, 1))

    def _fold(self, x: Tensor) -> Tensor:
        """Dates from channels to the batch, where each is a stream: ``(B, 2c, H, W)`` to ``(2B, c, H, W)``."""
        return unfold_dates(x, 2).flatten(0, 1) if self.separate_dates else x

    def _unfold(self, x: Tensor) -> Tensor:
        """Inverse of :meth:`_fold`."""
        return fold_dates(x.view(-1, 2, *x.shape[1:])) if self.separate_dates else x

    def _given_parts(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        parts: dict[str, Tensor] = {}
        names = [stream.name for stream in self.streams]
        for name, value in given.items():
            if name == 'mask':
                parts[name] = self.mask_branch.encode(self._one_hot(value)).chunk(2, 1)[0]
            elif name == 'image':
                latents = self._encode_image(self.normalize(value))[0]
                parts |= dict(zip(names[:-1], latents.chunk(len(names) - 1, 1), strict=True))
            elif name in names:
                one_date = fold_dates((value - self._per_band(self.offset)) / self._per_band(self.gain))
                parts[name] = self.image_branch.encode(one_date).chunk(2, 1)[0]
            else:
                raise SpecDMError(f'given names {name!r}; the streams are {", ".join(names)}')
        return parts
