"""Land cover whose masks are what the rule says of the images: a world that generators can be good or bad at."""

import dataclasses
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d
from torch.utils.data import Dataset

from tests.conftest import tiny_spec
from torchgeo_specdm.functional.landcover import LAND_COVER_BANDS, LAND_COVER_CLASSES, land_cover
from torchgeo_specdm.spec import DatasetSpec

SIZE, COUNT = 32, 48
# A spectrum that the rule gives each class
SPECTRA = torch.tensor(
    [
        [600.0, 800, 500, 300, 200],
        [700, 900, 900, 2100, 1800],
        [400, 700, 500, 3200, 1500],
        [900, 1100, 1300, 1800, 1500],
        [1000, 1200, 1500, 1900, 2400],
        [2600, 2800, 3000, 3300, 3100],
    ]
)


def land_cover_spec() -> DatasetSpec:
    return dataclasses.replace(
        tiny_spec('segmentation'),
        bands=LAND_COVER_BANDS,
        wavelengths=None,
        classes=LAND_COVER_CLASSES,
        patch_size=SIZE,
    )


class World(Dataset[dict[str, Any]]):
    """Smooth regions of all classes under changing light."""

    def __init__(self, count: int, seed: int) -> None:
        self.spec = land_cover_spec()
        generator = torch.Generator().manual_seed(seed)

        def noise(channels: int, width: int) -> Tensor:
            drawn = torch.randn(count, channels, SIZE, SIZE, generator=generator)
            return avg_pool2d(drawn, width, 1, width // 2, count_include_pad=False) * width

        cover = avg_pool2d(noise(6, 9), 5, 1, 2, count_include_pad=False).argmax(1)
        light = 1 + 0.05 * torch.randn(count, 1, 1, 1, generator=generator)
        image = SPECTRA[cover].movedim(-1, 1) * light * (1 + 0.03 * noise(5, 5) + 0.02 * noise(5, 1))
        self.image = image.clamp_min(0).round()
        self.mask = land_cover(self.image / 10_000, LAND_COVER_BANDS)

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {'image': self.image[index], 'mask': self.mask[index]}
