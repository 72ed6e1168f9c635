"""OSCD in patches, split by city, for TorchGeo's change-detection task."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import kornia.augmentation as K
import torch
from torchgeo.datamodules import NonGeoDataModule

from torchgeo_specdm.datasets.oscd import OSCD, require_bands
from torchgeo_specdm.datasets.oscd_statistics import MEAN, STD
from torchgeo_specdm.sensors import SPECDM_BANDS


class OSCDPatchesDataModule(NonGeoDataModule):
    """Train patches overlap; val and test patches cover their cities without.

    Train and val cities share no pixel, for the split is by city. In every split the last patch of a row or column is
    shifted back to the border, so that no pixel is left out; at test, the pixels that it shares with its neighbour
    count twice.

    Batches are normalised by the mean and standard deviation of each band over the train cities, and not augmented.

    Args:
        root: As for :class:`~torchgeo_specdm.datasets.oscd.OSCD`, like all arguments without a note.
        bands: Names of the bands.
        patch_size: Height and width of a patch [px].
        overlap: Share of a train patch that its neighbour covers too, in [0, 1).
        val_cities: Train cities that are kept for validation.
        batch_size: Patches in a batch; the train split uses all it has where that is fewer.
        num_workers: Processes that load the data.
        download: Download the dataset where it is missing.
        checksum: Verify the checksum of what was downloaded.

    Raises:
        SpecDMError: A band does not exist. The datasets raise what they raise in ``setup``.
    """

    patches: Any = OSCD

    def __init__(
        self,
        root: str | Path = 'data',
        bands: Sequence[str] = SPECDM_BANDS,
        patch_size: int = 128,
        overlap: float = 0.5,
        val_cities: Sequence[str] = ('abudhabi', 'pisa', 'rennes'),
        batch_size: int = 32,
        num_workers: int = 0,
        download: bool = False,
        checksum: bool = False,
    ) -> None:
        require_bands(bands)
        super().__init__(
            self.patches,
            batch_size,
            num_workers,
            root=root,
            bands=tuple(bands),
            patch_size=patch_size,
            val_cities=tuple(val_cities),
            download=download,
            checksum=checksum,
        )
        self.overlap = overlap
        self.mean = torch.tensor([MEAN[band] for band in bands])
        self.std = torch.tensor([STD[band] for band in bands])
        # TorchGeo built its own in __init__, from the mean and standard deviation of no dataset
        self.aug = K.AugmentationSequential(
            self._per_date(K.Normalize(mean=self.mean, std=self.std)), data_keys=None, keepdim=True
        )

    def setup(self, stage: str) -> None:
        """Make the datasets of ``fit``, ``validate`` or ``test``.

        Raises:
            DatasetNotFoundError: The dataset is missing.
            SpecDMError: It is damaged, or an argument does not suit it.
        """
        if stage == 'fit':
            self.train_dataset = self.patches(split='train', overlap=self.overlap, **self.kwargs)
            # TorchGeo drops the last train batch unless it is full, so a larger one would leave none
            self.train_batch_size = min(self.batch_size, len(self.train_dataset))
        if stage in ('fit', 'validate'):
            self.val_dataset = self.patches(split='val', **self.kwargs)
        if stage == 'test':
            self.test_dataset = self.patches(split='test', **self.kwargs)

    def _per_date(self, augmentation: Any) -> Any:
        """The augmentation of a batch of images, from that of the image of one date."""
        return K.VideoSequential(augmentation)
