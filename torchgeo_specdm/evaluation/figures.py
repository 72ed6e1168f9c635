"""Pictures of an evaluation: pairs, nearest train patches and rejected pixels, in grids with a column per sample."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from torch import Tensor

from torchgeo_specdm.evaluation.result import ClosePair, Evaluation, Misaligned, Sample
from torchgeo_specdm.plotting import Stretch, false_color_bands, mask_edges, stretch, to_colors, to_rgb
from torchgeo_specdm.spec import DatasetSpec

COLUMNS = 5
"""Samples beside each other."""
# A light line on a dark, wider one is seen on sand and on forest
_OUTLINE, _CASING = '#3fe0ff', '#00202a'
_REJECTED = np.array([1.0, 0.1, 0.5])
# Inches: a panel, and the space for names of rows, of columns and of blocks
_PANEL, _GAP, _LEFT, _COLUMN_TITLE, _BLOCK_TITLE = 1.5, 0.05, 0.24, 0.2, 0.34


@dataclass(frozen=True)
class Panel:
    """One picture of a grid.

    Attributes:
        picture: ``(H, W, 3)`` between 0 and 1.
        edges: Mask ``(H, W)`` whose edges are drawn over it.
        title: Stands above it.
    """

    picture: NDArray[np.float64]
    edges: Tensor | None = None
    title: str = ''


Rows = Mapping[str, Sequence[Panel]]
Item = TypeVar('Item')


def plot_pairs(evaluation: Evaluation) -> Figure:
    """The first real pairs, and below them those of each generator.

    All images share the stretch of the real ones, so that a generator that is too bright looks too bright.
    """
    spec = evaluation.spec
    shown = {'real': evaluation.real_pairs} | {source.name: source.pairs for source in evaluation.generators}
    images = torch.stack([sample['image'] for sample in evaluation.real_pairs])
    bands = false_color_bands(spec)
    limits = stretch(images, spec), stretch(images, spec, bands)
    blocks = {}
    for title, samples in shown.items():
        columns = [_pair(sample, spec, *limits) for sample in samples[:COLUMNS]]
        blocks[title] = {name: [column[name] for column in columns] for name in columns[0]} if columns else {}
    return _grid(blocks)


def plot_closest(evaluation: Evaluation) -> Figure:
    """Synthetic samples above the train samples that they resemble most, each two under one stretch."""
    spec = evaluation.spec

    def rows(pairs: Sequence[ClosePair]) -> Rows:
        found: dict[str, list[Panel]] = {}
        for pair in pairs:
            limits = stretch(pair.train['image'], spec)
            sides = [(name, getattr(pair, name)) for name in ('synthetic', 'train')]
            parts = {name: _images(sample, spec, limits) | {'mask': _mask(sample, spec)} for name, sample in sides}
            # What is compared lies below each other
            for index, part in enumerate(parts['train']):
                for name, panels in parts.items():
                    title = f'ratio {pair.ratio:.2f}' if index == 0 and name == 'synthetic' else ''
                    found.setdefault(f'{name} {part}'.strip(), []).append(Panel(panels[part].picture, title=title))
        return found

    return _grid(_chunked({source.name: source.closest for source in evaluation.generators}, rows))


def plot_worst(evaluation: Evaluation) -> Figure:
    """Worst-aligned samples with the pixels that a judge rejected."""
    spec = evaluation.spec

    def rows(samples: Sequence[Misaligned]) -> Rows:
        found: dict[str, list[Panel]] = {}
        for item in samples:
            images = _images(item.sample, spec, stretch(item.sample['image'], spec))
            for label, panel in images.items():
                title = '' if label.endswith('2') else f'score {item.score:.2f}'
                found.setdefault(label or 'RGB', []).append(Panel(panel.picture, title=title))
            found.setdefault('mask', []).append(_mask(item.sample, spec))
            last = list(images.values())[-1].picture
            found.setdefault('rejected', []).append(Panel(_marked(last, item.rejected), item.sample['mask']))
        return found

    return _grid(_chunked({source.name: source.worst for source in evaluation.generators}, rows))


def _images(sample: Sample, spec: DatasetSpec, limits: Stretch, bands: Sequence[int] | None = None) -> dict[str, Panel]:
    dates = sample['image'] if spec.task == 'change' else sample['image'].unsqueeze(0)
    labels = ('date 1', 'date 2') if spec.task == 'change' else ('',)
    return {label: Panel(to_rgb(date, spec, limits, bands)) for label, date in zip(labels, dates, strict=True)}


def _mask(sample: Sample, spec: DatasetSpec) -> Panel:
    return Panel(to_colors(sample['mask'], spec))


def _pair(sample: Sample, spec: DatasetSpec, limits: Stretch, false_limits: Stretch) -> dict[str, Panel]:
    """A column: RGB, false colour, mask, and the mask's edges, which for change are drawn on both dates."""
    bands, mask, change = false_color_bands(spec), sample['mask'], spec.task == 'change'
    images = _images(sample, spec, limits)
    column = {f'RGB {label}'.strip(): Panel(panel.picture, mask if change else None) for label, panel in images.items()}
    if bands:
        shown = _images(sample, spec, false_limits, bands)
        column |= {f'false colour {label}'.strip(): panel for label, panel in shown.items()}
    column['mask'] = _mask(sample, spec)
    if not change:
        column['mask on RGB'] = Panel(images[''].picture, mask)
    return column


