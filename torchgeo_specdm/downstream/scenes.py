"""Whole scenes: logits blended from overlapping tiles, and counts of pixels scene by scene.

A patch of a city says little about a model of change: 5 % of OSCD's test pixels changed, and most of these lie in few
places. So each test city is predicted whole, and each of its pixels counts once.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from torchgeo_specdm.comparison import Counts, classes_of, count_pixels
from torchgeo_specdm.datasets.patches import patch_origins
from torchgeo_specdm.errors import SpecDMError


def blending_weights(size: int) -> Tensor:
    """Weight of each pixel of a tile, ``(size, size)``: highest in the centre, linear towards the borders, never 0."""
    ramp = torch.arange(1.0, size + 1)
    ramp = ramp.minimum(ramp.flip(0))
    return ramp.outer(ramp) / ramp.max() ** 2


@torch.no_grad()
def predict_scene(
    model: nn.Module, image: Tensor, tile: int = 128, overlap: float = 0.5, batch_size: int = 16
) -> Tensor:
    """Logits of a scene, each the weighted mean of those of the tiles that cover the pixel.

    Args:
        model: In evaluation mode; makes logits ``(B, K, t, t)`` of tiles. The tiles go to the device of its weights.
        image: Normalised, ``(C, H, W)`` or ``(2, C, H, W)``.
        tile: Height and width of a tile [px]; that of the scene's shorter side where that is less.
        overlap: Share of a tile that its neighbour covers too, in [0, 1).
        batch_size: Tiles in a batch.

    Returns:
        ``(K, H, W)`` float32 on the CPU.

    Raises:
        SpecDMError: Tile or overlap is out of range.
    """
    height, width = image.shape[-2:]
    size = min(tile, height, width)
    origins = patch_origins(height, width, size, overlap)
    device = next((parameter.device for parameter in model.parameters()), torch.device('cpu'))
    weights = blending_weights(size)
    total: Tensor | None = None
    covered = torch.zeros(height, width)
    for start in range(0, len(origins), batch_size):
        windows = [
            (..., slice(row, row + size), slice(col, col + size)) for row, col in origins[start : start + batch_size]
        ]
        logits = model(torch.stack([image[window] for window in windows]).to(device)).float().cpu()
        if total is None:
            total = torch.zeros(logits.shape[1], height, width)
        for window, each in zip(windows, logits, strict=True):
            total[window] += weights * each
            covered[window] += weights
    assert total is not None, 'patch_origins covers every scene'
    return total / covered


def count_scenes(
    model: nn.Module,
    scenes: Iterable[Mapping[str, Tensor]],
    mean: Tensor,
    std: Tensor,
    num_classes: int = 2,
    *,
    tile: int = 128,
    overlap: float = 0.5,
    batch_size: int = 16,
) -> Counts:
    """Predict whole scenes and count the pixels of each.

    The counts ``(G, K)`` are what :func:`torchgeo_specdm.comparison.compare` resamples by group; their sum over the
    scenes is what the scores of a test set come from. Of two classes they are the confusion matrix.

    Args:
        model: A downstream model; it is put into evaluation mode, and left in the mode it was in.
        scenes: Samples with ``image`` (raw units, as for :func:`predict_scene`) and ``mask``, each of its own size:
            ``OSCD(root, 'test', patch_size=None)``, for one.
        mean: Mean of each band, ``(C,)``, which the model was trained with.
        std: Standard deviation of each band, ``(C,)``.
        num_classes: K; pixels of any other label do not count.
        tile: As for :func:`predict_scene`, like the next two.
        overlap: See there.
        batch_size: See there.

    Returns:
        Counts ``(G, K)`` of G scenes, in their order.

    Raises:
        SpecDMError: There is no scene, tile or overlap is out of range, or the bands are not the model's.
    """
    mean, std = mean.view(-1, 1, 1), std.view(-1, 1, 1)
    training = model.training
    model.eval()
    try:
        found = []
        for scene in scenes:
            logits = predict_scene(model, (scene['image'] - mean) / std, tile, overlap, batch_size)
            found.append(count_pixels(classes_of(logits.unsqueeze(0)), scene['mask'].unsqueeze(0), num_classes))
    finally:
        model.train(training)
    if not found:
        raise SpecDMError('there is no scene to count: give at least one sample')
    return Counts(*(torch.cat(parts) for parts in zip(*found, strict=True)))
