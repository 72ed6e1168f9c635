"""How long epochs of TorchGeo's change detection task take on mixed samples.

The real samples are files that TorchGeo's own OSCD reads, one band each as in the release, written from a generator: so
nothing has to be downloaded. Arguments of the functions are those of the rows of sampling.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torchgeo.datasets
from lightning.pytorch import Callback, Trainer
from torch import Tensor
from torch.utils.data import Dataset
from torchgeo.datamodules import NonGeoDataModule

from loading_rows.measured import Row, Size, Times
from torchgeo_specdm.compat import change_task
from torchgeo_specdm.datamodules import MixedDataModule
from torchgeo_specdm.datasets import SpecDMSynthetic
from torchgeo_specdm.export import export
from torchgeo_specdm.spec import DatasetSpec

RATIO, BATCH = 5, 8


class Repeated(Dataset[dict[str, Tensor]]):
    """TorchGeo's OSCD, ``times`` over."""

    def __init__(self, root: Path, bands: Sequence[str], times: int) -> None:
        self.files = torchgeo.datasets.OSCD(str(root), 'train', bands=tuple(bands))
        self.times = times

    def __len__(self) -> int:
        return self.times * len(self.files)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return dict(self.files[index % len(self.files)])


class Files(NonGeoDataModule):
    """Train samples of :class:`Repeated`, normalised."""

    mean = torch.tensor(1500.0)
    std = torch.tensor(500.0)

    def __init__(self, root: Path, spec: DatasetSpec, times: int, workers: int) -> None:
        super().__init__(Repeated, BATCH, workers, root=root, bands=spec.bands, times=times)
        self.spec = spec
        # TorchGeo's own has no axis of time
        self.aug = lambda batch: batch | {'image': (batch['image'] - self.mean) / self.std}

    def setup(self, stage: str) -> None:
        self.train_dataset = Repeated(**self.kwargs)


class Watch(Callback):
    """When each epoch began and ended, and when the first batch was there [s]."""

    def __init__(self) -> None:
        self.first = 0.0
        self.epochs: list[float] = []

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self._start = time.perf_counter()

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, number: int) -> None:
        self.first = self.first or time.perf_counter()

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        self.epochs.append(time.perf_counter() - self._start)


def warm(workers: int, checkpoint: str, times: Times, size: Size, folder: Path) -> list[Row]:
    """An epoch on what is generated already, over one of as many real samples from files."""
    export(checkpoint, folder / 'files', size.warm, format='oscd')
    names = [f'{kind}, {workers} workers' for kind in ('mixed', 'real')]
    for name, ratio in zip(names, (RATIO, 0), strict=True):
        if times.count(name) < times.repeats:
            if ratio:
                data: NonGeoDataModule = _data(checkpoint, folder, ratio, workers, folder / 'warm')
                data.synthetic.materialize(ratio * size.warm)
            else:
                data = _files(checkpoint, folder, 1 + RATIO, workers)
            # The first one starts workers and opens files
            times.add(name, _train(data, folder, 1 + times.repeats).epochs[1:])
    mixed, real = map(times.median, names)
    note = f'{mixed:.3g} s against {real:.3g} s for {(1 + RATIO) * size.warm} samples'
    return [Row(f'warm epoch over real files, {workers} workers', mixed / real, '<= 1.05', mixed <= 1.05 * real, note)]


def cold(checkpoint: str, times: Times, size: Size, folder: Path) -> list[Row]:
    """A streamed epoch over generating everything and then training."""
    export(checkpoint, folder / 'files', size.cold, format='oscd')
    for number in range(times.repeats):
        for stream in (False, True):
            name = 'streamed' if stream else 'generated before'
            if times.count(name) > number:
                continue
            data = _data(checkpoint, folder, RATIO, size.streams, folder / f'{name} {number}', stream=stream)
            start = time.perf_counter()
            watch = _train(data, folder, 1)
            times.add(name, [time.perf_counter() - start])
            if stream:
                times.add('first batch', [watch.first - start])
    block = SpecDMSynthetic(checkpoint, device='cpu', cache=None)
    block[0]
    times.measure(block=lambda number: lambda: block[block.block_size * (1 + number)])
    streamed, before = times.median('streamed'), times.median('generated before')
    first, one = times.median('first batch'), times.median('block')
    start = f'{first:.3g} s against {one:.3g} s'
    whole = f'{streamed:.3g} s against {before:.3g} s, start of {size.streams} workers and of Lightning included'
    return [
        Row('cold epoch, streamed, over generating', streamed / before, '<= 1.05', streamed <= 1.05 * before, whole),
        Row('first batch, streamed, over a block', first / one, '<= 3', first <= 3 * one, start),
    ]


def _files(checkpoint: str, folder: Path, times: int, workers: int) -> Files:
    return Files(folder / 'files', SpecDMSynthetic(checkpoint).spec, times, workers)


def _data(
    checkpoint: str, folder: Path, ratio: int, workers: int, cache: Path, stream: bool = False
) -> MixedDataModule:
    real = _files(checkpoint, folder, 1, workers)
    return MixedDataModule(real, checkpoint, ratio, device='cpu', cache=str(cache), stream=stream, real_spec=real.spec)


def _train(data: NonGeoDataModule, folder: Path, epochs: int) -> Watch:
    real: Any = data.real if isinstance(data, MixedDataModule) else data
    task = change_task()(
        model='fcsiamdiff', backbone='resnet18', in_channels=len(real.spec.bands), task='binary', loss='bce'
    )
    # TorchGeo's scheduler looks at validation, of which there is none
    task.configure_optimizers = lambda: torch.optim.AdamW(task.parameters(), lr=1e-3)
    watch = Watch()
    Trainer(
        accelerator='cpu',
        max_epochs=epochs,
        limit_val_batches=0,
        callbacks=[watch],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=os.fspath(folder),
    ).fit(task, data)
    return watch
