"""A folder of rasters for TorchGeo's trainer."""

import os
from typing import Literal

from torchgeo_specdm.datamodules.measured import MeasuredDataModule
from torchgeo_specdm.datasets.declared import Declared
from torchgeo_specdm.datasets.folder import FolderDataset
from torchgeo_specdm.datasets.splitters import Splitter


class FolderDataModule(MeasuredDataModule):
    """Train, val and test patches of :class:`~torchgeo_specdm.datasets.FolderDataset`.

    Batches are normalised by the mean and standard deviation of each band over the train split.

    Args:
        root: As for the dataset, like all arguments without a note.
        image: Pattern of the images.
        mask: Pattern of the masks.
        patch_size: Height and width of a patch [px], or ``auto`` (:mod:`torchgeo_specdm.sizes`).
        declared: What the files do not say.
        later_image: Pattern of the images of the second date.
        splitter: Deals the files to the splits.
        overlap: Share of a train patch that its neighbour covers too, in [0, 1).
        min_labelled: Leave out patches of which a smaller share has a label.
        batch_size: Patches in a batch; the train split uses all it has where that is fewer.
        num_workers: Processes that load patches.

    Raises:
        SpecDMError: The dataset raises it, in ``setup``.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        image: str,
        mask: str,
        patch_size: int | Literal['auto'],
        declared: Declared,
        later_image: str | None = None,
        splitter: Splitter | None = None,
        overlap: float = 0.0,
        min_labelled: float = 0.0,
        batch_size: int = 16,
        num_workers: int = 0,
    ) -> None:
        super().__init__(
            FolderDataset,
            patch_size,
            batch_size,
            num_workers,
            root=root,
            image=image,
            mask=mask,
            declared=declared,
            later_image=later_image,
            splitter=splitter,
            overlap=overlap,
            min_labelled=min_labelled,
        )
