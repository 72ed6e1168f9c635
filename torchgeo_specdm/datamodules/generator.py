"""What the training of a generator needs of any datamodule: raw units, the spec, and latents encoded once.

A datamodule of TorchGeo normalises and augments each batch for its task. A generator must learn the values as they
are, so the wrappers here read the datasets of the datamodule and leave its batch transforms alone.
"""

from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate
from tqdm import tqdm

from torchgeo_specdm import compat
from torchgeo_specdm.datasets.epochs import EpochSampler, ResumableLoader, place_of
from torchgeo_specdm.draws import mixed_generator, mixed_seed
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.functional import dihedral
from torchgeo_specdm.functional.dihedral import ORIENTATIONS
from torchgeo_specdm.functional.statistics import band_statistics, images_at_once, some_samples
from torchgeo_specdm.models import PairAutoencoder
from torchgeo_specdm.spec import DatasetSpec, find_spec, one_hot

# Enough pixels for a mean and a standard deviation: 512 patches of 128 px are 8 million
_STATISTICS_SAMPLES = 512
# What randomness is for; a word of each seed, so that no two purposes share one
_ORDER, _ORIENTATION, _STEP = 1, 2, 3


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
        mean, std = band_statistics(batch['image'] for batch in self._some())
        # A constant band must not be divided by zero
        return mean, std.clamp_min(1e-6)

    def class_counts(self) -> Tensor:
        """Pixels of each class in (at most 512) train samples, ``(K,)`` int64; values that are no class left out."""
        count = self.spec.num_classes
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


class LatentDataModule(GeneratorDataModule):
    """The train samples as normalised joint latents, encoded once; val samples stay raw.

    The mean of the posterior is kept, not a draw: a diffusion model adds noise of its own.

    Args:
        real: As for :class:`GeneratorDataModule`.
        autoencoder: Encodes the samples.
        spec: As for :class:`GeneratorDataModule`.
        dihedral: Encode all eight orientations of each sample.
    """

    def __init__(
        self,
        real: LightningDataModule,
        autoencoder: PairAutoencoder,
        spec: DatasetSpec | None = None,
        dihedral: bool = True,
    ) -> None:
        super().__init__(real, spec, dihedral)
        self.autoencoder = autoencoder
        self.latents: Latents | None = None
        self.latent_mean = torch.zeros(0)
        self.latent_std = torch.zeros(0)

    @property
    def class_shares(self) -> Tensor:
        """Share of labelled pixels of each class in each train sample, ``(N, K)``; known after ``setup``."""
        assert self.latents is not None
        return self.latents.shares

    def setup(self, stage: str) -> None:
        """Encode the train split.

        Raises:
            SpecDMError: As for the base class, or the patches do not fit the autoencoder.
        """
        super().setup(stage)
        if self.latents is None:
            self.autoencoder.check_patch_size(self.spec)
            z, shares = self._encode()
            self.latent_mean = z.mean((0, 1, 3, 4))
            self.latent_std = z.std((0, 1, 3, 4)).clamp_min(1e-6)
            # In place, as all latents of a dataset may be most of what is in memory
            z.sub_(self.latent_mean.view(-1, 1, 1)).div_(self.latent_std.view(-1, 1, 1))
            # Half precision rounds normalised latents by 5e-4, far below the smallest noise level
            self.latents = Latents(z.half(), shares, ORIENTATIONS if self.dihedral else 1)
            rank_zero_info(f'Encoded {len(self.latents)} joint latents of shape {tuple(z.shape[2:])}')

    @torch.no_grad()
    def _encode(self) -> tuple[Tensor, Tensor]:
        """Latents ``(N, O, Z, h, w)`` and shares ``(N, K)`` of the train samples, batch by batch into place."""
        device = self.trainer.strategy.root_device if self.trainer else torch.device('cpu')
        autoencoder, spec, dataset = self.autoencoder.to(device).eval(), self.spec, self.split('train')
        # Where latents are pixels they can be turned themselves, which saves an eightfold memory
        orientations = ORIENTATIONS if self.dihedral and autoencoder.downsample > 1 else 1
        size, count = spec.patch_size // autoencoder.downsample, len(dataset)  # type: ignore[arg-type]
        z = torch.empty(count, orientations, autoencoder.channels, size, size)
        shares = torch.empty(count, spec.num_classes)
        done = 0
        for batch in tqdm(self._in_order(dataset), desc='encoding', leave=False):
            image, mask = batch['image'].to(device), batch['mask'].to(device)
            place = slice(done, done := done + len(image))
            for orientation in range(orientations):
                turned = dihedral(image, orientation), dihedral(mask, orientation)
                z[place, orientation] = autoencoder.encode(*turned).mean.cpu()
            counts = one_hot(batch['mask'], spec.num_classes, spec.ignore_index).sum((2, 3))
            shares[place] = counts / counts.sum(1, keepdim=True).clamp_min(1)
        return z, shares

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled batches of what :class:`Latents` holds."""
        assert self.latents is not None
        return self._shuffled(self.latents)


class Latents(Dataset[dict[str, Tensor]]):
    """Encoded samples in all their orientations.

    Samples hold ``latents`` ``(Z, h, w)``, ``shares`` ``(K,)``, the share of labelled pixels of each class, and
    ``orientation``, 0-7.

    Args:
        z: ``(N, O, Z, h, w)``; with O = 1, other orientations are made by turning the latents.
        shares: ``(N, K)``.
        orientations: How many orientations of each sample there are.
    """

    def __init__(self, z: Tensor, shares: Tensor, orientations: int) -> None:
        self.z = z
        self.shares = shares
        self.orientations = orientations

    def __len__(self) -> int:
        """Samples times orientations."""
        return len(self.z) * self.orientations

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One sample in one orientation."""
        sample, orientation = divmod(index, self.orientations)
        stored = self.z[sample]
        z = stored[orientation] if len(stored) > 1 else dihedral(stored[0], orientation)
        return {'latents': z.float(), 'shares': self.shares[sample], 'orientation': torch.tensor(orientation)}
