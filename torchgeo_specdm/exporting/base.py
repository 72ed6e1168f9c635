"""A format of exported samples: which files there are, and how each of them is written.

Samples are written unit by unit. A unit is one sample, or the fixed number of samples that share a file; its files
appear under their names when they are complete, in the order in which the format names them.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.exporting.folder import replace_file
from torchgeo_specdm.exporting.grid import Grid
from torchgeo_specdm.spec import DatasetSpec, float32_limits


@dataclass(frozen=True)
class Item:
    """One sample, ready to be written.

    Attributes:
        index: Its index in the synthetic dataset.
        image: ``(T, C, H, W)`` of T dates, in the unit and data type of the dataset.
        mask: ``(H, W)``, in the smallest integer type that holds the classes and the ignore index.
        tags: Says by name that it is synthetic, and of which generator, seed and index.
    """

    index: int
    image: NDArray[Any]
    mask: NDArray[Any]
    tags: Mapping[str, Any]


# Writes the samples of a unit to a path that is moved to its name afterwards; a file of one sample gets one
Write = Callable[[Path, Sequence[Item]], None]


class Format(ABC):
    """A layout of files; a subclass says which ones in :meth:`files` and is added to ``FORMATS`` by its ``name``.

    Args:
        spec: Describes the samples.
        grid: Where they are said to lie.
        shard_size: Samples in a file, for formats of several; None is the format's own number.

    Raises:
        SpecDMError: Samples of this dataset do not fit the format.
    """

    name: ClassVar[str]
    unit_size = 1

    def __init__(self, spec: DatasetSpec, grid: Grid | None = None, shard_size: int | None = None) -> None:
        self.spec = spec
        self.grid = grid or Grid()
        if shard_size is not None:
            self.set_shard_size(shard_size)
        image = np.dtype(spec.dtype)
        if image.kind not in 'iuf':
            raise SpecDMError(f'{spec.name} has the data type {spec.dtype}; only integers and floats can be exported')
        # Samples are served in float32, of which half precision would lose digits
        self.image_dtype = np.promote_types(image, np.float32) if image.kind == 'f' else image
        self.mask_dtype = np.result_type(*map(np.min_scalar_type, (spec.num_classes, spec.ignore_index or 0)))
        if misfits := self.misfits():
            raise SpecDMError(
                f'{spec.name or "this dataset"} does not fit the format {self.name} ({"; ".join(misfits)}): '
                'use geotiff, npz or webdataset, which hold any dataset'
            )

    @abstractmethod
    def files(self, unit: int) -> dict[str, Write]:
        """The files of a unit by name, relative to the folder, and what writes each; the last one completes it."""

    def lists(self, count: int) -> dict[str, str]:
        """Texts by file name that list the samples, written when all ``count`` of them are there."""
        return {}

    def misfits(self) -> list[str]:
        """What in the spec cannot be written in this format, in words."""
        return []

    def set_shard_size(self, size: int) -> None:
        """Take the number of samples in a file.

        Raises:
            SpecDMError: Files of this format hold one sample each.
        """
        raise SpecDMError(f'files of the format {self.name} hold one sample each: leave out the size of shards')

    def item(self, index: int, sample: Mapping[str, Any], tags: Mapping[str, Any]) -> Item:
        """A sample in the types that are written.

        Args:
            index: Its index.
            sample: ``image`` and ``mask`` in the shapes of ``spec``.
            tags: As in :class:`Item`; the index and the note on the grid are added.
        """
        spec, size = self.spec, self.spec.patch_size
        # A given image may hold the largest integer of a type, which float32 rounds up
        image = sample['image'].numpy().clip(*float32_limits(spec.dtype))
        image = image.reshape(spec.num_dates, spec.num_bands, size, size)
        mask = sample['mask'].numpy().reshape(size, size)
        own = {'INDEX': index, 'GRID': self.grid.note}
        return Item(index, image.astype(self.image_dtype), mask.astype(self.mask_dtype), {**tags, **own})

    def is_complete(self, folder: Path, unit: int, size: int) -> bool:
        """Whether all files of a unit are there.

        Args:
            folder: Of the export.
            unit: Number of the unit.
            size: Samples that it is to hold: fewer than others where it is the last.
        """
        return all((folder / name).is_file() for name in self.files(unit))

    def write(self, folder: Path, unit: int, items: Sequence[Item]) -> None:
        """Write the files of a unit; those that are there are replaced.

        Args:
            folder: Of the export.
            unit: Number of the unit, from 0.
            items: Its samples.
        """
        for name, write in self.files(unit).items():
            replace_file(folder, name, write, items)

    def finish(self, folder: Path, count: int) -> None:
        """Write what lists the ``count`` samples, all of which are there."""
        for name, text in self.lists(count).items():
            path = folder / name
            if not path.is_file() or path.read_text(encoding='utf-8') != text:
                replace_file(folder, name, Path.write_text, text, 'utf-8')

    def metadata(self, item: Item) -> dict[str, Any]:
        """All that is known of a sample, as JSON types: for formats that have no place of their own for it."""
        place = self.grid.place(item.index, self.spec)
        t = place['transform']
        where = {'crs': place['crs'].to_wkt(), 'transform': [t.a, t.b, t.c, t.d, t.e, t.f]}
        return {**item.tags, **where, 'spec': self.spec.to_dict()}


def differences(layout: DatasetSpec, spec: DatasetSpec) -> list[str]:
    """What keeps samples of ``spec`` out of files of ``layout``, whose bands and mask values are fixed."""
    lines = layout.differences(dataclasses.replace(spec, ignore_index=layout.ignore_index))
    if '' in spec.bands:
        lines.append('bands without names')
    if spec.ignore_index != layout.ignore_index:
        lines.append(f'ignore_index: {layout.ignore_index} against {spec.ignore_index}')
    return lines
