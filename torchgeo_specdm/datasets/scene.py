"""One large labelled scene, cut into patches of train, val and test areas; no Python needed to describe it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from torchgeo_specdm.datasets.areas import Area, AreaSplitter, Blocks
from torchgeo_specdm.datasets.declared import IGNORE_INDEX, Declared
from torchgeo_specdm.datasets.pairs import describe, open_pair
from torchgeo_specdm.datasets.scene_patches import ScenePatches
from torchgeo_specdm.datasets.splitters import SPLITS
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.sizes import choose_patch_size


class SceneDataset(ScenePatches):
    """Patches of one scene, in its unit: of an image, or two of the same place, and a mask on one grid.

    The scene is cut into areas of one split each, and a patch lies inside an area, so that no pixel is in two splits.
    Patches together cover each area. Where a band is nodata, the image is 0 and the mask 255, as where there is no
    label.

    Args:
        root: Folder of the files.
        image: The image in it: a file that GDAL reads, ``.npy``, ``.mat`` or ``.h5``; ``FILE#VARIABLE`` where it has
            several.
        mask: The mask, likewise.
        patch_size: Height and width of a patch [px], or ``auto`` (:mod:`torchgeo_specdm.sizes`).
        declared: What the files do not say.
        later_image: The image of the second date, which makes it change detection.
        split: ``train``, ``val`` or ``test``.
        splitter: Cuts the scene; by default into :class:`~torchgeo_specdm.datasets.areas.Blocks`.
        overlap: Share of a train patch that its neighbour covers too, in [0, 1).
        min_labelled: Leave out patches of which a smaller share has a label.
        transforms: Applied to each sample.

    Raises:
        RasterError: A file is missing, cannot be read, or does not fit the others.
        SpecDMError: The split is empty, the scene cannot be cut, an argument is out of range, or names of bands or the
            unit are neither declared nor in the files.
    """

    splits = SPLITS

    def __init__(
        self,
        root: str | os.PathLike[str],
        image: str,
        mask: str,
        patch_size: int | str,
        declared: Declared,
        later_image: str | None = None,
        split: str = 'train',
        splitter: AreaSplitter | None = None,
        overlap: float = 0.0,
        min_labelled: float = 0.0,
        transforms: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
    ) -> None:
        if split not in SPLITS:
            raise SpecDMError(f'split is {split!r}; a scene has {", ".join(SPLITS)}')
        names = [image, *([later_image] if later_image else []), mask]
        paths = [str(Path(root) / name) for name in names]
        self.pair = open_pair(paths[:-1], paths[-1], declared)
        self.num_classes = len(declared.class_names)
        size = choose_patch_size(patch_size, [self.pair.shape])
        height, width = self.pair.shape
        if size > min(height, width):
            raise SpecDMError(f'{paths[-1]}: patch_size {size} px is larger than the scene of {height} x {width} px')
        areas = (splitter or Blocks()).areas(height, width, size, self._count)
        self.areas = [area for area in areas.get(split, []) if min(area.height, area.width) >= size]
        overlap = overlap if split == 'train' else 0.0
        wanted: dict[str, Any] = {'size': size, 'overlap': overlap, 'min_labelled': min_labelled}
        origins = [origin for area in self.areas for origin in self.pair.origins(*area, **wanted)]
        if not origins:
            raise SpecDMError(f'no patch of {size} px of {paths[-1]} is in the split {split} and has enough labels')
        super().__init__(describe([self.pair], declared, size), origins, split, transforms)

    def read(self, row: int, col: int) -> dict[str, Tensor]:
        """The patch whose upper left pixel is ``(row, col)``, in the shapes of ``spec.py``."""
        return self.pair.read(row, col, self.patch_size)

    def class_counts(self) -> dict[str, int]:
        """Number of labelled pixels of each class in the areas of the split."""
        counts = sum((self._count(area) for area in self.areas), np.zeros(self.num_classes, np.int64))
        return dict(zip(self.spec.classes, counts.tolist(), strict=True))

    def _count(self, area: Area) -> NDArray[np.int64]:
        labels = self.pair.labels(*area).ravel()
        return np.bincount(labels[labels != IGNORE_INDEX], minlength=self.num_classes).astype(np.int64)
