"""The PointFlow module: semantics flow from a coarse feature map to a fine one at selected points alone.

Li et al., "PointFlow: Flowing Semantics Through Points for Aerial Image Segmentation", CVPR 2021, https://arxiv.org/abs/2103.06564.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torchgeo_specdm.downstream.base import resize


def flow(coarse: Tensor, fine: Tensor, points: Tensor, onto: Tensor) -> Tensor:
    """Add to a fine map at some points what they find at the points of the coarse map.

    The affinity of the point p of the fine map with the point q of the coarse one is the softmax over q of their
    features' product; what p gets is the mean of the coarse features, weighted by it.

    Args:
        coarse: ``(B, C, h, w)``.
        fine: ``(B, C, s h, s w)``, what the points look like.
        points: ``(B, P)`` int64, places y w + x in the coarse map.
        onto: ``(B, C, s h, s w)``, what is changed; a copy is returned.

    Returns:
        ``(B, C, s h, s w)``.
    """
    width = coarse.shape[3]
    step = fine.shape[3] // width
    places = points // width * step * fine.shape[3] + points % width * step
    coarse_index, fine_index = (index.unsqueeze(1).expand(-1, fine.shape[1], -1) for index in (points, places))
    sources = coarse.flatten(2).gather(2, coarse_index).transpose(1, 2)
    targets = fine.flatten(2).gather(2, fine_index).transpose(1, 2)
    arrived = F.scaled_dot_product_attention(targets, sources.to(targets), sources.to(targets), scale=1.0)
    fused = (arrived + targets).transpose(1, 2)
    return onto.flatten(2).scatter(2, fine_index, fused.to(onto)).view_as(onto)


class PointFlow(nn.Module):
    """Moves semantics from a map to the next finer one, at salient points and at boundaries.

    Salient points are the maxima of a saliency map in the cells of a grid. Boundary points are the likeliest ones of a
    boundary map, which is predicted from the coarse features where their saliency, averaged over cells, is taken out.
    Training needs a loss on the boundary map, as the choice of points has no gradient.

    Args:
        width: C.
        embedding: Channels in which saliency is judged.
        salient_cells: Cells per side of the grid of salient points; no more than there are pixels.
        boundary_cells: Cells per side over which saliency is averaged.
        boundary_points: Number of points; no more than there are pixels.
    """

    def __init__(
        self, width: int, embedding: int, salient_cells: int, boundary_cells: int, boundary_points: int
    ) -> None:
        super().__init__()
        self.salient_cells, self.boundary_cells, self.boundary_points = salient_cells, boundary_cells, boundary_points
        self.embed_coarse = nn.Conv2d(width, embedding, 1)
        self.embed_fine = nn.Conv2d(width, embedding, 1)
        self.saliency = nn.Conv2d(2 * embedding, 1, 3, padding=1)
        self.boundary = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 1, 3, padding=1, bias=False),
        )

    def forward(self, coarse: Tensor, fine: Tensor) -> tuple[Tensor, Tensor]:
        """Returns what flowed into the fine map, and the boundary map.

        Args:
            coarse: ``(B, C, h, w)``.
            fine: ``(B, C, s h, s w)``, s an integer.

        Returns:
            ``(B, C, s h, s w)``, and logits ``(B, 1, h, w)``.
        """
        embedded = self.embed_fine(fine)
        embedded = torch.cat([self.embed_coarse(coarse), resize(embedded, coarse)], 1)
        saliency = self.saliency(embedded).sigmoid()
        height, width = coarse.shape[2:]

        mean = resize(F.adaptive_avg_pool2d(saliency, _cells(self.boundary_cells, height, width)), coarse)
        boundary = self.boundary(coarse * (1 - mean))
        edge_points = boundary.detach().flatten(1).topk(min(self.boundary_points, height * width)).indices
        moved = flow(coarse, fine, edge_points, fine)

        peaks, salient_points = F.adaptive_max_pool2d(
            saliency, _cells(self.salient_cells, height, width), return_indices=True
        )
        salient = coarse * (1 + resize(peaks, coarse))
        return flow(salient, fine, salient_points.flatten(1), moved), boundary


def _cells(cells: int, height: int, width: int) -> tuple[int, int]:
    return min(cells, height), min(cells, width)


def boundaries(mask: Tensor) -> Tensor:
    """Pixels that have another class, or no label, among their eight neighbours: ``(B, H, W)`` int64 to bool."""
    values = mask.float().unsqueeze(1)
    highest, lowest = (sign * F.max_pool2d(sign * values, 3, 1, padding=1) for sign in (1, -1))
    return (highest != lowest).squeeze(1)


def balanced_boundary_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy in which pixels on boundaries weigh as much as all others together.

    Args:
        logits: ``(B, 1, H, W)``.
        mask: ``(B, H, W)`` int64.
    """
    target = boundaries(mask)
    share = target.float().mean()
    weight = torch.where(target, 1 - share, share)
    return F.binary_cross_entropy_with_logits(logits.squeeze(1).float(), target.float(), weight)
