"""SegMunich for TorchGeo's trainer."""

import os
from collections.abc import Sequence
from typing import Any

import kornia.augmentation as K
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Subset
from torchgeo.datamodules import NonGeoDataModule

from torchgeo_specdm.datasets.segmunich import SegMunich, split_by_group
from torchgeo_specdm.functional.statistics import band_statistics, some_samples
from torchgeo_specdm.sensors import SPECDM_BANDS

# 1024 patches of 128 px are 17 million pixels
_STATISTICS_PATCHES = 1024


class SegMunichDataModule(NonGeoDataModule):
    """Train and val patches of :class:`~torchgeo_specdm.datasets.SegMunich`; test is val, as only two are published.

    Batches are normalised by the mean and standard deviation of each band. The authors publish neither for raw
    values, so ``setup`` measures them on 1024 train patches, drawn with a fixed seed.

    Args:
        root: Folder that holds the dataset or its archive.
        bands: Any of the ten bands, in any order.
        drop_blank: Leave out patches of which a larger share than this is background; None keeps all.
        group_split: Split train and val anew, by groups of near-duplicates, since the published split has copies of
            most val patches in train. False keeps the published split.
        val_share: Share of the patches that the new split gives to val.
        batch_size: Patches in a batch.
        num_workers: Processes that load patches.
        download: Download the dataset where it is missing.

    Raises:
        DatasetNotFoundError: Nothing of the dataset is in ``root`` and ``download`` is False (in ``setup``).
        SpecDMError: An argument is out of range or the dataset is only partly extracted (in ``setup``).
    """

    mean: Tensor
    std: Tensor
    train_dataset: SegMunich | Subset[Any] | None
    val_dataset: SegMunich | Subset[Any] | None

    def __init__(
        self,
        root: str | os.PathLike[str] = 'data',
        bands: Sequence[str] = SPECDM_BANDS,
        drop_blank: float | None = 0.5,
        group_split: bool = True,
        val_share: float = 0.2,
        batch_size: int = 16,
        num_workers: int = 0,
        download: bool = False,
    ) -> None:
        super().__init__(
            SegMunich, batch_size, num_workers, root=root, bands=bands, drop_blank=drop_blank, download=download
        )
        self.group_split = group_split
        self.val_share = val_share

    def setup(self, stage: str) -> None:
        """Split the patches and measure mean and standard deviation, once.

        Args:
            stage: Any; the train split is needed in all of them.
        """
        if self.train_dataset is not None:
            return
        published = SegMunich(split='train', **self.kwargs), SegMunich(split='val', **self.kwargs)
        self.plot_sample = published[0].plot
        train, val = split_by_group(ConcatDataset(published), self.val_share) if self.group_split else published
        self.train_dataset, self.val_dataset, self.test_dataset = train, val, val
        self.mean, self.std = self._statistics(train)
        # TorchGeo built its own in __init__, before the statistics were known
        self.aug = K.AugmentationSequential(K.Normalize(mean=self.mean, std=self.std), data_keys=None, keepdim=True)

    def plot(self, *args: Any, **kwargs: Any) -> Figure | None:
        """Run the plot method of the dataset; a ``Subset`` has none."""
        return self.plot_sample(*args, **kwargs)

    def _statistics(self, dataset: SegMunich | Subset[Any]) -> tuple[Tensor, Tensor]:
        loader = DataLoader(some_samples(dataset, _STATISTICS_PATCHES), self.batch_size, num_workers=self.num_workers)
        return band_statistics(batch['image'] for batch in loader)
