"""Pairs as regular as land cover: smooth regions, a spectrum for each class, light that differs between patches."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from tests.conftest import tiny_spec
from torchgeo_specdm.evaluation.observation import Observer, Rows, Sides
from torchgeo_specdm.spec import DatasetSpec

SPECTRA = torch.tensor([[900.0, 700, 500, 300], [500, 800, 600, 3000], [1500, 1700, 2000, 2400]])
SIZE = 24


def world_spec(task: str = 'segmentation') -> DatasetSpec:
    classes = ('no change', 'change') if task == 'change' else ('water', 'forest', 'town')
    return dataclasses.replace(
        tiny_spec(task),
        bands=('B02', 'B03', 'B04', 'B08'),
        wavelengths=None,
        classes=classes,
        patch_size=SIZE,
        ignore_index=255,
    )


def world(count: int, seed: int, task: str = 'segmentation') -> tuple[Tensor, Tensor]:
    """Images ``(N, T, 4, 24, 24)`` and masks ``(N, 24, 24)``; a few pixels have no label, a few no data."""
    generator = torch.Generator().manual_seed(seed)

    def smooth(values: Tensor, width: int) -> Tensor:
        return avg_pool2d(values, width, 1, width // 2, count_include_pad=False) * width

    def noise(channels: int, width: int) -> Tensor:
        return smooth(torch.randn(count, channels, SIZE, SIZE, generator=generator), width)

    cover = smooth(noise(3, 9), 5).argmax(1)
    dates = [cover]
    mask = cover
    if task == 'change':
        changed = smooth(noise(1, 9), 5)[:, 0] > 4
        dates.append(torch.where(changed, 2, cover))
        mask = changed.long()
    light = 1 + 0.15 * torch.randn(count, 1, 1, 1, 1, generator=generator)
    image = torch.stack([SPECTRA[date].movedim(-1, 1) for date in dates], 1) * light
    image = image * torch.stack([1 + 0.1 * noise(4, 3) + 0.1 * noise(4, 1) for _ in dates], 1)
    mask = mask.clone()
    mask[:, 0, 0] = 255
    image[:, :, :, -1, -1] = 0
    return image.clamp_min(0).round(), mask


def sides(
    observers: Sequence[Observer], synthetic: tuple[Tensor, Tensor], task: str = 'segmentation', count: int = 60
) -> Sides:
    """Twice ``count`` train samples in two halves, ``count`` held-out ones, and the synthetic ones."""
    rows: list[dict[str, Rows]] = [{}, {}, {}]
    for observer in observers:
        key = (observer.name, task, count)
        if key not in _REAL:
            _REAL[key] = [observer.observe(*world(number, seed, task)) for number, seed in ((2 * count, 1), (count, 2))]
        for side, found in zip(rows, [*_REAL[key], observer.observe(*synthetic)], strict=True):
            side[observer.name] = found
    return Sides(world_spec(task), *rows, halves=torch.arange(2 * count) % 2)


# Rows of train and of held-out samples, which most tests share
_REAL: dict[tuple[str, str, int], list[dict[str, Tensor]]] = {}
