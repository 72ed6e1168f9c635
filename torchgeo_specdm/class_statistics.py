"""What the pixels of each class look like: how many there are, their mean spectrum and its spread."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from torchgeo_specdm.functional import spectral_angle
from torchgeo_specdm.functional.spectra import ClassSums
from torchgeo_specdm.spec import DatasetSpec, one_hot

# Told apart by colour (also by those who see red and green alike), by line and by hatching
_COLORS = ('#2b6cb0', '#dd6b20', '#0d8a72')
_LINES = ('-', '--', ':')
_HATCHES = ('', '////', '....')


class ClassStatistics:
    """Per date and class, over all samples that it was shown; pixels without a label do not count.

    Args:
        spec: Describes the samples.
    """

    def __init__(self, spec: DatasetSpec) -> None:
        self.spec = spec
        self.pixels = torch.zeros(spec.num_classes, dtype=torch.float64)
        self._sum = torch.zeros(spec.num_dates, spec.num_classes, spec.num_bands, dtype=torch.float64)
        self._squares = torch.zeros_like(self._sum)

    @classmethod
    def from_sums(cls, spec: DatasetSpec, pixels: Tensor, sums: Tensor, squares: Tensor) -> 'ClassStatistics':
        """Statistics of pixels that were added up elsewhere.

        Args:
            spec: Describes the samples.
            pixels: Labelled pixels of each class, ``(K,)``.
            sums: Sum of their spectra for each date, ``(T, K, C)``; float64, as single precision loses the spread.
            squares: Sum of their squared spectra, ``(T, K, C)`` float64.
        """
        statistics = cls(spec)
        shape = (spec.num_dates, spec.num_classes, spec.num_bands)
        statistics.pixels = pixels.double().reshape(spec.num_classes)
        statistics._sum, statistics._squares = sums.double().reshape(shape), squares.double().reshape(shape)
        return statistics

    def update(self, sample: Mapping[str, Any]) -> None:
        """Add the pixels of one sample.

        Raises:
            SpecDMError: The mask holds an unknown class.
        """
        classes = one_hot(sample['mask'].unsqueeze(0), self.spec.num_classes, self.spec.ignore_index)[0].double()
        dates = sample['image'].double().view(self.spec.num_dates, self.spec.num_bands, *classes.shape[1:])
        self.pixels += classes.sum((1, 2))
        self._sum += torch.einsum('khw,tchw->tkc', classes, dates)
        self._squares += torch.einsum('khw,tchw->tkc', classes, dates.square())

    @property
    def shares(self) -> Tensor:
        """Share of each class in the labelled pixels, ``(K,)``."""
        return self.pixels / self.pixels.sum()

    @property
    def mean(self) -> Tensor:
        """Mean spectra ``(T, K, C)`` in the spec's unit; NaN for a class that did not occur."""
        return self._sums.mean

    @property
    def std(self) -> Tensor:
        """Standard deviation ``(T, K, C)`` of the spectra; NaN for a class that did not occur."""
        return self._sums.std

    @property
    def _sums(self) -> ClassSums:
        return ClassSums(self.pixels, self._sum, self._squares)


def spectral_angles(first: ClassStatistics, second: ClassStatistics) -> Tensor:
    """Angle between the mean spectra ``(T, K)`` [rad]; NaN for a class that one of them lacks."""
    both = (first.pixels > 0) & (second.pixels > 0)
    return torch.where(both, spectral_angle(first.mean, second.mean, dim=-1), torch.nan)


def absent_classes(statistics: ClassStatistics) -> list[str]:
    """Names of the classes that did not occur."""
    pixels = statistics.pixels.tolist()
    return [name for name, count in zip(statistics.spec.classes, pixels, strict=True) if not count]


