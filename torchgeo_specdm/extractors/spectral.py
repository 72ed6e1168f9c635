r"""Features that need no network: mean, spread and roughness of an image's spectra.

With x the pixels of an image of C bands, as shares of the dataset's value range, the features are

- the mean of each band, C numbers;
- the upper triangle of :math:`\Sigma^{1/2}`, the principal square root of the bands' covariance over the pixels,
  C (C + 1) / 2 numbers, off-diagonal ones times :math:`\sqrt 2`, so that the Euclidean distance of two rows is the
  Frobenius distance of two matrices (Dryden et al., 2009, https://doi.org/10.1214/09-AOAS249);
- the mean absolute difference of horizontal, plus that of vertical neighbours, C numbers.

The covariance itself is quadratic in x: a few images rich in contrast would outweigh all else. A mask is an image of
one-hot classes, in which ignored pixels are zero.
"""

from typing import Any

import torch
from torch import Tensor

from torchgeo_specdm.extractors.base import Extractor, scale_to_unit
from torchgeo_specdm.spec import DatasetSpec

MAX_CHANNELS = 16
"""More bands or classes than this are averaged in that many groups of neighbours."""

# Of mean, spread and roughness: with these, all three vary about equally between patches of OSCD and of Indian Pines
_IMAGE_WEIGHTS = (1.0, 3.0, 6.0)
_MASK_WEIGHTS = (1.0, 1.0, 5.0)


class Spectral(Extractor):
    """Mean, square root of the covariance, and gradient of bands.

    Args:
        spec: Describes the samples.
        device: Where features are computed.
    """

    name = 'spectral'

    def __init__(self, spec: DatasetSpec, device: str | torch.device = 'cpu') -> None:
        super().__init__(spec, device)
        self.dimensions, self.mask_dimensions = _dimensions(spec.num_bands), _dimensions(spec.num_classes)

    @property
    def settings(self) -> dict[str, Any]:
        """Groups of bands and of classes, scaling and weights."""
        return {
            'weights': None,
            'bands': [[self.spec.bands[band] for band in group] for group in _groups(self.spec.num_bands)],
            'stretch': {'value_range': list(self.spec.value_range), 'transfer': 'linear', 'clipped': False},
            'resize': None,
            'features': ['mean', 'upper triangle of the square root of the covariance', 'mean absolute gradient'],
            'factors': list(_IMAGE_WEIGHTS),
            'masks': {
                'classes': _groups(self.spec.num_classes),
                'encoding': 'one-hot, ignored pixels zero',
                'factors': list(_MASK_WEIGHTS),
            },
        }

    def images(self, image: Tensor) -> Tensor:
        """Features ``(B, dimensions)`` of images ``(B, C, H, W)`` in raw units."""
        return _describe(scale_to_unit(image.to(self.device), self.spec), _IMAGE_WEIGHTS)

    def masks(self, mask: Tensor) -> Tensor:
        """Features ``(B, mask_dimensions)`` of masks ``(B, H, W)``."""
        classes = torch.arange(self.spec.num_classes, device=self.device).view(1, -1, 1, 1)
        return _describe((mask.to(self.device).unsqueeze(1) == classes).float(), _MASK_WEIGHTS)


def _dimensions(channels: int) -> int:
    used = min(channels, MAX_CHANNELS)
    return 2 * used + used * (used + 1) // 2


def _groups(channels: int) -> list[list[int]]:
    """Channels in groups of neighbours, as even as they come."""
    used = min(channels, MAX_CHANNELS)
    return [list(range(channels * group // used, channels * (group + 1) // used)) for group in range(used)]


def _describe(x: Tensor, weights: tuple[float, float, float]) -> Tensor:
    """Features of images ``(B, C, H, W)`` in units of order 1."""
    if x.shape[1] > MAX_CHANNELS:
        x = torch.stack([x[:, group].mean(1) for group in _groups(x.shape[1])], 1)
    x = x.double()
    mean = x.mean((2, 3))
    centred = (x - mean[..., None, None]).flatten(2)
    root = _square_root(centred @ centred.mT / centred.shape[2])
    row, col = torch.triu_indices(*root.shape[1:], device=x.device)
    spread = root[:, row, col] * torch.where(row == col, 1.0, 2**0.5)
    roughness = x.diff(dim=3).abs().mean((2, 3)) + x.diff(dim=2).abs().mean((2, 3))
    blocks = zip(weights, (mean, spread, roughness), strict=True)
    return torch.cat([weight * block for weight, block in blocks], 1).float().cpu()


def _square_root(matrix: Tensor) -> Tensor:
    """Principal square root of positive semi-definite matrices ``(B, C, C)``."""
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * values.clamp_min(0).sqrt().unsqueeze(1)) @ vectors.mT
    return root
