"""A folder of rasters for TorchGeo's trainer."""

from typing import Any

from torchgeo_specdm.datamodules.measured import MeasuredDataModule
from torchgeo_specdm.datasets.folder import FolderDataset


class FolderDataModule(MeasuredDataModule):
    """Train, val and test patches of :class:`~torchgeo_specdm.datasets.FolderDataset`.

    Batches are normalised by the mean and standard deviation of each band over the train split.

    Args:
        batch_size: Patches in a batch; the train split uses all it has where that is fewer.
        num_workers: Processes that load patches.
        kwargs: Arguments of the dataset.

    Raises:
        SpecDMError: The dataset raises it, in ``setup``.
    """

    def __init__(self, batch_size: int = 16, num_workers: int = 0, **kwargs: Any) -> None:
        super().__init__(FolderDataset, batch_size, num_workers)
        self.kwargs = kwargs

    def make(self, split: str) -> FolderDataset:
        """The dataset of a split."""
        return FolderDataset(split=split, **self.kwargs)
