"""Pictures of image-mask pairs, drawn from nothing but tensors and their spec."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from torchgeo_specdm.spec import DatasetSpec

# Centre wavelengths [nm] of what the eye calls red, green and blue, and of near infrared
_RGB_NM = (665.0, 560.0, 490.0)
_NIR_NM = 842.0
# A band further from its colour than this shows something else
_TOLERANCE_NM = 60.0


Stretch = tuple[NDArray[np.float64], NDArray[np.float64]]


def rgb_bands(spec: DatasetSpec) -> tuple[int, ...]:
    """Channels to show as red, green and blue: nearest in wavelength where declared, else the first three."""
    if spec.wavelengths is None:
        return tuple(min(channel, spec.num_bands - 1) for channel in range(3))
    return tuple(_nearest(spec.wavelengths, nm) for nm in _RGB_NM)


def false_color_bands(spec: DatasetSpec) -> tuple[int, ...] | None:
    """Channels of near infrared, red and green, in which plants are red; None without bands of these wavelengths."""
    if spec.wavelengths is None:
        return None
    wanted = (_NIR_NM, *_RGB_NM[:2])
    found = tuple(_nearest(spec.wavelengths, nm) for nm in wanted)
    near = (abs(spec.wavelengths[band] - nm) <= _TOLERANCE_NM for band, nm in zip(found, wanted, strict=True))
    return found if all(near) else None


def _nearest(wavelengths: Sequence[float], nm: float) -> int:
    return min(range(len(wavelengths)), key=lambda band: abs(wavelengths[band] - nm))


def to_rgb(
    image: Tensor, spec: DatasetSpec, limits: Stretch | None = None, bands: Sequence[int] | None = None
) -> NDArray[np.float64]:
    """One date ``(C, H, W)`` in raw units as ``(H, W, 3)`` between 0 and 1.

    Args:
        image: Raw units.
        spec: Names the bands.
        limits: Values of each shown band that become 0 and 1; by default its 2nd and 98th percentile.
        bands: Channels shown as red, green and blue; by default :func:`rgb_bands`.
    """
    low, high = limits or stretch(image, spec, bands)
    shown = image[list(bands or rgb_bands(spec))].movedim(0, -1).double().numpy()
    stretched: NDArray[np.float64] = np.clip((shown - low) / np.maximum(high - low, 1e-9), 0, 1)
    return stretched


def stretch(images: Tensor, spec: DatasetSpec, bands: Sequence[int] | None = None) -> Stretch:
    """The 2nd and 98th percentile of each shown band of images ``(..., C, H, W)``."""
    # Band by band: radiances of different bands differ by more than the contrast within one
    shown = images[..., list(bands or rgb_bands(spec)), :, :].movedim(-3, -1).double().numpy()
    low, high = np.percentile(shown.reshape(-1, shown.shape[-1]), (2, 98), axis=0)
    return low, high


def class_colors(spec: DatasetSpec) -> NDArray[np.float64]:
    """The colour of each class, ``(K, 3)`` between 0 and 1: the palette where there is one."""
    if spec.palette is not None:
        return np.asarray(spec.palette, float) / 255
    return np.array([plt.get_cmap('tab20')(value % 20)[:3] for value in range(spec.num_classes)])


def to_colors(mask: Tensor, spec: DatasetSpec) -> NDArray[np.float64]:
    """A mask ``(H, W)`` or ``(1, H, W)`` as ``(H, W, 3)``; pixels without a label are white."""
    colors = np.vstack([class_colors(spec), np.ones((1, 3))])
    index = mask.reshape(mask.shape[-2:]).numpy()
    valid = (index >= 0) & (index < spec.num_classes)
    picked: NDArray[np.float64] = colors[np.where(valid, index, spec.num_classes)]
    return picked


def mask_edges(mask: Tensor) -> NDArray[np.float64]:
    """The sides between pixels of different value, as lines in the coordinates of ``imshow``.

    Args:
        mask: ``(H, W)`` or ``(1, H, W)``.

    Returns:
        ``(N, 2, 2)``: N lines, each from one (x, y) to another.
    """
    values = mask.reshape(mask.shape[-2:]).numpy()
    row, column = np.nonzero(values[1:] != values[:-1])
    flat = np.stack([np.stack([column - 0.5, row + 0.5], -1), np.stack([column + 0.5, row + 0.5], -1)], 1)
    row, column = np.nonzero(values[:, 1:] != values[:, :-1])
    upright = np.stack([np.stack([column + 0.5, row - 0.5], -1), np.stack([column + 0.5, row + 0.5], -1)], 1)
    return np.concatenate([flat, upright])


def plot_sample(
    sample: Mapping[str, Tensor], spec: DatasetSpec, show_titles: bool = True, suptitle: str | None = None
) -> Figure:
    """One sample as TorchGeo's datasets plot it: each date under one stretch, the mask and, if any, the prediction.

    Args:
        sample: ``image`` and ``mask`` in the shapes of ``spec``; ``prediction`` is shaped as ``mask``.
        spec: Names the bands and the colours.
        show_titles: Whether each panel has a title.
        suptitle: Title of the figure.

    Returns:
        The figure; the caller closes it.
    """
    dates = sample['image'] if spec.task == 'change' else sample['image'].unsqueeze(0)
    titles = ('Date 1', 'Date 2') if spec.task == 'change' else ('Image',)
    limits = stretch(dates, spec)
    panels = {title: to_rgb(date, spec, limits) for title, date in zip(titles, dates, strict=True)}
    panels |= {key.capitalize(): to_colors(sample[key], spec) for key in ('mask', 'prediction') if key in sample}
    figure: Figure
    figure, axes = plt.subplots(1, len(panels), figsize=(4 * len(panels), 4), layout='constrained')
    for axis, (title, panel) in zip(axes, panels.items(), strict=True):
        axis.imshow(panel, interpolation='none')
        axis.axis('off')
        if show_titles:
            axis.set_title(title)
    if suptitle is not None:
        figure.suptitle(suptitle)
    return figure


def plot_pairs(groups: Mapping[str, Sequence[Mapping[str, Tensor]]], spec: DatasetSpec, size: float = 1.2) -> Figure:
    """A row of pairs for each group (say, real and synthetic), the mask under its image.

    All pairs share one stretch, so that brightness can be compared.

    Args:
        groups: Samples by title; each has ``image`` and ``mask``.
        spec: Describes the samples.
        size: Width of one panel [inch].
    """
    columns = max(len(samples) for samples in groups.values())
    rows = [(f'{title}\n{label}', samples, part) for title, samples in groups.items() for part, label in _parts(spec)]
    limits = stretch(torch.stack([sample['image'].cpu() for samples in groups.values() for sample in samples]), spec)
    figure: Figure
    figure, axes = plt.subplots(len(rows), columns, figsize=(size * columns, size * len(rows)), squeeze=False)
    for (title, samples, part), line in zip(rows, axes, strict=True):
        line[0].set_ylabel(title, fontsize=7)
        for axis in line:
            axis.set(xticks=[], yticks=[])
        for axis, sample in zip(line, samples, strict=False):
            if part == 'mask':
                axis.imshow(to_colors(sample['mask'].cpu(), spec))
            else:
                image = sample['image'].cpu()
                axis.imshow(to_rgb(image if part == 'image' else image[int(part)], spec, limits))
    figure.tight_layout(pad=0.2)
    return figure


def _parts(spec: DatasetSpec) -> list[tuple[str, str]]:
    if spec.task == 'change':
        return [('0', 'date 1'), ('1', 'date 2'), ('mask', 'mask')]
    return [('image', 'image'), ('mask', 'mask')]
