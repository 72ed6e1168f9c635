"""Guesses which files of a folder are images and which masks, by the names of their folders."""

import re
from collections import Counter
from pathlib import Path

from torchgeo_specdm.datasets.arrays import SUFFIXES
from torchgeo_specdm.datasets.splitters import SPLITS
from torchgeo_specdm.errors import SpecDMError

_SUFFIXES = ('.tif', '.tiff', '.img', '.nc', '.png', '.jp2', '.dat', '.bsq', *SUFFIXES)
_MASK = re.compile(r'mask|label|gt|annotation|cm|target', re.IGNORECASE)


def guess_patterns(root: Path) -> dict[str, str]:
    """Patterns ``image`` and ``mask``, with ``later_image`` where there are two folders of images.

    Raises:
        SpecDMError: The names do not tell; it says what there is.
    """
    groups = _groups(root)
    masks = [pattern for pattern in groups if _MASK.search(Path(pattern).parent.name)]
    images = sorted(pattern for pattern in groups if pattern not in masks)
    if len(masks) != 1 or len(images) not in (1, 2):
        there = ', '.join(f'{pattern} ({count} files)' for pattern, count in groups.items()) or 'no rasters'
        raise SpecDMError(
            f'the names in {root} do not tell images from masks: name them with --image and --mask; it has {there}'
        )
    return {'image': images[0], 'mask': masks[0]} | ({'later_image': images[1]} if len(images) == 2 else {})


def _groups(root: Path) -> dict[str, int]:
    """Files that differ in their names, and in the folder of their split, alone: their pattern and number."""
    counts: Counter[str] = Counter()
    for path in sorted(root.rglob('*')):
        if path.suffix.lower() in _SUFFIXES and path.is_file():
            parts = list(path.relative_to(root).parts[:-1])
            if parts and parts[0] in SPLITS:
                parts[0] = '*'
            counts['/'.join([*parts, f'*{path.suffix}'])] += 1
    return dict(counts)
