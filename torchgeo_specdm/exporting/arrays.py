"""NumPy arrays of any dataset, one file per sample or shards of many; neither holds a pickle.

``image`` has the unit and type of the dataset, ``mask`` the smallest integer type, both the shapes of
:mod:`torchgeo_specdm.spec`. The metadata is JSON: tags, coordinates and the whole spec.
"""

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.exporting.base import Format, Item, Write


class NPZ(Format):
    """``000000.npz`` with ``image``, ``mask`` and ``metadata``, a string of JSON."""

    name = 'npz'

    def files(self, unit: int) -> dict[str, Write]:  # noqa: D102
        return {f'{unit:06d}.npz': self._write}

    def _write(self, path: Path, items: Sequence[Item]) -> None:
        (item,) = items
        # An open file, as numpy appends a suffix to a name
        with path.open('wb') as file:
            np.savez_compressed(
                file,
                image=item.image.reshape(self.spec.image_shape),
                mask=item.mask.reshape(self.spec.mask_shape),
                metadata=np.array(json.dumps(self.metadata(item))),
            )


class WebDataset(Format):
    """Tar files of 100 samples: ``000000.image.npy``, ``000000.mask.npy`` and ``000000.json``, and so on."""

    name = 'webdataset'
    unit_size = 100

    def set_shard_size(self, size: int) -> None:  # noqa: D102
        if size < 1:
            raise SpecDMError(f'the size of shards is {size}; a shard holds at least 1 sample')
        self.unit_size = size

    def is_complete(self, folder: Path, unit: int, size: int) -> bool:  # noqa: D102
        # The last shard is there but short when the export goes on
        return super().is_complete(folder, unit, size) and _samples(folder / f'{unit:06d}.tar') == size

    def files(self, unit: int) -> dict[str, Write]:  # noqa: D102
        return {f'{unit:06d}.tar': self._write}

    def _write(self, path: Path, items: Sequence[Item]) -> None:
        with tarfile.open(path, 'w') as tar:
            for item in items:
                members = {
                    'image.npy': _npy(item.image.reshape(self.spec.image_shape)),
                    'mask.npy': _npy(item.mask.reshape(self.spec.mask_shape)),
                    'json': json.dumps(self.metadata(item)).encode(),
                }
                for name, content in members.items():
                    # Without time and owner: the same samples make the same file
                    member = tarfile.TarInfo(f'{item.index:06d}.{name}')
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


def _samples(path: Path) -> int:
    """Number of samples in a shard."""
    try:
        with tarfile.open(path, 'r:') as tar:
            return sum(name.endswith('.json') for name in tar.getnames())
    except tarfile.TarError as error:
        raise SpecDMError(f'{path} cannot be read ({error}): delete it and run the same command again') from error


def _npy(values: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()
