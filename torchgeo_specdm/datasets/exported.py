"""Samples that ``specdm sample`` wrote as GeoTIFF, read again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from torchgeo_specdm.checkpoint import read_json
from torchgeo_specdm.datasets.plotted import Plotted
from torchgeo_specdm.datasets.rasters import opened
from torchgeo_specdm.errors import RasterError, SpecDMError
from torchgeo_specdm.spec import DatasetSpec

DESCRIPTION = 'specdm.json'
_REMEDY = 'delete it and run the same "specdm sample" again'


def sample_files(folder: Path, index: int, spec: DatasetSpec) -> tuple[list[Path], Path]:
    """The image files, one per date, and the mask file of a sample."""
    dates = [''] if spec.num_dates == 1 else [f'_t{date}' for date in range(1, spec.num_dates + 1)]
    return [folder / 'image' / f'{index:06d}{date}.tif' for date in dates], folder / 'mask' / f'{index:06d}.tif'


def is_count(value: Any) -> TypeGuard[int]:
    """Whether a value of JSON is a number of samples."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


class ExportedPairs(Plotted):
    """The folder that ``specdm sample`` wrote, as the dataset that it was written from.

    Samples hold ``image`` (float32), ``mask`` (int64) in the shapes of :mod:`torchgeo_specdm.spec` and ``synthetic``
    (0-d bool, True).

    Args:
        folder: Holds ``specdm.json``, ``image`` and ``mask``.
        length: Number of samples to read, from the first; all by default.
        transforms: Applied to each sample.

    Attributes:
        filtered: Counts of the filter that chose the samples, where there was one.

    Raises:
        SpecDMError: The folder is no export, or an interrupted one.
        CheckpointError: Its description is missing or damaged.
    """

    def __init__(
        self,
        folder: str | Path,
        length: int | None = None,
        transforms: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.transforms = transforms
        description = read_json(self.folder / DESCRIPTION)
        if not is_count(description.get('count')) or not isinstance(description.get('spec'), dict):
            raise SpecDMError(f'{self.folder / DESCRIPTION} does not describe samples that "specdm sample" wrote')
        if (found := description.get('format', 'geotiff')) != 'geotiff':
            raise SpecDMError(f'{self.folder} holds samples in the format {found}: only geotiff is read here')
        self.spec = DatasetSpec.from_dict(description['spec'])
        self.filtered: dict[str, int] | None = description.get('filtered')
        count: int = description['count']
        self.length = count if length is None else min(length, count)
        for index in (0, self.length - 1):
            images, mask = sample_files(self.folder, index, self.spec)
            if missing := [path for path in (*images, mask) if not path.is_file()]:
                raise SpecDMError(f'{missing[0]} is missing: run the same "specdm sample" again to complete the folder')

    def __len__(self) -> int:
        """Number of samples."""
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The sample at ``index``.

        Raises:
            IndexError: There is no such sample.
            RasterError: A file is missing, damaged or of another shape.
        """
        if not -self.length <= index < self.length:
            raise IndexError(f'index {index} is out of range of {self.length} samples in {self.folder}')
        images, mask = sample_files(self.folder, index % self.length, self.spec)
        dates = np.stack([self._read(path, self.spec.num_bands) for path in images])
        codes = self._read(mask, 1).astype(np.int64)
        if wrong := set(np.unique(codes).tolist()) - {*range(self.spec.num_classes), self.spec.ignore_index}:
            raise RasterError(f'{mask} holds {min(wrong)}, which is no class of {self.spec.name}: {_REMEDY}')
        sample = {
            'image': torch.from_numpy(dates.astype(np.float32)).view(self.spec.image_shape),
            'mask': torch.from_numpy(codes).view(self.spec.mask_shape),
        }
        sample = self.transforms(sample) if self.transforms else sample
        return sample | {'synthetic': torch.tensor(True)}

    def _read(self, path: Path, bands: int) -> Any:
        with opened(str(path)) as raster:
            found, due = (raster.count, *raster.shape), (bands, self.spec.patch_size, self.spec.patch_size)
            # Looked at before there is memory for it
            if found != due or any(np.dtype(name).kind not in 'iuf' for name in raster.dtypes):
                raise RasterError(f'{path} has {found} values of {raster.dtypes[0]}, not {due}: {_REMEDY}')
            return raster.read()
