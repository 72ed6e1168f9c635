"""The patches of packed scenes, sample by sample those of the dataset that was packed."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from torchgeo_specdm.datasets.pack import Pack
from torchgeo_specdm.datasets.patches import patch_origins
from torchgeo_specdm.datasets.ruled import land_cover_spec
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.functional.landcover import land_cover

# Patches whose land cover is computed together
_TOGETHER = 32


class PackedPairs(Dataset[dict[str, Tensor]]):
    """Square patches of packed scenes, as :class:`~torchgeo_specdm.datasets.OSCD` cuts them, in raw units.

    With ``land_cover``, each date is a sample and its mask is land cover by the rule, as in
    :class:`~torchgeo_specdm.datasets.OSCDLandCover`.

    Args:
        pack: Where the scenes are.
        scenes: Names of those to serve; they are decoded at once.
        patch_size: Height and width of a patch [px].
        overlap: Share of a patch that its neighbour covers too, in [0, 1).
        land_cover: Whether masks are land cover instead of those that were packed.

    Attributes:
        names: Of the scenes.
        scenes: Image ``(T, C, H, W)`` and mask ``(H, W)`` of each.
        spec: Describes the patches.

    Raises:
        SpecDMError: A part of the pack is missing or damaged, a patch does not fit into a scene, or the rule lacks a
            band.
    """

    def __init__(
        self, pack: Pack, scenes: Sequence[str], patch_size: int, overlap: float = 0.0, land_cover: bool = False
    ) -> None:
        self.names = tuple(scenes)
        described = replace(pack.spec, patch_size=patch_size)
        self.spec = land_cover_spec(described, described.bands) if land_cover else described
        self.scenes = pack.read(self.names)
        self._places = [
            (number, row, col) for number in range(len(self.names)) for row, col in self._origins(number, overlap)
        ]
        # Of a dataset whose samples have one date, each date of a place is a sample
        self._dates = max((len(image) for image, _ in self.scenes), default=1) // self.spec.num_dates
        self._masks = self._label() if land_cover else None

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._places) * self._dates

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """``image`` float32 and ``mask`` int64, in the shapes of the spec.

        Raises:
            IndexError: There is no such sample.
        """
        index = range(len(self))[index]
        mask = self._packed_mask(index) if self._masks is None else self._masks[index]
        return {'image': self._image(index), 'mask': mask.long().view(self.spec.mask_shape)}

    @property
    def windows(self) -> list[tuple[int, int, int]]:
        """Where each sample lies: scene, row and column [px]."""
        return [place for place in self._places for _ in range(self._dates)]

    def _origins(self, number: int, overlap: float) -> list[tuple[int, int]]:
        height, width = self.scenes[number][1].shape
        try:
            return patch_origins(height, width, self.spec.patch_size, overlap)
        except SpecDMError as error:
            raise SpecDMError(f'{self.spec.name} {self.names[number]}: {error}') from error

    def _window(self, index: int) -> tuple[int, int, tuple[Any, ...]]:
        place, date = divmod(index, self._dates)
        number, row, col = self._places[place]
        size = self.spec.patch_size
        return number, date, (..., slice(row, row + size), slice(col, col + size))

    def _image(self, index: int) -> Tensor:
        number, date, window = self._window(index)
        image = self.scenes[number][0]
        dates = image if self.spec.num_dates == len(image) > 1 else image[date]
        return torch.from_numpy(dates[window].astype(np.float32))

    def _packed_mask(self, index: int) -> Tensor:
        number, _, window = self._window(index)
        return torch.from_numpy(self.scenes[number][1][window].astype(np.int64))

    def _label(self) -> Tensor:
        """Land cover of all samples, ``(N, H, W)`` uint8: the rule takes longer than reading a patch."""
        found = [torch.zeros(0, self.spec.patch_size, self.spec.patch_size, dtype=torch.uint8)]
        for start in range(0, len(self), _TOGETHER):
            images = torch.stack([self._image(i) for i in range(start, min(start + _TOGETHER, len(self)))])
            found.append(land_cover(images / self.spec.scale, self.spec.bands).to(torch.uint8))
        return torch.cat(found)


class PackedScenes(Dataset[dict[str, Tensor]]):
    """The scenes of some patches whole, each of its own size, with the masks that were packed.

    Args:
        patches: Of these scenes, which stay in memory once.
    """

    def __init__(self, patches: PackedPairs) -> None:
        self.names, self.bands = patches.names, patches.spec.bands
        self._scenes = patches.scenes

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self._scenes)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """``image`` float32 ``(T, C, H, W)``, raw units, and ``mask`` int64 ``(1, H, W)``."""
        image, mask = self._scenes[index]
        return {
            'image': torch.from_numpy(image.astype(np.float32)),
            'mask': torch.from_numpy(mask.astype(np.int64)).unsqueeze(0),
        }
