r"""How much closer a query is to its nearest reference than to any other place.

.. math:: \text{ratio}(q) = \frac{d(q, r_1)}{d(q, r_2)}, \quad d(q, r) = \min_g \|q - g r\|, \quad
          r_1 = \operatorname{argmin}_r d(q, r), \quad r_2 = \operatorname{argmin}_{r \not\sim r_1} d(q, r)

over the eight orientations g of the square, where :math:`r \sim r_1` means that the two show the same ground. A query
that is new lies about as far from the nearest as from the next, a copy far nearer: below 1/3 it is called a copy
(Yoon et al., Diffusion Probabilistic Models Generalize when They Fail to Memorize, ICML 2023 workshop). Without the
condition on ground, a crop that overlaps the copied one would be as near, and hide the copy.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Nearest:
    """The nearest reference of each query, ``(Q,)`` each.

    Attributes:
        ratio: Distance of the nearest over that of the nearest on other ground, in [0, 1]; 1 where nothing sets the
            nearest apart, because both distances are equal or all references share its ground.
        index: Of the nearest reference.
        distance: To the nearest reference, in the unit of the vectors.
        orientation: Number of the leading entry of queries and references (in that order) at which it is nearest.
        other_index: Of the nearest reference on other ground; -1 where there is none.
        other_distance: To that; infinite where there is none.
    """

    ratio: Tensor
    index: Tensor
    distance: Tensor
    orientation: Tensor
    other_index: Tensor
    other_distance: Tensor


def nearest(queries: Tensor, references: Tensor, same_ground: Callable[[Tensor], Tensor], chunk: int = 256) -> Nearest:
    """Find the nearest reference of each query, and the nearest that shows other ground than that.

    Either side may come in several orientations (which is cheaper depends on their numbers); the distance of two is the
    least over all.

    Args:
        queries: ``(Q, D)``, or ``(O, Q, D)`` in O orientations.
        references: ``(N, D)``, or ``(P, N, D)``; N >= 1.
        same_ground: Maps indices of references ``(B,)`` to ``(B, N)`` bool: which references show the same ground as
            these; each shows its own.
        chunk: Queries at a time; memory grows with chunk * (N + D).

    Returns:
        The neighbours, and the ratio of their distances.
    """
    queries = queries if queries.ndim == 3 else queries[None]
    references = references if references.ndim == 3 else references[None]
    # Distances come from a product, which loses digits where vectors are long and differences short
    centre = references[0].float().mean(0)
    starts = range(0, queries.shape[1], chunk)
    parts = [_nearest(queries[:, start : start + chunk], references, centre, same_ground) for start in starts]
    return Nearest(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Nearest)))


def _nearest(queries: Tensor, references: Tensor, centre: Tensor, same_ground: Callable[[Tensor], Tensor]) -> Nearest:
    distances = torch.full((queries.shape[1], references.shape[1]), torch.inf, device=queries.device)
    for turned in references:
        centred = turned.float() - centre
        for query in queries:
            distances = torch.minimum(distances, torch.cdist(query.float() - centre, centred))
    index = distances.argmin(1)
    shared = same_ground(index)
    lonely = shared.all(1)
    other_index = distances.masked_fill(shared, torch.inf).argmin(1)
    # Again without that loss, for these two
    distance, orientation = _exact(queries, references, index)
    other_distance = _exact(queries, references, other_index)[0].masked_fill(lonely, torch.inf)
    apart = (other_distance > distance) & ~lonely
    ratio = torch.where(apart, distance / other_distance, 1.0)
    return Nearest(ratio, index, distance, orientation, other_index.masked_fill(lonely, -1), other_distance)


def _exact(queries: Tensor, references: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Distance ``(B,)`` of each query to one reference, and the number of the orientation of least distance."""
    difference = queries.float()[:, None] - references[:, index].float()[None]
    distances = difference.norm(dim=-1).flatten(0, 1)
    distance, orientation = distances.min(0)
    return distance, orientation
