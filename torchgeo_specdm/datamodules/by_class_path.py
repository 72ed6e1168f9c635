"""Any dataset or datamodule of TorchGeo, or of somebody else, by its class path."""

from collections.abc import Mapping
from typing import Any, Literal

from torchgeo_specdm.datamodules.measured import MeasuredDataModule
from torchgeo_specdm.datasets.declared import Declared
from torchgeo_specdm.datasets.described import DescribedDataset, Keys
from torchgeo_specdm.datasets.sources import open_source
from torchgeo_specdm.datasets.splitters import Splitter


class TorchGeoDataModule(MeasuredDataModule):
    """Train, val and test patches of a ``NonGeoDataset`` or ``NonGeoDataModule``, described without Python.

    Batches are normalised by the mean and standard deviation of each band over the train split. Transforms of the
    batches of a datamodule are not applied: its samples are read as its datasets serve them.

    Args:
        source: Class path, as ``torchgeo.datasets.LoveDA``.
        patch_size: Height and width of a patch [px], or ``auto``; larger samples are cut.
        declared: What the samples do not say.
        arguments: Arguments of the class, without ``split``.
        splits: The class's own name of ``train``, and of ``val`` and ``test`` where it has them; by default they have
            these names. With a splitter, or where a dataset has no argument ``split``, ``train`` alone by default.
        splitter: Deals whole train samples to the splits that the class does not have. Samples that show overlapping
            ground must be kept together by one that knows of it.
        image: The entry of a sample that is the image.
        mask: Likewise.
        later_image: Likewise of a second date, where one entry does not hold both.
        overlap: Share of a train patch that its neighbour in the same sample covers too, in [0, 1).
        batch_size: Patches in a batch; the train split uses all it has where that is fewer.
        num_workers: Processes that load patches.

    Raises:
        SpecDMError: There is no such class, or its arguments do not fit it. The datasets raise the rest in ``setup``.
    """

    def __init__(
        self,
        source: str,
        patch_size: int | Literal['auto'],
        declared: Declared,
        arguments: Mapping[str, Any] | None = None,
        splits: Mapping[str, str] | None = None,
        splitter: Splitter | None = None,
        image: str = 'image',
        mask: str = 'mask',
        later_image: str | None = None,
        overlap: float = 0.0,
        batch_size: int = 16,
        num_workers: int = 0,
    ) -> None:
        super().__init__(DescribedDataset, patch_size, batch_size, num_workers, declared=declared)
        self.source = open_source(source, arguments, splits, splitter)
        self.keys = Keys(image, mask, later_image)
        self.overlap = overlap

    def prepare_data(self) -> None:
        """Download what the class downloads when its arguments say so."""
        self.source.download()

    def make(self, split: str) -> DescribedDataset | None:
        """The dataset of a split; None for a test split that is not there, without which one can train."""
        if split == 'test' and not self.source.has('test'):
            return None
        part = self.source.part(split)
        return DescribedDataset(
            part.dataset,
            self.common_patch_size(),
            keys=self.keys,
            numbers=part.numbers,
            origin=part.origin,
            overlap=self.overlap if split == 'train' else 0.0,
            name=self.source.name,
            **self.kwargs,
        )
