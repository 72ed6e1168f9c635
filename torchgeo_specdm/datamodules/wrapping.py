"""A datamodule that is another one but for what a subclass changes."""

from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from matplotlib.figure import Figure
from torch import Tensor
from torchgeo.datamodules import BaseDataModule


class _Forward:
    """An attribute that lives on ``real`` alone, so that both datamodules always agree on it."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, module: Any, owner: type | None = None) -> Any:
        return self if module is None else getattr(module.real, self.name)

    def __set__(self, module: Any, value: Any) -> None:
        setattr(module.real, self.name, value)


class WrappingDataModule(BaseDataModule):
    """``real`` in everything: attributes, datasets, loaders, hooks, augmentation, plot and state.

    Args:
        real: Any datamodule of TorchGeo.
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

    def __init__(self, real: BaseDataModule) -> None:
        self.real = real
        # Not BaseDataModule's: its state is real's, and this would reset it
        LightningDataModule.__init__(self)
        self.prepare_data_per_node = real.prepare_data_per_node
        self.allow_zero_length_dataloader_with_multiple_devices = (
            real.allow_zero_length_dataloader_with_multiple_devices
        )

    def prepare_data(self) -> None:
        """Download what ``real`` downloads."""
        self.real.prepare_data()

    def teardown(self, stage: str) -> None:
        """Tear down ``real``."""
        self.real.teardown(stage)

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
