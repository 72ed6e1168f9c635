"""Onera Satellite Change Detection (OSCD) as sorted, square patches.

24 cities x 2 dates x 13 bands of Sentinel-2 L1C, with masks of urban change on the 10 m grid of the first date
(Caye Daudt et al., IGARSS 2018, https://doi.org/10.1109/IGARSS.2018.8518015).
"""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchgeo.datasets
from numpy.typing import NDArray
from torch import Tensor
from torchgeo.datasets import DatasetNotFoundError

from torchgeo_specdm.datasets.archives import extract_zip
from torchgeo_specdm.datasets.oscd_files import Scene, check_size, find_scene, read_band, read_mask, require_folder
from torchgeo_specdm.datasets.patches import patch_origins
from torchgeo_specdm.datasets.plotted import Plotted
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.sensors import SENTINEL2_L1C, SPECDM_BANDS
from torchgeo_specdm.spec import DatasetSpec

TITLE = 'Onera Satellite Change Detection dataset'


class OSCD(Plotted, torchgeo.datasets.OSCD):
    """OSCD with the ten bands of SpecDM, in patches, in raw digital numbers (reflectance x 10 000).

    Patches are sorted by city, then row by row; :func:`~torchgeo_specdm.datasets.patches.patch_origins` describes
    the last ones at the border. Both releases are read: the one with registered ``imgs_*_rect`` folders, and the
    original one, whose bands are resampled bilinearly to the grid of the mask. A scene is decoded once per process
    and kept as unsigned 16-bit integers (about 20 MB for ten bands of an average city).

    A sample has ``image``, float32 ``(2, C, H, W)`` with the earlier date first, and ``mask``, int64 ``(1, H, W)``
    with 1 where something changed.

    Args:
        root: Folder that holds the ``Onera Satellite Change Detection dataset - ...`` folders.
        split: ``train`` is the 14 train cities without ``val_cities``, ``val`` is ``val_cities``, ``test`` is the
            10 test cities.
        bands: Any of Sentinel-2's 13 bands, in any order.
        patch_size: Height and width of a patch [px], or None for whole scenes, each of its own size.
        overlap: Share of a patch that its neighbour covers too, in [0, 1).
        val_cities: Train cities that belong to ``val`` instead.
        transforms: Applied to each sample with a leading batch axis, as TorchGeo's class does.
        download: Download the dataset where it is missing.
        checksum: Verify the checksum of what was downloaded.

    Raises:
        DatasetNotFoundError: Nothing of the dataset is in ``root`` and ``download`` is False.
        RasterError: A raster is missing, cannot be read or has the wrong size. Pixels are read on first access.
        SpecDMError: An argument is out of range, or the dataset is only partly extracted.
    """

    splits = ('train', 'val', 'test')
    rgb_bands = ('B04', 'B03', 'B02')

    def __init__(
        self,
        root: str | os.PathLike[str] = 'data',
        split: str = 'train',
        bands: Sequence[str] = SPECDM_BANDS,
        patch_size: int | None = 128,
        overlap: float = 0.0,
        val_cities: Sequence[str] = (),
        transforms: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
        download: bool = False,
        checksum: bool = False,
    ) -> None:
        require_known('split', [split], self.splits)
        require_bands(bands)
        self.patch_size = patch_size
        self.overlap = overlap
        self.val_cities = tuple(val_cities)
        super().__init__(root, split, tuple(bands), transforms, download, checksum)
        self.masks = [read_mask(scene.mask) for scene in self.files]
        for scene, mask in zip(self.files, self.masks, strict=True):
            for path in scene.images1 + scene.images2:
                check_size(path, mask.shape)
        self.windows = [window for index in range(len(self.files)) for window in self._scene_windows(index)]
        self._images: dict[int, NDArray[np.uint16]] = {}

    def __len__(self) -> int:
        """Number of patches (scenes where ``patch_size`` is None)."""
        return len(self.windows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """The patch at ``index``; see the class for its shapes and units.

        Raises:
            RasterError: A raster of the city cannot be read.
        """
        scene, row, col = self.windows[index]
        mask = self.masks[scene]
        height, width = (self.patch_size, self.patch_size) if self.patch_size else mask.shape
        window = (..., slice(row, row + height), slice(col, col + width))
        sample = {
            'image': torch.from_numpy(self._image(scene)[window].astype(np.float32)),
            'mask': torch.from_numpy(mask[window].astype(np.int64)).unsqueeze(0),
        }
        return self.apply_transforms(sample)

    def apply_transforms(self, sample: dict[str, Tensor]) -> dict[str, Tensor]:
        """Apply ``transforms`` to one sample, ``(2, C, H, W)`` and ``(1, H, W)``.

        Kornia's video transforms need a batch axis, which is added for them.
        """
        if self.transforms is None:
            return sample
        batch = self.transforms({name: value.unsqueeze(0) for name, value in sample.items()})
        return {name: value.squeeze(0) for name, value in batch.items()}

    @property
    def spec(self) -> DatasetSpec:
        """Description of the patches.

        Raises:
            SpecDMError: The dataset serves whole scenes, which have no common size.
        """
        if self.patch_size is None:
            raise SpecDMError('OSCD with patch_size=None serves whole scenes of different sizes: choose a patch_size')
        return oscd_spec(self.bands, self.patch_size)

    def spec_of(self, sample: dict[str, Tensor]) -> DatasetSpec:
        """Description of a sample, ``(2, C, H, W)``. A whole scene is no patch, but is drawn alike."""
        return oscd_spec(self.bands, max(sample['mask'].shape))

    def __getstate__(self) -> dict[str, Any]:
        # Decoding again in a spawned worker takes less time than sending all scenes through a pipe
        return self.__dict__ | {'_images': {}}

    @property
    def _folders(self) -> tuple[Path, Path]:
        part = 'Test' if self.split == 'test' else 'Train'
        return Path(self.root, f'{TITLE} - Images'), Path(self.root, f'{TITLE} - {part} Labels')

    def _verify(self) -> None:
        if any(folder.is_dir() for folder in self._folders):
            return
        super()._verify()
        if not any(folder.is_dir() for folder in self._folders):
            # TorchGeo is content with a match anywhere below root
            raise DatasetNotFoundError(self)

    def _extract(self) -> None:
        for archive in sorted(Path(self.root).glob(self.zipfile_glob)):
            extract_zip(archive, Path(self.root))

    def _load_files(self) -> list[Scene]:
        images, labels = (require_folder(folder) for folder in self._folders)
        # Either may lack a city when an archive was extracted in part
        listing = images / f'{labels.name.split()[-2].lower()}.txt'
        listed = listing.read_text().replace(',', ' ').split() if listing.is_file() else []
        cities = {folder.name for folder in labels.iterdir() if folder.is_dir()}.union(listed)
        if self.split != 'test':
            require_known('train city', self.val_cities, sorted(cities))
            cities = set(self.val_cities) if self.split == 'val' else cities.difference(self.val_cities)
        if not cities:
            raise SpecDMError(f'OSCD has no {self.split} city in {self.root} with val_cities={list(self.val_cities)}')
        registered = any(images.glob('*/imgs_*_rect'))
        return [find_scene(images / city, labels / city, self.bands, registered) for city in sorted(cities)]

    def _scene_windows(self, scene: int) -> list[tuple[int, int, int]]:
        if self.patch_size is None:
            return [(scene, 0, 0)]
        height, width = self.masks[scene].shape
        try:
            origins = patch_origins(height, width, self.patch_size, self.overlap)
        except SpecDMError as error:
            raise SpecDMError(f'OSCD {self.files[scene].region}: {error}') from error
        return [(scene, row, col) for row, col in origins]

    def _image(self, scene: int) -> NDArray[np.uint16]:
        """The decoded scene, ``(2, C, H, W)``."""
        if scene not in self._images:
            shape = self.masks[scene].shape
            dates = self.files[scene].images1, self.files[scene].images2
            self._images[scene] = np.stack([np.stack([read_band(path, shape) for path in paths]) for paths in dates])
        return self._images[scene]


def oscd_spec(bands: Sequence[str], patch_size: int) -> DatasetSpec:
    """Description of square patches of ``patch_size`` px in these bands."""
    return DatasetSpec(
        name='OSCD',
        task='change',
        bands=tuple(bands),
        classes=('no change', 'change'),
        patch_size=patch_size,
        unit=SENTINEL2_L1C.unit,
        scale=SENTINEL2_L1C.scale,
        value_range=(0.0, 10_000.0),
        dtype='uint16',
        wavelengths=tuple(SENTINEL2_L1C.band(band).wavelength for band in bands),
        palette=((0, 0, 0), (255, 255, 255)),
        gsd=10.0,
        licence='CC BY-NC-SA 4.0 (labels); Copernicus Sentinel data terms (imagery)',
        attribution=('Contains modified Copernicus Sentinel data 2015-2018; labels: Caye Daudt et al., IGARSS 2018'),
    )


def require_known(what: str, names: Iterable[str], known: Sequence[str]) -> None:
    """Refuse a name that is not ``known``.

    Raises:
        SpecDMError: Says which name, and which there are.
    """
    for name in names:
        if name not in known:
            raise SpecDMError(f'OSCD has no {what} {name!r}; choose from {", ".join(known)}')


def require_bands(bands: Sequence[str]) -> None:
    """Refuse an empty list of bands, and bands that Sentinel-2 does not have.

    Raises:
        SpecDMError: Says which band, and which there are.
    """
    if not bands:
        raise SpecDMError('OSCD needs at least one band')
    require_known('band', bands, OSCD.all_bands)
