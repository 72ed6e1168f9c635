"""The 200-band Indian Pines scene, cut into patches of disjoint train, val and test blocks."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchgeo_specdm.datasets.declared import IGNORE_INDEX
from torchgeo_specdm.datasets.patches import patch_origins
from torchgeo_specdm.datasets.scene_patches import ScenePatches
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.spec import DatasetSpec

# Blocks of the scene, T train, V val, E test, with the rows and columns at which they begin and end. Found by an
# annealing search for class coverage: the edges cut through the classes that are one field each.
_LETTERS = {'train': 'T', 'val': 'V', 'test': 'E'}
_ROWS = (0, 36, 44, 52, 68, 76, 84, 112, 128, 145)
_COLUMNS = (0, 8, 20, 32, 48, 88, 100, 112, 136, 145)
_BLOCKS = (
    'TTTTEEETT',
    'TEEEVVETT',
    'TEEEVVEEE',
    'EEEEVVEEE',
    'TTTTTTEEE',
    'TTTTTTTEE',
    'TTTTTTTTE',
    'EEETTTTEE',
    'EEETTTTEE',
)

# Class names in the order of the scene's labels 1-16, each with its colour.
_CLASSES = {
    'Alfalfa': (255, 127, 80),
    'Corn-notill': (230, 190, 40),
    'Corn-mintill': (250, 220, 120),
    'Corn': (180, 140, 0),
    'Grass-pasture': (120, 200, 80),
    'Grass-trees': (60, 150, 60),
    'Grass-pasture-mowed': (180, 230, 150),
    'Hay-windrowed': (210, 180, 140),
    'Oats': (255, 190, 220),
    'Soybean-notill': (90, 60, 200),
    'Soybean-mintill': (140, 120, 230),
    'Soybean-clean': (190, 180, 250),
    'Wheat': (255, 160, 0),
    'Woods': (0, 80, 30),
    'Buildings-Grass-Drives': (200, 40, 60),
    'Stone-Steel-Towers': (110, 110, 110),
}

# Original numbers of the 200 bands that are left of 220 without those of water absorption.
_BAND_NUMBERS = (*range(1, 104), *range(109, 150), *range(164, 220))
# First and last centre wavelength [nm] and number of bands of AVIRIS' four spectrometers, which overlap slightly.
_SPECTROMETERS = ((400.0, 696.5, 31), (686.9, 1282.6, 63), (1273.0, 1898.2, 64), (1893.3, 2499.0, 62))
_WAVELENGTHS = np.concatenate([np.linspace(*segment) for segment in _SPECTROMETERS])


@lru_cache(maxsize=1)
def _scene() -> tuple[Tensor, Tensor]:
    """The scene ``(200, 145, 145)`` float32 and its mask ``(145, 145)`` int64."""
    try:
        from tensorly.datasets import load_indian_pines
    except ImportError as error:
        raise SpecDMError(
            "Indian Pines comes with tensorly, which is not installed: pip install 'torchgeo-specdm[demo]'"
        ) from error
    scene = load_indian_pines()
    image = torch.from_numpy(np.asarray(scene.tensor, np.float32)).permute(2, 0, 1).contiguous()
    labels = torch.from_numpy(np.asarray(scene.ticks[0], np.int64))
    return image, torch.where(labels > 0, labels - 1, IGNORE_INDEX)


def _region(split: str) -> NDArray[np.bool_]:
    """The pixels of a split's blocks, ``(145, 145)``."""
    blocks: NDArray[np.bool_] = np.array([list(row) for row in _BLOCKS]) == _LETTERS[split]
    return blocks.repeat(np.diff(_ROWS), 0).repeat(np.diff(_COLUMNS), 1)


