"""Samples that ``specdm sample`` wrote as GeoTIFF, read again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from rasterio.errors import RasterioIOError
from torch import Tensor

from torchgeo_specdm.checkpoint import read_json
from torchgeo_specdm.datasets.plotted import Plotted
from torchgeo_specdm.errors import RasterError, SpecDMError
from torchgeo_specdm.spec import DatasetSpec

DESCRIPTION = 'specdm.json'


def sample_files(folder: Path, index: int, spec: DatasetSpec) -> tuple[list[Path], Path]:
    """The image files, one per date, and the mask file of a sample."""
    dates = [''] if spec.num_dates == 1 else [f'_t{date}' for date in range(1, spec.num_dates + 1)]
    return [folder / 'image' / f'{index:06d}{date}.tif' for date in dates], folder / 'mask' / f'{index:06d}.tif'


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
        if not isinstance(description.get('count'), int) or not isinstance(description.get('spec'), dict):
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
        dates = np.stack([_read(path) for path in images])
        size = self.spec.patch_size
        if dates.shape != (self.spec.num_dates, self.spec.num_bands, size, size):
            raise RasterError(f'{images[0]} is {dates.shape[1:]}; the description says {self.spec.image_shape}')
        sample = {
            'image': torch.from_numpy(dates.astype(np.float32)).view(self.spec.image_shape),
            'mask': torch.from_numpy(_read(mask).astype(np.int64)).view(self.spec.mask_shape),
        }
        sample = self.transforms(sample) if self.transforms else sample
        return sample | {'synthetic': torch.tensor(True)}


def _read(path: Path) -> Any:
    try:
        with rasterio.open(path) as raster:
            return raster.read()
    except RasterioIOError as error:
        raise RasterError(f'{path} cannot be read ({error}): run the same "specdm sample" again') from error
