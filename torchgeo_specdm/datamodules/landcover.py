"""Land cover on OSCD's imagery, split by city, for TorchGeo's segmentation task."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torchgeo_specdm.datamodules.oscd import OSCDPatchesDataModule
from torchgeo_specdm.datasets.landcover import OSCDLandCover
from torchgeo_specdm.sensors import SPECDM_BANDS


class OSCDLandCoverDataModule(OSCDPatchesDataModule):
    """Train patches of :class:`~torchgeo_specdm.datasets.OSCDLandCover` overlap; val and test patches do not.

    Patches, test cities and normalisation are those of :class:`~torchgeo_specdm.datamodules.OSCDPatchesDataModule`,
    each date a sample. Abu Dhabi, with most of the bright surface, stays in train; the val cities have every class.

    Args:
        root: As for :class:`~torchgeo_specdm.datasets.OSCDLandCover`, like all arguments without a note.
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

    patches = OSCDLandCover

    def __init__(
        self,
        root: str | Path = 'data',
        bands: Sequence[str] = SPECDM_BANDS,
        patch_size: int = 128,
        overlap: float = 0.5,
        val_cities: Sequence[str] = ('paris', 'pisa', 'rennes'),
        batch_size: int = 32,
        num_workers: int = 0,
        download: bool = False,
        checksum: bool = False,
    ) -> None:
        super().__init__(root, bands, patch_size, overlap, val_cities, batch_size, num_workers, download, checksum)

    def _per_date(self, augmentation: Any) -> Any:
        """An image has one date."""
        return augmentation
