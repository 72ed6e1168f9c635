"""Writes a tiny SegMunich: a few places, each in several orientations with a little noise, on both sides of the split.

Every other place is half background; the last one is nothing but background.
"""

from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image

SIZE = 128
# Codes that the label images hold, background first
CODES = (0, 21, 22, 23, 31, 5, 32, 33, 41, 13, 14, 11, 12)
ORIENTATIONS = 4
# Any coordinates, lest rasterio warns
PIXEL = rasterio.Affine.scale(10, -10)


def write_segmunich(root: Path, places: int = 4, paged: bool = False, noise: float = 2.0, seed: int = 0) -> None:
    """Write ``places`` x 4 patches below ``root``, the first of each four into val.

    Args:
        root: Gets the folders ``dataset``, ``train`` and ``val``.
        places: Number of different places.
        paged: Store images as 128 pages of 128 x 10 instead of ten bands.
        noise: Standard deviation of the noise that tells copies apart [DN].
        seed: Of all random numbers.
    """
    rng = np.random.default_rng(seed)
    stems: dict[str, list[str]] = {'train': [], 'val': []}
    for folder in ('dataset', *(f'{split}/{kind}' for split in stems for kind in ('img', 'label'))):
        (root / folder).mkdir(parents=True)
    for place in range(places):
        image, codes = _place(rng, background=1.0 if place == places - 1 else place % 2 / 2)
        for copy, orientation in enumerate(rng.choice(8, ORIENTATIONS, replace=False)):
            split, stem = 'train' if copy else 'val', f'{place}_{orientation}'
            stems[split].append(stem)
            noisy = image + rng.normal(0, noise, image.shape)
            _write_image(root / split / 'img' / f'{stem}.tif', turned(noisy, orientation).astype(np.float32), paged)
            write_label(root / split / 'label' / f'{stem}.tif', turned(codes, orientation))
    for split, names in stems.items():
        (root / 'dataset' / f'{split}.txt').write_text('\n'.join(names) + '\n')


def turned(array: NDArray, orientation: int) -> NDArray:
    """The last two axes in one of the eight orientations of the square."""
    array = np.rot90(array, orientation % 4, axes=(-2, -1))
    return array[..., ::-1] if orientation >= 4 else array


def write_label(path: Path, codes: NDArray) -> None:
    """A palette image, as the real labels are."""
    image = Image.fromarray(np.ascontiguousarray(codes, np.uint8), 'P')
    image.putpalette(np.arange(768) % 256)
    image.save(path)


def _place(rng: np.random.Generator, background: float) -> tuple[NDArray, NDArray]:
    """Fields of 16 x 16 px, each of one class with its own spectrum; the first columns are background."""
    fields = rng.integers(1, len(CODES), (8, 8)).repeat(16, 0).repeat(16, 1)
    fields[:, : int(SIZE * background)] = 0
    spectra = rng.uniform(200, 4000, (10, len(CODES)))
    return spectra[:, fields], np.array(CODES)[fields]


def _write_image(path: Path, image: NDArray, paged: bool) -> None:
    if paged:
        pages = [Image.fromarray(np.ascontiguousarray(row)) for row in image.transpose(1, 2, 0)]
        pages[0].save(path, save_all=True, append_images=pages[1:])
        return
    write_bands(path, image)


def write_bands(path: Path, image: NDArray) -> None:
    """Any ``(C, H, W)`` as a GeoTIFF."""
    count, height, width = image.shape
    profile = {'count': count, 'height': height, 'width': width, 'dtype': image.dtype, 'transform': PIXEL}
    with rasterio.open(path, 'w', 'GTiff', **profile) as raster:
        raster.write(image)
