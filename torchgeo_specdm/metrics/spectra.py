"""Metrics of spectra: see :mod:`torchgeo_specdm.functional.spectra`."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from torchgeo_specdm.functional import spectral_angle
from torchgeo_specdm.functional.spectra import ClassSums, class_sums


class ClassSpectralAngle(Metric):
    """Spectral angle between the real and the synthetic mean spectrum of each class (mSAD) [rad].

    Pixels without a label and pixels whose spectrum is zero (no data) are left out.

    Args:
        num_classes: Number of classes, K.
        num_bands: Number of bands of a date, C.
        num_dates: Number of dates, T.
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> metric = ClassSpectralAngle(num_classes=3, num_bands=2)
        >>> mask = torch.tensor([[[0, 1], [1, 255]]])
        >>> image = torch.ones(1, 2, 2, 2)
        >>> metric.update(image, mask, real=True)
        >>> image[:, 0, 0, 1] = image[:, :, 1, 0] = 0  # class 1: one spectrum turned, one without data
        >>> metric.update(image, mask, real=False)
        >>> metric.compute()
        tensor([[1.0000e-06, 7.8540e-01,        nan]], dtype=torch.float64)
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False

    def __init__(self, num_classes: int, num_bands: int, num_dates: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_classes, self.num_bands, self.num_dates = num_classes, num_bands, num_dates
        for side in ('real', 'synthetic'):
            self.add_state(f'{side}_pixels', torch.zeros(num_classes, dtype=torch.float64), dist_reduce_fx='sum')
            sums = torch.zeros(num_dates, num_classes, num_bands, dtype=torch.float64)
            self.add_state(f'{side}_sums', sums, dist_reduce_fx='sum')

    def update(self, image: Tensor, mask: Tensor, real: bool) -> None:
        """Add the pixels of a batch.

        Args:
            image: ``(B, C, H, W)`` or ``(B, T, C, H, W)``, in a unit with a true zero.
            mask: ``(B, H, W)`` or ``(B, 1, H, W)``; a value that is no class is ignored.
            real: Whether these are real samples.
        """
        height, width = mask.shape[-2:]
        image = image.reshape(-1, self.num_dates, self.num_bands, height, width)
        found = class_sums(image, mask.reshape(-1, height, width), self.num_classes)
        side = 'real' if real else 'synthetic'
        setattr(self, f'{side}_pixels', getattr(self, f'{side}_pixels') + found.pixels.sum(0))
        setattr(self, f'{side}_sums', getattr(self, f'{side}_sums') + found.sums.sum(0))

    def compute(self) -> Tensor:
        """Angles ``(T, K)`` [rad]; NaN for a class that one side lacks, to be left out of a mean."""
        real, synthetic = (self._mean(side) for side in ('real', 'synthetic'))
        both = real.isfinite().all(-1) & synthetic.isfinite().all(-1)
        return spectral_angle(synthetic, real, dim=-1).where(both, torch.nan)

    def _mean(self, side: str) -> Tensor:
        sums = getattr(self, f'{side}_sums')
        return ClassSums(getattr(self, f'{side}_pixels'), sums, sums).mean
