"""The picture of one segmentation sample, as TorchGeo's datasets plot it."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from torchgeo_specdm.plotting import to_colors, to_rgb
from torchgeo_specdm.spec import DatasetSpec


def plot_segmentation(
    sample: Mapping[str, Tensor], spec: DatasetSpec, show_titles: bool = True, suptitle: str | None = None
) -> Figure:
    """An image in natural colours beside its mask and, where the sample has one, its prediction.

    Args:
        sample: ``image`` ``(C, H, W)``, ``mask`` ``(H, W)`` and, if wanted, ``prediction`` ``(H, W)``.
        spec: Names the bands and the colours.
        show_titles: Whether to print a title over each panel.
        suptitle: A title of the whole figure.

    Returns:
        The figure; the caller closes it.
    """
    panels = {'Image': to_rgb(sample['image'], spec), 'Mask': to_colors(sample['mask'], spec)}
    if 'prediction' in sample:
        panels['Prediction'] = to_colors(sample['prediction'], spec)
    figure: Figure
    figure, axes = plt.subplots(1, len(panels), figsize=(4 * len(panels), 4))
    for axis, (title, panel) in zip(axes, panels.items(), strict=True):
        axis.imshow(panel)
        axis.axis('off')
        if show_titles:
            axis.set_title(title)
    if suptitle is not None:
        figure.suptitle(suptitle)
    return figure
