"""What the training of a generator needs of any datamodule: raw units and the spec.

A datamodule of TorchGeo normalises and augments each batch for its task. A generator must learn the values as they
are, so the wrappers here read the datasets of the datamodule and leave its batch transforms alone.
"""

from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from torchgeo_specdm import compat
from torchgeo_specdm.datasets.epochs import EpochSampler, ResumableLoader, place_of
from torchgeo_specdm.draws import mixed_generator, mixed_seed
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.functional import dihedral
from torchgeo_specdm.functional.dihedral import ORIENTATIONS
from torchgeo_specdm.functional.statistics import band_statistics, images_at_once, some_samples
from torchgeo_specdm.spec import DatasetSpec, find_spec

# Enough pixels for a mean and a standard deviation: 512 patches of 128 px are 8 million
_STATISTICS_SAMPLES = 512
# What randomness is for; a word of each seed, so that no two purposes share one
_ORDER, _ORIENTATION, _STEP = 1, 2, 3
# Tasks measure the data where Lightning has them make their networks: there, all new tensors are on the GPU
_CPU = torch.device('cpu')


def _pairs(samples: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Collate image and mask alone; other keys (strings, dates) do not concern a generator."""
    return default_collate([{'image': s['image'].float(), 'mask': s['mask'].long()} for s in samples])  # type: ignore[no-any-return]


class PairDataModule(LightningDataModule):
    """What a generator reads of a ``NonGeoDataModule``, for datamodules that do without TorchGeo.

    Args:
        batch_size: Samples in a batch.
        num_workers: Processes that load the data.

    Attributes:
        train_dataset: Samples ``image`` and ``mask``; made by ``setup``, like the other two.
        val_dataset: Samples that a generator does not learn from.
        test_dataset: Samples that nothing learns from.
    """

    def __init__(self, batch_size: int, num_workers: int = 0) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.dataset: Dataset[Any] | None = None
        self.train_dataset: Dataset[Any] | None = None
        self.val_dataset: Dataset[Any] | None = None
        self.test_dataset: Dataset[Any] | None = None


class GeneratorDataModule(LightningDataModule):
    """The train and val samples of ``real`` in raw units.

    Args:
        real: Any datamodule of TorchGeo without geographic sampling, or a :class:`PairDataModule`.
        spec: Description of the data, where its datasets carry none.
        dihedral: Turn and flip train batches at random (all eight orientations).

    Attributes:
        seed: Of all that a training draws; PyTorch's when a fit starts (that of ``seed_everything``), and when one is
            resumed, that of its start.
    """

    def __init__(self, real: LightningDataModule, spec: DatasetSpec | None = None, dihedral: bool = True) -> None:
        super().__init__()
        if not (isinstance(real, PairDataModule) or compat.is_non_geo(real)):
            raise SpecDMError(f'a generator learns from a NonGeoDataModule, not from {type(real).__name__}')
        self.real: Any = real
        self.dihedral = dihedral
        self.seed = torch.initial_seed()
        self._spec = spec

    @property
    def spec(self) -> DatasetSpec:
        """Description of the train samples; known after ``setup``.

        Raises:
            SpecDMError: The datasets carry no spec and none was given.
        """
        spec = self._spec or find_spec(self.split('train'))
        if spec is None:
            raise SpecDMError(
                f'{type(self.split("train")).__name__} has no spec: declare bands, classes and unit with '
                'DatasetSpec.from_sample(dataset[0], ...) and pass it as spec'
            )
        return spec

    def prepare_data(self) -> None:
        """Download what ``real`` downloads."""
        self.real.prepare_data()

    def setup(self, stage: str) -> None:
        """Set up the datasets of ``real``.

        Raises:
            SpecDMError: The train split is empty, its samples contradict the spec, or there is one class.
        """
        # Before anything is seeded anew; the order of an epoch is one of all ranks
        seed = torch.initial_seed()
        self.seed = self.trainer.strategy.broadcast(seed) if self.trainer else seed
        self.real.trainer = self.trainer
        # A generator is validated with the statistics of its train split: fit is the stage that makes both
        self.real.setup('fit')
        dataset, spec = self.split('train'), self.spec
        if len(dataset) == 0:  # type: ignore[arg-type]
            raise SpecDMError(f'the train split of {type(self.real).__name__} is empty')
        if spec.num_classes < 2:
            raise SpecDMError(
                f'{spec.name or "the data"} has {spec.num_classes} class, of which a mask says nothing: declare one '
                'for the other pixels too'
            )
        sample = dataset[0]
        found = tuple(sample['image'].shape), tuple(sample['mask'].shape)
        if found != (spec.image_shape, spec.mask_shape):
            raise SpecDMError(
                f'image and mask of {spec.name or "the data"} are {found[0]} and {found[1]}, '
                f'but its spec says {spec.image_shape} and {spec.mask_shape}'
            )

    def band_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each band over (at most 512) train samples, ``(C,)`` each, raw units."""
        with _CPU:
            mean, std = band_statistics(batch['image'] for batch in self._some())
        # A constant band must not be divided by zero
        return mean, std.clamp_min(1e-6)

    def class_counts(self) -> Tensor:
        """Pixels of each class in (at most 512) train samples, ``(K,)`` int64; values that are no class left out."""
        count = self.spec.num_classes
        with _CPU:
            masks = (batch['mask'].flatten() for batch in self._some())
            return sum(
                (torch.bincount(mask[(mask >= 0) & (mask < count)], minlength=count) for mask in masks),
                torch.zeros(count, dtype=torch.long),
            )

    def state_dict(self) -> dict[str, Any]:
        """The seed."""
        return {'seed': self.seed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the seed."""
        self.seed = state_dict['seed']

    def step_seed(self, batch_idx: int) -> int:
        """Seed of what this rank draws in the training step of a batch, whatever was drawn before."""
        return mixed_seed(*self._words(_STEP, batch_idx))

    def _words(self, purpose: int, batch_idx: int) -> tuple[int, ...]:
        trainer = self.trainer
        assert trainer is not None
        # Several batches make a step where gradients are accumulated
        return self.seed, purpose, trainer.global_step, batch_idx % trainer.accumulate_grad_batches, trainer.global_rank

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled raw train samples."""
        workers = self.real.num_workers
        return self._shuffled(
            self.split('train'), num_workers=workers, collate_fn=_pairs, persistent_workers=workers > 0
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """Raw val samples in order."""
        return self._in_order(self.split('val'))

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        """Turn a train batch by one random orientation."""
        if self.dihedral and self.trainer and self.trainer.training and 'image' in batch:
            # Lightning counts the batch after this
            words = self._words(_ORIENTATION, self.trainer.fit_loop.batch_idx + 1)
            orientation = int(torch.randint(ORIENTATIONS, (), generator=mixed_generator(*words)))
            batch = {name: dihedral(value, orientation) for name, value in batch.items()}
        return batch

    def split(self, name: str) -> Dataset[Any]:
        """The raw ``train`` or ``val`` samples; known after ``setup``.

        Raises:
            SpecDMError: There are none.
        """
        # Not `or`: an empty dataset is false, and must be told from a missing one
        dataset = getattr(self.real, f'{name}_dataset')
        dataset = self.real.dataset if dataset is None else dataset
        if dataset is None:
            raise SpecDMError(f'{type(self.real).__name__} has no {name} dataset')
        return dataset  # type: ignore[no-any-return]

    def _some(self) -> DataLoader[Any]:
        """Train samples for statistics, always the same ones."""
        return self._in_order(some_samples(self.split('train'), _STATISTICS_SAMPLES))

    def _in_order(self, dataset: Dataset[Any]) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            # A batch for training is the user's choice; of latents, it may be larger than images of many bands can be
            batch_size=images_at_once(self.spec.image_shape, self.real.batch_size),
            num_workers=self.real.num_workers,
            collate_fn=_pairs,
            persistent_workers=self.real.num_workers > 0,
        )

    def _shuffled(self, dataset: Dataset[Any], **settings: Any) -> DataLoader[Any]:
        size, trainer = self.real.batch_size, self.trainer
        ranks, rank = (trainer.world_size, trainer.global_rank) if trainer else (1, 0)
        place = partial(place_of, trainer, size) if trainer else None
        sampler = EpochSampler(dataset, ranks, rank, mixed_seed(self.seed, _ORDER), place)
        # A last batch of one sample is noise; a train split smaller than a batch must still train
        return ResumableLoader(dataset, size, sampler=sampler, drop_last=len(sampler) >= size, **settings)