def _box_sum(pixels: NDArray[np.bool_], size: int) -> NDArray[np.int64]:
    """Number of true pixels in each window of ``size`` px, by the window's upper left corner."""
    total = np.pad(pixels.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    sums: NDArray[np.int64] = total[size:, size:] - total[:-size, size:] - total[size:, :-size] + total[:-size, :-size]
    return sums


def _covering_windows(
    region: NDArray[np.bool_], size: int, start: list[tuple[int, int]]
) -> tuple[list[tuple[int, int]], NDArray[np.bool_]]:
    """Windows inside a region: those of ``start`` that fit, then greedily as many as cover all that can be covered.

    Returns:
        The upper left corners, and the pixels that the windows cover.
    """
    fits = _box_sum(region, size) == size * size
    origins = [origin for origin in start if fits[origin]]
    covered = np.zeros_like(region)
    for row, col in origins:
        covered[row : row + size, col : col + size] = True
    while (gain := _box_sum(~covered, size) * fits).any():
        row, col = map(int, np.unravel_index(gain.argmax(), gain.shape))
        covered[row : row + size, col : col + size] = True
        origins.append((row, col))
    return origins, covered


class IndianPines(ScenePatches):
    """Indian Pines: an AVIRIS scene of farmland in Indiana, USA, 12 June 1992, with 200 bands and 16 classes.

    The scene of 145 x 145 px is inside the tensorly package (extra ``demo``), so there is no root and no download.
    It is cut into blocks that belong to one split each: no pixel is in two splits, and every class is in train and
    test. A patch lies inside its split's blocks. Train patches overlap; in val and test, where the last windows have
    to overlap, a pixel is labelled in one patch only and ignored in the others, so that metrics count it once.

    Labelled pixels that patches of 32 px cover (:meth:`test_classes` lists the classes that can be measured on):

    ====================== ===== ==== ====
    class                  train val  test
    ====================== ===== ==== ====
    Alfalfa                   23   10   13
    Corn-notill              630  358  416
    Corn-mintill             524    0  261
    Corn                      32    0  174
    Grass-pasture            424    0   59
    Grass-trees              500    0  230
    Grass-pasture-mowed       12    0   16
    Hay-windrowed            174    0  304
    Oats                       6    0   14
    Soybean-notill           157  629  174
    Soybean-mintill         1694  222  539
    Soybean-clean            184    0  374
    Wheat                    120    0   85
    Woods                    815   12  402
    Buildings-Grass-Drives    89    0  297
    Stone-Steel-Towers        45    0   48
    ====================== ===== ==== ====

    Unlabelled pixels (half of the scene) have the mask value 255. Values are raw: scaled radiance counts, 955-9604.
    Centre wavelengths are nominal, spaced evenly within each of the sensor's four spectrometers.

    Source: Baumgardner, Biehl, Landgrebe (2015), 220 Band AVIRIS Hyperspectral Image Data Set: June 12, 1992 Indian
    Pine Test Site 3, Purdue University Research Repository, doi:10.4231/R7RX991C.
    """

    splits = ('train', 'val', 'test')
    classes = tuple(_CLASSES)

    def __init__(
        self,
        split: str = 'train',
        patch_size: int = 32,
        overlap: float = 0.875,
        transforms: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
    ) -> None:
        """Cut the scene.

        Args:
            split: ``train``, ``val`` or ``test``.
            patch_size: Height and width of a patch [px]; TorchGeo's U-Net wants multiples of 32.
            overlap: Share of a train patch that its neighbour covers too, in [0, 1).
            transforms: Function that takes a sample and returns a transformed one.

        Raises:
            SpecDMError: An argument is out of range, no patch fits into the split's blocks, or tensorly is missing.
        """
        if split not in self.splits:
            raise SpecDMError(f'split is {split!r}; Indian Pines has {", ".join(self.splits)}')
        self.overlap = overlap
        self.image, self.mask = _scene()
        height, width = self.mask.shape
        lattice = patch_origins(height, width, patch_size, overlap)
        origins, covered = _covering_windows(_region(split), patch_size, lattice if split == 'train' else [])
        self.covered = torch.from_numpy(covered)
        if not origins:
            raise SpecDMError(f'no patch of {patch_size} px fits into the {split} blocks of Indian Pines')
        spec = DatasetSpec(
            name='Indian Pines',
            task='segmentation',
            bands=tuple(f'b{number:03d}' for number in _BAND_NUMBERS),
            classes=self.classes,
            patch_size=patch_size,
            unit='AVIRIS scaled radiance counts',
            value_range=(0.0, 10_000.0),
            dtype='uint16',
            wavelengths=tuple(round(float(_WAVELENGTHS[number - 1]), 1) for number in _BAND_NUMBERS),
            palette=tuple(_CLASSES.values()),
            ignore_index=IGNORE_INDEX,
            gsd=20.0,
            licence='CC BY 3.0',
            attribution='Baumgardner, Biehl, Landgrebe (2015), 220 Band AVIRIS Hyperspectral Image Data Set: '
            'June 12, 1992 Indian Pine Test Site 3, Purdue University Research Repository, doi:10.4231/R7RX991C',
        )
        super().__init__(spec, origins, split, transforms)

    def read(self, row: int, col: int) -> dict[str, Tensor]:
        """The patch whose upper left pixel is (row, col): ``(200, H, W)`` raw counts, and its mask ``(H, W)``."""
        window = slice(row, row + self.patch_size), slice(col, col + self.patch_size)
        return {'image': self.image[:, *window].clone(), 'mask': self.mask[window].clone()}

    def class_counts(self) -> dict[str, int]:
        """Number of labelled pixels of each class that the patches cover, each pixel counted once."""
        labels = self.mask[self.covered]
        counts = torch.bincount(labels[labels != IGNORE_INDEX], minlength=len(self.classes))
        return dict(zip(self.classes, counts.tolist(), strict=True))

    def band_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each band over the pixels that the patches cover, two ``(200,)`` [counts]."""
        pixels = self.image[:, self.covered]
        return pixels.mean(1), pixels.std(1)

    @classmethod
    def test_classes(cls, minimum: int = 50, patch_size: int = 32) -> list[str]:
        """The classes with at least ``minimum`` test pixels, over which a mean IoU says something."""
        return [name for name, count in cls('test', patch_size).class_counts().items() if count >= minimum]
