r"""Spectral angle between two spectra :math:`u, v` (Kruse et al., 1993), equation 1 of the SpecDM paper.

.. math:: \theta(u, v) = \arccos \frac{u \cdot v}{\|u\| \|v\|}
                       = 2 \operatorname{atan2}(\|\hat u - \hat v\|, \|\hat u + \hat v\|)

The second form (Kahan) is exact for small angles, where the first loses half of the digits and has no finite gradient.
"""

import torch
from torch import Tensor


def spectral_angle(prediction: Tensor, target: Tensor, dim: int = 1, eps: float = 1e-6) -> Tensor:
    """Angle between the spectra of two images, pixel by pixel.

    A spectrum shorter than ``eps`` has no direction: its angle and its gradient are 0.

    Args:
        prediction: Spectra along ``dim``, ``(B, C, ...)`` by default, in a unit with a true zero (reflectance,
            radiance, DN), any scale.
        target: Same shape.
        dim: The dimension of the bands.
        eps: Smallest length of a spectrum, in the spectra's unit; also the resolution of the result [rad].

    Returns:
        Angles [rad] between 0 and pi, ``dim`` removed. Finite, with finite gradients, everywhere.
    """
    directed = (prediction.norm(dim=dim) > eps) & (target.norm(dim=dim) > eps)
    ones = torch.ones_like(prediction)
    # Undirected spectra are replaced before dividing: masking afterwards would leave NaN in the gradient
    u = _unit(torch.where(directed.unsqueeze(dim), prediction, ones), dim)
    v = _unit(torch.where(directed.unsqueeze(dim), target, ones), dim)
    difference = ((u - v).square().sum(dim) + eps**2).sqrt()
    total = ((u + v).square().sum(dim) + eps**2).sqrt()
    return torch.where(directed, 2 * torch.atan2(difference, total), 0.0)


def _unit(spectra: Tensor, dim: int) -> Tensor:
    length: Tensor = spectra.norm(dim=dim, keepdim=True)
    return spectra / length
