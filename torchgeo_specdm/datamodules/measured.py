"""A datamodule for data that nobody has measured: batches are normalised by statistics of the train split."""

from typing import Any

import kornia.augmentation as K
from torch import Tensor
from torch.utils.data import DataLoader
from torchgeo.datamodules import NonGeoDataModule

from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.functional.statistics import band_statistics, images_at_once, some_samples

# Enough pixels for a mean and a standard deviation: 512 patches of 128 px are 8 million
_SAMPLES = 512


class MeasuredDataModule(NonGeoDataModule):
    """Train, val and test splits of one dataset class with ``split`` and a spec; one method to override.

    Batches are normalised by the mean and standard deviation of each band over (at most 512) train samples, measured
    in ``setup``, and not augmented. The train split may be smaller than a batch.

    Args:
        dataset_class: Takes ``split`` and ``patch_size``.
        patch_size: Height and width of a patch [px], or ``auto``.
        batch_size: Patches in a batch.
        num_workers: Processes that load patches.
        kwargs: Further arguments of the class.
    """

    mean: Tensor
    std: Tensor
    train_dataset: Any
    val_dataset: Any

    def __init__(
        self, dataset_class: Any, patch_size: int | str, batch_size: int, num_workers: int, **kwargs: Any
    ) -> None:
        super().__init__(dataset_class, batch_size, num_workers, **kwargs)
        self.patch_size = patch_size

    def make(self, split: str) -> Any:
        """The dataset of a split."""
        return self.dataset_class(split=split, patch_size=self.common_patch_size(), **self.kwargs)

    def common_patch_size(self) -> int | str:
        """The ``patch_size`` of all splits: where it is ``auto``, the one of the train split, which is made first."""
        return self.patch_size if self.train_dataset is None else self.train_dataset.patch_size  # type: ignore[no-any-return]

    def setup(self, stage: str) -> None:
        """Make the datasets of ``fit``, ``validate`` or ``test``, and measure the train split, once.

        Raises:
            SpecDMError: No pixel of train or val has a label; the datasets raise the rest.
        """
        if self.train_dataset is None:
            self.train_dataset = _labelled(self.make('train'), 'train')
            self.mean, self.std = self._statistics(self.train_dataset)
            normalize: Any = K.Normalize(mean=self.mean, std=self.std)
            if self.train_dataset.spec.num_dates == 2:
                normalize = K.VideoSequential(normalize)
            # TorchGeo built its own in __init__, before the statistics were known
            self.aug = K.AugmentationSequential(normalize, data_keys=None, keepdim=True)
            # TorchGeo drops the last train batch unless it is full, so a larger one would leave none
            self.train_batch_size = min(self.batch_size, len(self.train_dataset))
        if stage in ('fit', 'validate') and self.val_dataset is None:
            self.val_dataset = _labelled(self.make('val'), 'val')
        if stage == 'test':
            self.test_dataset = self.make('test')

    def _statistics(self, dataset: Any) -> tuple[Tensor, Tensor]:
        size = images_at_once(dataset.spec.image_shape, self.batch_size)
        loader = DataLoader(some_samples(dataset, _SAMPLES), size, num_workers=self.num_workers)
        mean, std = band_statistics(batch['image'] for batch in loader)
        # A constant band must not be divided by zero
        return mean, std.clamp_min(1e-6)


def _labelled(dataset: Any, split: str) -> Any:
    """The dataset, unless none of (at most 512) samples has a pixel with a label."""
    chosen = some_samples(dataset, _SAMPLES)
    if not any(bool((chosen[n]['mask'] != dataset.spec.ignore_index).any()) for n in range(len(chosen))):
        raise SpecDMError(
            f'no pixel of the {len(chosen)} {split} patches looked at has a label: check classes, ignore and the split'
        )
    return dataset
