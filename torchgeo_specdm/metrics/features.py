"""Metrics of two sets of features, whatever computed them: see :mod:`torchgeo_specdm.functional.distances`."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from torchgeo_specdm.functional.coverage import density_coverage
from torchgeo_specdm.functional.distances import frechet_distance, kernel_distance


class FeatureMetric(Metric):
    """Keeps all features it is shown, real and synthetic ones, on the CPU or wherever the metric is."""

    full_state_update = False
    is_differentiable = False
    real: list[Tensor]
    synthetic: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state('real', [], dist_reduce_fx='cat')
        self.add_state('synthetic', [], dist_reduce_fx='cat')

    def update(self, features: Tensor, real: bool) -> None:
        """Add the features of a batch.

        Args:
            features: ``(B, D)``.
            real: Whether these are of real samples.
        """
        (self.real if real else self.synthetic).append(features)

    def compute(self) -> Any:
        """The metric of all features.

        Raises:
            SpecDMError: A set has too few features, or they are not finite.
        """
        return self.compare(self._all(self.real), self._all(self.synthetic))

    @abstractmethod
    def compare(self, real: Tensor, synthetic: Tensor) -> Any:
        """The metric of features ``(N, D)`` and ``(M, D)``."""

    @staticmethod
    def _all(features: list[Tensor]) -> Tensor:
        return dim_zero_cat(features) if len(features) else torch.empty(0, 0)


class FrechetDistance(FeatureMetric):
    """Fréchet distance of real and synthetic features (FID, where they are Inception's).

    Example:
        >>> import torch
        >>> metric = FrechetDistance()
        >>> features = torch.tensor([[0.0, 1.0], [2.0, 0.0], [1.0, 3.0]])
        >>> metric.update(features, real=True)
        >>> metric.update(features + torch.tensor([3.0, 4.0]), real=False)
        >>> metric.compute()
        tensor(25.)
    """

    higher_is_better = False

    def compare(self, real: Tensor, synthetic: Tensor) -> Tensor:
        """See :func:`~torchgeo_specdm.functional.distances.frechet_distance`; ``(N, D)`` and ``(M, D)``."""
        return torch.tensor(frechet_distance(real, synthetic))


class KernelDistance(FeatureMetric):
    """Kernel distance of real and synthetic features (KID, where they are Inception's).

    Unlike torchmetrics' ``KernelInceptionDistance``, which averages over random subsets, it uses all pairs.

    Example:
        >>> import torch
        >>> metric = KernelDistance()
        >>> features = torch.tensor([[0.0, 1.0], [2.0, 0.0], [1.0, 3.0]])
        >>> metric.update(features, real=True)
        >>> metric.update(features + torch.tensor([3.0, 4.0]), real=False)
        >>> metric.compute() > 0
        tensor(True)
    """

    higher_is_better = False

    def compare(self, real: Tensor, synthetic: Tensor) -> Tensor:
        """See :func:`~torchgeo_specdm.functional.distances.kernel_distance`; ``(N, D)`` and ``(M, D)``."""
        return torch.tensor(kernel_distance(real, synthetic))


class DensityCoverage(FeatureMetric):
    """Precision, recall, density and coverage of synthetic features.

    Args:
        k: Which nearest neighbour a ball around a sample reaches to.
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> metric = DensityCoverage(k=2)
        >>> features = torch.arange(8.0).view(4, 2) ** 2
        >>> metric.update(features, real=True)
        >>> metric.update(features, real=False)
        >>> {name: value.item() for name, value in metric.compute().items()}
        {'precision': 1.0, 'recall': 1.0, 'density': 1.0, 'coverage': 1.0}
    """

    higher_is_better = True

    def __init__(self, k: int = 5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.k = k

    def compare(self, real: Tensor, synthetic: Tensor) -> dict[str, Tensor]:
        """See :func:`~torchgeo_specdm.functional.coverage.density_coverage`; ``(N, D)`` and ``(M, D)``."""
        found = density_coverage(real, synthetic, self.k)
        return {name: torch.tensor(value) for name, value in found._asdict().items()}
