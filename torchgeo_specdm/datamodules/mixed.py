"""Any datamodule of TorchGeo, with synthetic samples in its train split."""

import os
import warnings
from functools import partial
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, default_collate
from torchgeo.datamodules import BaseDataModule, GeoDataModule
from torchgeo.datamodules.utils import collate_fn_detection

from torchgeo_specdm.datamodules.wrapping import WrappingDataModule
from torchgeo_specdm.datasets.device import resolve_device
from torchgeo_specdm.datasets.epochs import ResumableLoader, counted_place
from torchgeo_specdm.datasets.mixed import MixedDataset, parse_ratio
from torchgeo_specdm.datasets.order import MixedSampler
from torchgeo_specdm.datasets.synthetic import SpecDMSynthetic
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.spec import DatasetSpec


class MixedDataModule(WrappingDataModule):
    """``real`` with ``ratio`` synthetic samples per real one in its train split; everything else is ``real``'s.

    That is: val, test and predict loaders, mean and std, the augmentation on the device, plot and state. A custom
    sampler of ``real``'s train loader is not taken over: a :class:`~torchgeo_specdm.datasets.order.MixedSampler`
    shuffles the mixed train split, another way in each epoch, by ``seed`` and the seed of ``seed_everything``.

    With ``num_workers`` > 0 all synthetic samples are generated before the training, by all ranks together and on a CPU
    by as many processes as there are workers, and the workers read them from the cache. With ``stream`` the training
    begins at once, and a process beside it generates them in the order in which they are read. Without workers they are
    generated as the training needs them, which waits for them, also with ``stream`` or ``fresh``. Without a cache, each
    worker generates the blocks it needs on the CPU; where generation is on a GPU, the train loader then runs without
    workers.

    Args:
        real: Any datamodule of TorchGeo without geographic sampling, whose train samples are image-mask pairs.
        checkpoint: A generator trained on the same kind of data: folder, name or address on the hub; see
            :class:`SpecDMSynthetic`.
        ratio: Synthetic samples per real one.
        seed: Seed of the synthetic samples and of their places.
        steps: Time steps of the solver.
        solver: A name in :data:`torchgeo_specdm.diffusion.SOLVERS`; by default the checkpoint's.
        sample_batch_size: Samples generated together; see :class:`SpecDMSynthetic`.
        device: Where to generate; see :class:`SpecDMSynthetic`.
        keep: ``aligned``, or the folder of a filter; see :class:`SpecDMSynthetic`.
        classes: Shares of pixels by class name, ``balanced`` or ``train``; see :class:`SpecDMSynthetic`.
        guidance: How strongly to pull towards them.
        agreement: How strongly to pull images and masks towards those that go together.
        precision: ``32-true`` or ``bf16-mixed``, of the generator; see :class:`SpecDMSynthetic`.
        compile: Whether to compile the generator; see :class:`SpecDMSynthetic`.
        cache: Folder of the synthetic samples; see :class:`SpecDMSynthetic`.
        max_bytes: Largest size of that folder [byte].
        stream: Whether to generate during the first epoch instead of before it.
        fresh: Other synthetic samples in each epoch, generated while the epoch before trains where there are workers
            and a cache; those of two epochs are on the disk. Implies ``stream``.
        include_real: Whether to train on the real samples too.
        real_spec: Description of the real dataset, where it carries none.

    Raises:
        CheckpointError: The checkpoint cannot be read.
        SpecDMError: ``real`` samples by location or collates objects, an argument is out of range, or there is no such
            filter.
    """

    def __init__(
        self,
        real: BaseDataModule,
        checkpoint: str | Path,
        ratio: float,
        *,
        seed: int = 0,
        steps: int = 20,
        solver: str | None = None,
        sample_batch_size: int | None = None,
        device: str | None = None,
        keep: str | None = None,
        classes: dict[str, float] | str | None = None,
        guidance: float | None = None,
        agreement: float = 1.0,
        precision: str = '32-true',
        compile: bool = False,
        cache: bool | str | None = True,
        max_bytes: int | None = None,
        stream: bool = False,
        fresh: bool = False,
        include_real: bool = True,
        real_spec: DatasetSpec | None = None,
    ) -> None:
        if isinstance(real, GeoDataModule):
            raise SpecDMError(
                f'{type(real).__name__} samples by location; a generator replaces patches (NonGeoDataModule)'
            )
        if getattr(real, 'collate_fn', default_collate) is collate_fn_detection:
            raise SpecDMError(f'{type(real).__name__} collates objects (detection); a generator makes image-mask pairs')
        parse_ratio(ratio)
        super().__init__(real)
        self.synthetic = SpecDMSynthetic(
            checkpoint,
            seed=seed,
            steps=steps,
            solver=solver,
            batch_size=sample_batch_size,
            device=device,
            keep=keep,
            classes=classes,
            guidance=guidance,
            agreement=agreement,
            precision=precision,
            compile=compile,
            cache=cache,
            max_bytes=max_bytes,
            fresh=fresh,
        )
        self.stream = stream or fresh
        self._on_disk = False
        self.ratio = ratio
        self.seed = seed
        self.include_real = include_real
        self.real_spec = real_spec
        self.train_dataset: MixedDataset | None = None

    def setup(self, stage: str) -> None:
        """Set up the datasets of ``real``, mix its train split and generate what its workers will read.

        Raises:
            SpecMismatchError: The train samples and the checkpoint do not fit together.
            SpecDMError: ``real`` has no train split, it cannot be mixed, or the disk is too small for the samples.
        """
        self.real.setup(stage)
        if stage != 'fit':
            return
        train = self.real.dataset if self.real.train_dataset is None else self.real.train_dataset
        if train is None:
            raise SpecDMError(f'{type(self.real).__name__} has no train dataset to mix synthetic samples into')
        self.synthetic.length = None
        self.train_dataset = MixedDataset(
            train,
            self.synthetic,
            self.ratio,
            seed=self.seed,
            include_real=self.include_real,
            real_spec=self.real_spec,
        )
        self._on_disk = self._provide(int(self.train_dataset.is_synthetic.sum()))

    def train_dataloader(self) -> DataLoader[Any]:
        """The mixed train split in ``real``'s batches."""
        assert self.train_dataset is not None, 'setup comes first'
        batch_size = self.real.train_batch_size or self.real.batch_size
        ranks, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        # As Lightning seeds its own samplers
        seed = self.seed + int(os.environ.get('PL_GLOBAL_SEED', 0))
        place = partial(counted_place, self.trainer, batch_size) if self.trainer else None
        size, fresh = self.synthetic.block_size, self.synthetic.fresh
        sampler = MixedSampler(self.train_dataset, size, ranks, rank, seed, fresh, place)
        workers = self._workers()
        return ResumableLoader(
            self.train_dataset,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=workers,
            collate_fn=getattr(self.real, 'collate_fn', default_collate),
            # As TorchGeo, unless that would leave nothing to train on
            drop_last=len(self.train_dataset) // ranks >= batch_size,
            persistent_workers=workers > 0,
        )

    def _provide(self, count: int) -> bool:
        """Generate what workers will read, or make room for it; whether they will find it on the disk.

        On every rank, and not in ``prepare_data``, which knows neither the stage nor the number of samples.
        """
        if self.stream:
            self.synthetic.length = count
            if count and not self.real.num_workers:
                warnings.warn(
                    'the training waits for each synthetic sample while it is generated, as the loader has no workers: '
                    'with num_workers of at least 1, they are generated beside the training',
                    stacklevel=3,
                )
        if self.synthetic.cache is None or not count:
            return False
        if self.real.num_workers and not self.stream:
            return self.synthetic.materialize(count, processes=self.real.num_workers)
        return self.synthetic.reserve(count)

    def _workers(self) -> int:
        workers = int(self.real.num_workers)
        device = self.synthetic.device
        if workers and not self._on_disk and resolve_device(device).type == 'cuda':
            warnings.warn(
                f'synthetic samples are generated on the GPU, which {workers} forked workers cannot use, and there is '
                "no cache to read them from: the train loader runs without workers (a cache, or device='cpu', keeps "
                'them)',
                stacklevel=2,
            )
            return 0
        return workers
