"""Writes folders that TorchGeo's LoveDA and LEVIR-CD read, small."""

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


def write_levircd(root: Path, counts: dict[str, int] | None = None) -> None:
    """LEVIR-CD: ``A/train_0.png``, ``B`` and ``label``; masks 0 and 255."""
    for split, count in (counts or {'train': 6, 'val': 2, 'test': 2}).items():
        for number in range(count):
            random = np.random.default_rng([number, len(split)])
            changed = random.integers(2, size=(4, 4)).repeat(8, 0).repeat(8, 1)
            before = random.integers(150, size=(SIZE, SIZE, 3))
            _write(root / 'A' / f'{split}_{number}.png', before)
            _write(root / 'B' / f'{split}_{number}.png', before + 100 * changed[..., None])
            _write(root / 'label' / f'{split}_{number}.png', 255 * changed)