def plot_spectra(groups: Mapping[str, ClassStatistics]) -> Figure:
    """One panel per class (and date): mean spectrum of each group, with one standard deviation around it.

    Classes that no group has are left out. A panel's title says the spectral angle between the first group and each
    other one.

    Args:
        groups: Two or three statistics of the same spec, by title.
    """
    first, *others = groups.values()
    spec, angles = first.spec, torch.stack([spectral_angles(first, other) for other in others], -1)
    x = np.asarray(spec.wavelengths if spec.wavelengths else range(spec.num_bands), float)
    order = x.argsort()
    present = torch.stack([statistics.pixels for statistics in groups.values()]).sum(0).nonzero().flatten().tolist()
    panels = [(date, label) for label in present for date in range(spec.num_dates)]
    columns = 4 if len(panels) > 4 else 2
    rows = max(1, -(-len(panels) // columns))
    figure: Figure
    figure, axes = plt.subplots(
        rows, columns, figsize=(2.9 * columns, 2.1 * rows + 0.6), sharex=True, sharey=True, squeeze=False
    )
    for axis in axes.flat[len(panels) :]:
        axis.axis('off')
    for axis, (date, label) in zip(axes.flat, panels, strict=False):
        for (title, statistics), color, line in zip(groups.items(), _COLORS, _LINES, strict=False):
            mean, std = (values[date, label].numpy()[order] for values in (statistics.mean, statistics.std))
            wave, mean, std = _broken(x[order], mean, std)
            axis.plot(wave, mean, line, color=color, label=title, marker='.' if len(x) < 20 else '', linewidth=1.2)
            axis.fill_between(wave, mean - std, mean + std, color=color, alpha=0.18, linewidth=0)
        name = spec.classes[label] + (f', date {date + 1}' if spec.num_dates > 1 else '')
        found = ' / '.join('absent' if np.isnan(angle) else f'{angle:.3f}' for angle in angles[date, label].tolist())
        axis.set_title(f'{name} ({found} rad)' if angles[date, label].isfinite().any() else name, fontsize=9)
        axis.tick_params(labelsize=8)
        axis.spines[['top', 'right']].set_visible(False)
    for axis in axes.flat[max(len(panels) - columns, 0) : len(panels)]:
        axis.tick_params(labelbottom=True)
    figure.supxlabel('wavelength [nm]' if spec.wavelengths else 'band', fontsize=9)
    figure.supylabel(spec.unit or 'pixel value', fontsize=9)
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc='upper center', ncols=len(groups), frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.35 / figure.get_figheight()))
    return figure


def _broken(x: NDArray[np.float64], *values: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Spectra of a spectrometer with NaN where bands were taken out, so that no line crosses the gap."""
    steps = np.diff(x)
    # A multispectral sensor has gaps between all its bands
    gaps = np.flatnonzero((steps > 4 * np.median(steps)) & (len(x) >= 20)) + 1
    return [np.insert(row.astype(float), gaps, np.nan) for row in (x, *values)]


def plot_shares(groups: Mapping[str, ClassStatistics]) -> Figure:
    """Share of each class in the labelled pixels, one bar for each of up to three groups."""
    spec = next(iter(groups.values())).spec
    figure: Figure
    size = (8, max(0.38, 0.18 * len(groups)) * spec.num_classes + 1.2)
    figure, axis = plt.subplots(figsize=size, layout='constrained')
    height = 0.8 / len(groups)
    styles = zip(groups.items(), _COLORS, _HATCHES, strict=False)
    for offset, ((title, statistics), color, hatch) in enumerate(styles):
        y = np.arange(spec.num_classes) + (offset - (len(groups) - 1) / 2) * height
        style = {'color': color, 'hatch': hatch, 'edgecolor': 'white', 'linewidth': 0, 'label': title}
        bars = axis.barh(y, 100 * statistics.shares.numpy(), height, **style)
        axis.bar_label(bars, fmt='%.2g', padding=2, fontsize=7)
    axis.set_yticks(range(spec.num_classes), spec.classes, fontsize=9)
    axis.margins(y=0.01)
    axis.invert_yaxis()
    axis.spines[['top', 'right']].set_visible(False)
    axis.set_xlabel('share of the labelled pixels [%]', fontsize=9)
    axis.legend(frameon=False, fontsize=9)
    return figure
