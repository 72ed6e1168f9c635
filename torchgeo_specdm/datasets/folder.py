"""A folder of image-mask pairs, or image-image-mask triples, as patches; no Python needed to describe it."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from torchgeo_specdm.datasets.declared import Declared
from torchgeo_specdm.datasets.pairs import LabelledRaster, describe, open_pair, require_like
from torchgeo_specdm.datasets.plotted import Plotted
from torchgeo_specdm.datasets.splitters import SPLITS, BySeed, Splitter
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.sizes import choose_patch_size
from torchgeo_specdm.spec import DatasetSpec


class FolderDataset(Plotted):
    """Patches of the rasters in a folder, in their unit.

    Files belong together where the wildcards of their patterns match the same text: with ``*/image.tif`` and
    ``*/mask.tif``, those of one sub-folder. This text is the name of a pair. Rasters are cut into patches that together
    cover them (:func:`~torchgeo_specdm.datasets.patches.patch_origins`); they may differ in size.

    Samples hold ``image``, float32 ``(C, H, W)``, and ``mask``, int64 ``(H, W)``; of two dates ``(2, C, H, W)`` and
    ``(1, H, W)``. Scale and offset of the tags are applied. Where a band is nodata, the image is 0 and the mask
    255, as where there is no label.

    Args:
        root: The folder.
        image: Pattern of the images in it, as ``image/*.tif``; ``*`` stands for text without a slash, ``**/`` for any
            folders, ``#NAME`` at the end for a variable of NetCDF, HDF5 or MATLAB files.
        mask: Pattern of the masks.
        patch_size: Height and width of a patch [px], or ``auto`` (:mod:`torchgeo_specdm.sizes`).
        declared: What the files do not say.
        later_image: Pattern of the images of the second date, which makes it change detection.
        split: ``train``, ``val`` or ``test``.
        splitter: Deals the files to the splits.
        overlap: Share of a train patch that its neighbour covers too, in [0, 1); val and test patches do not overlap,
            except at the border of a raster.
        min_labelled: Leave out patches of which a smaller share has a label; above 0, all masks are read at the start.
        transforms: Applied to each sample.

    Raises:
        RasterError: A file is missing, cannot be read, or is unlike the others. Pixels are read on access.
        SpecDMError: Files have no partner, a split is empty, an argument is out of range, or names of bands or the unit
            are neither declared nor in the files.
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
        splitter: Splitter | None = None,
        overlap: float = 0.0,
        min_labelled: float = 0.0,
        transforms: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
    ) -> None:
        if split not in SPLITS:
            raise SpecDMError(f'split is {split!r}; a folder has {", ".join(SPLITS)}')
        self.root = Path(root)
        self.split = split
        self.overlap = overlap if split == 'train' else 0.0
        self.transforms = transforms
        patterns = [image, *([later_image] if later_image else []), mask]
        files = matching_files(self.root, patterns)
        splits = (splitter or BySeed()).assign(list(files), self.root)
        # The number of a place is that of its files in the whole folder, whatever the split
        numbers = [number for number, assigned in enumerate(splits) if assigned == split]
        if not numbers:
            raise SpecDMError(f'none of the {len(files)} pairs in {self.root} is in the split {split}')
        self.names = [list(files)[number] for number in numbers]
        self.pairs = [self._open(files[name], declared) for name in self.names]
        for pair in self.pairs:
            require_like(self.pairs[0].bands, pair.bands, self.pairs[0].images[0].path, pair.images[0].path)
        self.patch_size = choose_patch_size(patch_size, [pair.shape for pair in self.pairs])
        self.spec: DatasetSpec = describe(self.pairs, declared, self.patch_size)
        wanted: dict[str, Any] = {'size': self.patch_size, 'overlap': self.overlap, 'min_labelled': min_labelled}
        self._patches = [
            (place, row, col)
            for place, pair in enumerate(self.pairs)
            for row, col in pair.origins(0, 0, *pair.shape, **wanted)
        ]
        if not self._patches:
            raise SpecDMError(
                f'no patch of the {split} split of {self.root} has labels on {min_labelled} of its pixels'
            )
        self.windows = [(numbers[place], row, col) for place, row, col in self._patches]

    def __len__(self) -> int:
        """Number of patches."""
        return len(self._patches)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """The patch at ``index``; see the class for its shapes.

        Raises:
            IndexError: There is no such patch.
            RasterError: A file cannot be read, or its mask holds a value that was not declared.
        """
        place, row, col = self._patches[index]
        sample = self.pairs[place].read(row, col, self.patch_size)
        return sample if self.transforms is None else self.transforms(sample)

    @staticmethod
    def _open(paths: tuple[str, ...], declared: Declared) -> LabelledRaster:
        return open_pair(paths[:-1], paths[-1], declared)


def matching_files(root: Path, patterns: list[str]) -> dict[str, tuple[str, ...]]:
    """Files that belong together, by the name of their pair, sorted.

    Args:
        root: Where to look.
        patterns: One for each file of a pair.

    Raises:
        SpecDMError: There is no such folder, nothing matches a pattern, or a file has no partner.
    """
    if not root.is_dir():
        raise SpecDMError(f'there is no folder {root}')
    found = [_matches(root, pattern) for pattern in patterns]
    for pattern, files in zip(patterns, found, strict=True):
        if not files:
            raise SpecDMError(f'no file in {root} matches {pattern}')
        for other, partners in zip(patterns, found, strict=True):
            if alone := sorted(files.keys() - partners.keys()):
                raise SpecDMError(
                    f'{len(alone)} of {len(files)} files {pattern} in {root} have no partner {other}: '
                    f'{files[alone[0]]} is one; the wildcards of both must match the same text'
                )
    return {name: tuple(files[name] for files in found) for name in sorted(found[0])}


def _matches(root: Path, pattern: str) -> dict[str, str]:
    """Files by what the wildcards of a pattern match in their path."""
    glob, sign, variable = pattern.partition('#')
    if Path(glob).is_absolute() or '..' in Path(glob).parts:
        raise SpecDMError(f'the pattern {pattern} must stay inside the folder of the dataset')
    parts = re.split(r'(\*\*/|\*|\?)', glob)
    wildcards = {'**/': '((?:.*/)?)', '*': '([^/]*)', '?': '([^/])'}
    regex = re.compile(''.join(wildcards.get(part) or re.escape(part) for part in parts))
    files = {}
    for path in root.glob(glob):
        if path.is_file() and (match := regex.fullmatch(path.relative_to(root).as_posix())):
            name = '/'.join(text.strip('/') for text in match.groups() if text.strip('/')) or path.stem
            files[name] = f'{path}{sign}{variable}'
    return files
