r"""How far real and synthetic features lie in the same places: precision, recall, density and coverage.

With :math:`B(x)` the open ball around a sample x that reaches to its k-th nearest neighbour in its own set,

- precision: share of synthetic samples in the ball of any real one (Kynkäänniemi et al., 2019)
- recall: share of real samples in the ball of any synthetic one
- density: number of real balls that a synthetic sample lies in, divided by k, on average (Naeem et al., 2020)
- coverage: share of real samples whose ball holds a synthetic one

Precision and density speak of fidelity, recall and coverage of diversity. Two halves of one set do not reach 1.
"""

from typing import NamedTuple

from torch import Tensor

from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.functional.distances import Products


class DensityCoverage(NamedTuple):
    """The four figures, in [0, 1] except for the density, which has no upper limit."""

    precision: float
    recall: float
    density: float
    coverage: float


def density_coverage(real: Tensor, synthetic: Tensor, k: int = 5) -> DensityCoverage:
    """Precision, recall, density and coverage of synthetic features.

    Args:
        real: ``(N, D)`` with N > k.
        synthetic: ``(M, D)`` with M > k.
        k: Which nearest neighbour a ball reaches to.

    Raises:
        SpecDMError: A set is no finite matrix of more than ``k`` rows, or the sets differ in D.
    """
    return density_coverage_of_distances(*Products.of(real, synthetic).distances(), k=k)


def density_coverage_of_distances(real: Tensor, synthetic: Tensor, between: Tensor, k: int = 5) -> DensityCoverage:
    """As :func:`density_coverage`, from the distances within and between the sets.

    Args:
        real: ``(N, N)``.
        synthetic: ``(M, M)``.
        between: ``(N, M)``.
        k: Which nearest neighbour a ball reaches to.

    Raises:
        SpecDMError: A set has no more than ``k`` samples.
    """
    if k < 1 or min(len(real), len(synthetic)) <= k:
        raise SpecDMError(
            f'{len(real)} real and {len(synthetic)} synthetic samples: more than k = {k} >= 1 of each are needed'
        )
    radius, synthetic_radius = _kth_neighbour(real, k), _kth_neighbour(synthetic, k)
    inside = between < radius.unsqueeze(1)
    return DensityCoverage(
        precision=float(inside.any(0).double().mean()),
        recall=float((between < synthetic_radius).any(1).double().mean()),
        density=float(inside.sum(0).double().mean()) / k,
        coverage=float((between.amin(1) < radius).double().mean()),
    )


def _kth_neighbour(distances: Tensor, k: int) -> Tensor:
    """Distance of each sample to its k-th nearest, itself not counted."""
    return distances.topk(k + 1, dim=1, largest=False).values[:, k]
