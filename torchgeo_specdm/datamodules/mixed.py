"""Any datamodule of TorchGeo, with synthetic samples in its train split."""

import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils.data import DataLoader, default_collate
from torchgeo.datamodules import BaseDataModule, GeoDataModule
from torchgeo.datamodules.utils import collate_fn_detection

from torchgeo_specdm.datasets.device import resolve_device
from torchgeo_specdm.datasets.mixed import MixedDataset, parse_ratio
from torchgeo_specdm.datasets.synthetic import SpecDMSynthetic
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.spec import DatasetSpec


class _Forward:
    """An attribute that lives on ``real`` alone, so that both datamodules always agree on it."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, module: Any, owner: type | None = None) -> Any:
        return self if module is None else getattr(module.real, self.name)

    def __set__(self, module: Any, value: Any) -> None:
        setattr(module.real, self.name, value)


class MixedDataModule(BaseDataModule):
    """``real`` with ``ratio`` synthetic samples per real one in its train split; everything else is ``real``'s.

    That is: val, test and predict loaders, mean and std, the augmentation on the device, plot and state. A custom
    sampler of ``real``'s train loader is not taken over: the mixed train split is shuffled.

    With ``num_workers`` > 0 all synthetic samples are generated before the training, by all ranks together, and the
    workers read them from the cache. Without workers they are generated as the training needs them. Without a cache,
    each worker generates the blocks it needs on the CPU; where generation is on a GPU, the train loader then runs
    without workers.

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
        classes: Shares of pixels by class name, or ``balanced``; see :class:`SpecDMSynthetic`.
        guidance: How strongly to pull towards them.
        agreement: How strongly to pull images and masks towards those that go together.
        cache: Folder of the synthetic samples; see :class:`SpecDMSynthetic`.
        max_bytes: Largest size of that folder [byte].
        include_real: Whether to train on the real samples too.
        real_spec: Description of the real dataset, where it carries none.

    Raises:
        CheckpointError: The checkpoint cannot be read.
        SpecDMError: ``real`` samples by location or collates objects, an argument is out of range, or there is no such
            filter.
    """

    mean = _Forward()
    std = _Forward()
    trainer = _Forward()
    dataset_class = _Forward()
    batch_size = _Forward()
    num_workers = _Forward()
    dataset = _Forward()
    val_dataset = _Forward()
    test_dataset = _Forward()
    predict_dataset = _Forward()
    train_batch_size = _Forward()
    val_batch_size = _Forward()
    test_batch_size = _Forward()
    predict_batch_size = _Forward()
    aug = _Forward()
    train_aug = _Forward()
    val_aug = _Forward()
    test_aug = _Forward()
    predict_aug = _Forward()
    collate_fn = _Forward()

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
        cache: bool | str | None = True,
        max_bytes: int | None = None,
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
        self.real = real
        # Not BaseDataModule's: its state is real's, and this would reset it
        LightningDataModule.__init__(self)
        self.prepare_data_per_node = real.prepare_data_per_node
        self.allow_zero_length_dataloader_with_multiple_devices = (
            real.allow_zero_length_dataloader_with_multiple_devices
        )
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
            cache=cache,
            max_bytes=max_bytes,
        )
        self._materialized = False
        self.ratio = ratio
        self.seed = seed
        self.include_real = include_real
        self.real_spec = real_spec
        self.train_dataset: MixedDataset | None = None

    def prepare_data(self) -> None:
        """Download what ``real`` downloads."""
        self.real.prepare_data()

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
        self.train_dataset = MixedDataset(
            train,
            self.synthetic,
            self.ratio,
            seed=self.seed,
            include_real=self.include_real,
            real_spec=self.real_spec,
        )
        count = int(self.train_dataset.is_synthetic.sum())
        if self.synthetic.cache is None or not count:
            return
        # Here, on every rank, and not in prepare_data, which knows neither the stage nor the number of samples
        if self.real.num_workers:
            self._materialized = self.synthetic.materialize(count)
        else:
            self.synthetic.reserve(count)

    def teardown(self, stage: str) -> None:
        """Tear down ``real``."""
        self.real.teardown(stage)

    def train_dataloader(self) -> DataLoader[Any]:
        """The mixed train split, shuffled, in ``real``'s batches."""
        assert self.train_dataset is not None, 'setup comes first'
        batch_size = self.real.train_batch_size or self.real.batch_size
        ranks = self.trainer.world_size if self.trainer else 1
        workers = self._workers()
        return DataLoader(
            self.train_dataset,
            batch_size=batch_size,
            shuffle=True,
            num_workers=workers,
            collate_fn=getattr(self.real, 'collate_fn', default_collate),
            # As TorchGeo, unless that would leave nothing to train on
            drop_last=len(self.train_dataset) // ranks >= batch_size,
            persistent_workers=workers > 0,
        )

    def val_dataloader(self) -> Any:
        """The val loader of ``real``."""
        return self.real.val_dataloader()

    def test_dataloader(self) -> Any:
        """The test loader of ``real``."""
        return self.real.test_dataloader()

    def predict_dataloader(self) -> Any:
        """The predict loader of ``real``."""
        return self.real.predict_dataloader()

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """The hook of ``real``."""
        return self.real.on_before_batch_transfer(batch, dataloader_idx)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """The hook of ``real``."""
        return self.real.transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        """The hook of ``real``, its augmentation among it; which samples are synthetic is none of its business."""
        flag = {'synthetic': batch['synthetic']} if 'synthetic' in batch else {}
        pairs = {key: value for key, value in batch.items() if key != 'synthetic'}
        return dict(self.real.on_after_batch_transfer(pairs, dataloader_idx)) | flag

    def on_exception(self, exception: BaseException) -> None:
        """The hook of ``real``."""
        self.real.on_exception(exception)

    def state_dict(self) -> dict[str, Any]:
        """The state of ``real``."""
        return dict(self.real.state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of ``real``."""
        self.real.load_state_dict(state_dict)

    def plot(self, *args: Any, **kwargs: Any) -> Figure | None:
        """The plot of ``real``."""
        figure: Figure | None = self.real.plot(*args, **kwargs)
        return figure

    def _workers(self) -> int:
        workers = int(self.real.num_workers)
        device = self.synthetic.device
        if workers and not self._materialized and resolve_device(device).type == 'cuda':
            warnings.warn(
                f'synthetic samples are generated on the GPU, which {workers} forked workers cannot use, and there is '
                "no cache to read them from: the train loader runs without workers (a cache, or device='cpu', keeps "
                'them)',
                stacklevel=2,
            )
            return 0
        return workers
