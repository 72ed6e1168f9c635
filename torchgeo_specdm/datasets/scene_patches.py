"""Patches of one scene whose splits share no pixel."""

from abc import abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from torchgeo_specdm.datasets.declared import IGNORE_INDEX
from torchgeo_specdm.datasets.plotted import Plotted
from torchgeo_specdm.spec import DatasetSpec


class ScenePatches(Plotted):
    """Windows of one scene; a subclass reads them.

    In val and test, where windows may have to overlap to cover the areas of the split, a pixel is labelled in one patch
    only and ignored in the others, so that metrics count it once. Of change detection, whose binary metrics know no
    ignored pixels, it counts in each.

    Args:
        spec: Description of the patches.
        origins: Upper left corner of each patch, (row, column).
        split: ``train``, ``val`` or ``test``.
        transforms: Applied to each sample.
    """

    spec: DatasetSpec

    def __init__(
        self,
        spec: DatasetSpec,
        origins: list[tuple[int, int]],
        split: str,
        transforms: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
    ) -> None:
        self.spec, self.origins, self.split, self.transforms = spec, origins, split, transforms
        self.patch_size = spec.patch_size
        self._corners = np.array(origins)

    @abstractmethod
    def read(self, row: int, col: int) -> dict[str, Tensor]:
        """A copy of the patch whose upper left pixel is ``(row, col)``, in the shapes of ``spec.py``."""

    def __len__(self) -> int:
        """Number of patches."""
        return len(self.origins)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One patch.

        Returns:
            ``image`` float32 ``(C, H, W)``, raw values, and ``mask`` int64 ``(H, W)``; of two dates ``(2, C, H, W)``
            and ``(1, H, W)``.
        """
        sample = self.read(*self.origins[index])
        if self.split != 'train' and self.spec.num_dates == 1:
            sample['mask'][self._seen_before(index)] = IGNORE_INDEX
        return sample if self.transforms is None else self.transforms(sample)

    def _seen_before(self, index: int) -> Tensor:
        """The pixels of a patch that an earlier patch covers, ``(H, W)``."""
        number, size = range(len(self))[index], self.patch_size
        seen = torch.zeros(size, size, dtype=torch.bool)
        offsets = self._corners[:number] - self._corners[number]
        for down, right in offsets[(abs(offsets) < size).all(1)].tolist():
            seen[max(0, down) : size + min(0, down), max(0, right) : size + min(0, right)] = True
        return seen

    @property
    def windows(self) -> list[tuple[int, int, int]]:
        """Where each patch lies, as (scene, row, column) of its upper left corner; there is one scene."""
        return [(0, row, col) for row, col in self.origins]
