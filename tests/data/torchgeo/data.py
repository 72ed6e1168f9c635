"""Writes folders that TorchGeo's LoveDA, LEVIR-CD, LEVIR-CD+ and ChaBuD read, and one of Landslide4Sense, small."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 32


def _write(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)


def write_loveda(root: Path, counts: dict[str, int] | None = None) -> None:
    """LoveDA: ``Train/Urban/images_png/0.png``; masks 0 (no data) to 7."""
    for split, count in (counts or {'Train': 4, 'Val': 2}).items():
        for scene in ('Urban', 'Rural'):
            for number in range(count):
                random = np.random.default_rng([number, len(split), len(scene)])
                mask = random.integers(8, size=(4, 4)).repeat(8, 0).repeat(8, 1)
                image = 20 * mask[..., None] + random.integers(40, size=(SIZE, SIZE, 3))
                folder = root / split / scene
                _write(folder / 'images_png' / f'{scene[0]}{number}.png', image)
                _write(folder / 'masks_png' / f'{scene[0]}{number}.png', mask)


def _pair(seed: list[int], bands: int = 3) -> dict[str, np.ndarray]:
    """An image of two dates, ``A`` and ``B``, ``(H, W, C)``, and where they differ, ``(H, W)``."""
    random = np.random.default_rng(seed)
    changed = random.integers(2, size=(4, 4)).repeat(8, 0).repeat(8, 1)
    before = random.integers(150, size=(SIZE, SIZE, bands))
    return {'A': before, 'B': before + 100 * changed[..., None], 'label': changed}


def write_levircd(root: Path, counts: dict[str, int] | None = None) -> None:
    """LEVIR-CD: ``A/train_0.png``, ``B`` and ``label``; masks 0 and 255."""
    for split, count in (counts or {'train': 6, 'val': 2, 'test': 2}).items():
        for number in range(count):
            for folder, values in _pair([number, len(split)]).items():
                _write(root / folder / f'{split}_{number}.png', values * (255 if folder == 'label' else 1))


def write_levircdplus(root: Path) -> None:
    """LEVIR-CD+: ``LEVIR-CD+/train/A/train_0.png``, ``B`` and ``label``, without val; masks 0 and 255."""
    for split, count in {'train': 6, 'test': 2}.items():
        for number in range(count):
            for folder, values in _pair([number, len(split)]).items():
                path = root / 'LEVIR-CD+' / split / folder / f'{split}_{number}.png'
                _write(path, values * (255 if folder == 'label' else 1))


def write_chabud(root: Path) -> None:
    """ChaBuD: a group of one HDF5 file for each place, some without a first date; folds 0 (val) to 4."""
    import h5py

    root.mkdir(parents=True, exist_ok=True)
    with h5py.File(root / 'train_eval.hdf5', 'w') as file:
        for number in range(10):
            pair = _pair([number], bands=12)
            group = file.create_group(f'place_{number}')
            group.attrs['fold'] = number % 5
            group['post_fire'] = pair['B'].astype(np.uint16)
            group['mask'] = pair['label'][..., None].astype(np.uint16)
            if number != 7:
                group['pre_fire'] = pair['A'].astype(np.uint16)


def write_landslides(root: Path, count: int = 8) -> None:
    """Landslide4Sense: ``img/image_1.h5`` with ``img`` (H, W, 14), float64, and ``mask/mask_1.h5`` with ``mask``."""
    import h5py

    for number in range(1, count + 1):
        pair = _pair([number], bands=14)
        for name, values in {'img': 0.01 * pair['B'], 'mask': pair['label'].astype(np.uint8)}.items():
            path = root / name / f'{"image" if name == "img" else name}_{number}.h5'
            path.parent.mkdir(parents=True, exist_ok=True)
            with h5py.File(path, 'w') as file:
                file.create_dataset(name, data=values, compression='gzip')
