"""Indian Pines for TorchGeo's trainer."""

from torch import Tensor
from torchgeo.datamodules import NonGeoDataModule

from torchgeo_specdm.datasets.indian_pines import IndianPines


class IndianPinesDataModule(NonGeoDataModule):
    """Train, val and test patches of :class:`~torchgeo_specdm.datasets.IndianPines`.

    Batches are normalised by the mean and standard deviation of each of the 200 bands over the train pixels.

    Args:
        patch_size: Height and width of a patch [px]; TorchGeo's U-Net wants multiples of 32.
        overlap: Share of a train patch that its neighbour covers too, in [0, 1).
        batch_size: Patches in a batch.
        num_workers: Processes that load patches.

    Raises:
        SpecDMError: An argument is out of range, no patch fits into a split's blocks, or tensorly is missing.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, patch_size: int = 32, overlap: float = 0.875, batch_size: int = 16, num_workers: int = 0
    ) -> None:
        # TorchGeo builds its normalisation from these two in __init__
        self.mean, self.std = IndianPines('train', patch_size, overlap).band_statistics()
        super().__init__(IndianPines, batch_size, num_workers, patch_size=patch_size, overlap=overlap)