def _marked(picture: NDArray[np.float64], rejected: Tensor) -> NDArray[np.float64]:
    """Rejected pixels tinted, all others grey."""
    grey = picture.mean(-1, keepdims=True).repeat(3, -1)
    chosen = rejected.reshape(rejected.shape[-2:]).numpy()[..., None]
    marked: NDArray[np.float64] = np.where(chosen, 0.45 * grey + 0.55 * _REJECTED, grey)
    return marked


def _chunked(groups: Mapping[str, Sequence[Item]], rows: Callable[[Sequence[Item]], Rows]) -> dict[str, Rows]:
    blocks = {}
    for name, items in groups.items():
        for start in range(0, len(items), COLUMNS):
            chunk = items[start : start + COLUMNS]
            place = f': {start + 1} to {start + len(chunk)}' if len(items) > COLUMNS else ''
            blocks[name + place] = rows(chunk)
    return blocks


def _grid(blocks: Mapping[str, Rows]) -> Figure:
    """Blocks below each other, each with named rows of panels."""
    full = {title: rows for title, rows in blocks.items() if rows}
    titled = [any(panel.title for panels in rows.values() for panel in panels) for rows in full.values()]
    heights = [
        _BLOCK_TITLE + _COLUMN_TITLE * has + len(rows) * (_PANEL + _GAP)
        for rows, has in zip(full.values(), titled, strict=True)
    ]
    columns = max(len(panels) for rows in full.values() for panels in rows.values())
    width, height = _LEFT + columns * (_PANEL + _GAP), sum(heights)
    figure: Figure = plt.figure(figsize=(width, height))
    # One axis in inches: an axis for each panel would take seconds to make
    axis = figure.add_axes((0, 0, 1, 1))
    top = height
    for (title, rows), has, size in zip(full.items(), titled, heights, strict=True):
        axis.text(_LEFT, top - 0.24, title, fontsize=11, fontweight='bold')
        for index, (label, panels) in enumerate(rows.items()):
            bottom = top - _BLOCK_TITLE - _COLUMN_TITLE * has - (index + 1) * (_PANEL + _GAP) + _GAP
            axis.text(0.08, bottom + _PANEL / 2, label, fontsize=8, rotation=90, ha='center', va='center')
            for column, panel in enumerate(panels):
                _draw(axis, panel, _LEFT + column * (_PANEL + _GAP), bottom)
        top -= size
    axis.set(xlim=(0, width), ylim=(0, height))
    axis.axis('off')
    return figure


def _draw(axis: Any, panel: Panel, left: float, bottom: float) -> None:
    """A panel whose lower left corner is there [inch]."""
    top = bottom + _PANEL
    axis.imshow(panel.picture, extent=(left, left + _PANEL, bottom, top), aspect='auto')
    if panel.edges is not None:
        scale = _PANEL / np.asarray(panel.edges.shape[-2:][::-1])
        lines = (left, top) + (mask_edges(panel.edges) + 0.5) * scale * (1, -1)
        for color, width in ((_CASING, 1.5), (_OUTLINE, 0.8)):
            axis.add_collection(LineCollection(list(lines), colors=color, linewidths=width), autolim=False)
    axis.add_patch(Rectangle((left, bottom), _PANEL, _PANEL, fill=False, edgecolor='#b8bec5', linewidth=0.6))
    axis.text(left + _PANEL / 2, top + 0.05, panel.title, fontsize=8, ha='center')
