"""A training step: how it computes, on which data, and what it costs."""

import shutil
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from gpu_slices.plan import Stage
from torchgeo_specdm import datamodules, tasks
from torchgeo_specdm.tasks.generator import GeneratorTask

# Steps that warm up, and the fewest and the most that are timed
_WARM, _LEAST, _MOST = 10, 30, 40
_DECODED: dict[str, datamodules.PackedDataModule] = {}


class StepTimer(Callback):
    """The mean time of a step over an epoch, its turn included, after some steps that warm up; then training stops.

    Args:
        scale: Of the numbers of steps.
    """

    def __init__(self, scale: float) -> None:
        self.warm, self.least, self.most = (max(2, round(steps * scale)) for steps in (_WARM, _LEAST, _MOST))
        self.steps = self.last = 0
        self.seconds = self.first = self._start = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start = time.monotonic()
        self.last = self.warm + min(max(self.least, int(trainer.num_training_batches)), self.most)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.steps += 1
        if self.steps not in (self.warm, self.last):
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.monotonic()
        if self.steps == self.warm:
            self.first = now - self._start
        else:
            self.seconds = (now - self._start) / (self.last - self.warm)
            trainer.should_stop = True
        self._start = now


class Switch(Callback):
    """Sets how a task computes, once its network is there.

    Args:
        name: Of a variant: words of ``float32``, ``tf32``, ``channels-last`` and ``compile``.
    """

    def __init__(self, name: str) -> None:
        self.words = name.split()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        allow_tf32('tf32' in self.words, 'tf32' in self.words or 'float32' not in self.words)
        if 'float32' in self.words:
            pl_module.half_on_cuda = nullcontext  # type: ignore[assignment]
        if 'channels-last' in self.words:
            pl_module.model.to(memory_format=torch.channels_last)  # type: ignore[operator, union-attr]
        # Read by the task after this
        if 'compile' in pl_module.hparams:
            pl_module.hparams['compile'] = 'compile' in self.words


def allow_tf32(products: bool, convolutions: bool) -> None:
    """Whether a GPU may round the factors of float32 to 10 bits; by default PyTorch does so in convolutions."""
    # Not the newer names of these: PyTorch and Lightning read the older ones, which fail once the newer were set
    torch.set_float32_matmul_precision('high' if products else 'highest')
    torch.backends.cudnn.allow_tf32 = convolutions


def variants(task: str) -> tuple[str, ...]:
    """Of these, a preset's first training takes the fastest; a training of a given length, the first.

    What else there is, the table of speed says.
    """
    # A small network waits for the CPU that starts its kernels; compiled, it has fewer, and they start together. An
    # autoencoder is trained before it were compiled, and a CPU compiles for minutes
    compiled = task == 'LatentDiffusionTask' and torch.cuda.is_available()
    return ('bf16 benchmark compile', 'bf16 benchmark') if compiled else ('bf16 benchmark',)


def trainer_for(root: Path, variant: str, *callbacks: Callback, **settings: Any) -> Trainer:
    """A trainer that is quiet."""
    quiet = {'logger': False, 'enable_progress_bar': False, 'enable_model_summary': False, 'num_sanity_val_steps': 0}
    benchmark = 'benchmark' in variant.split()
    given = [Switch(variant), *callbacks]
    return Trainer(default_root_dir=root, devices=1, benchmark=benchmark, callbacks=given, **quiet, **settings)


def make_task(stage: Stage) -> GeneratorTask:
    """The task of a stage."""
    task: GeneratorTask = getattr(tasks, stage.task)(**stage.arguments)
    return task


def open_data(stage: Stage, root: Path) -> Any:
    """The data that the task of a stage trains on."""
    return make_task(stage).wrap_datamodule(packed(stage.data, 'fit'), root)


def packed(data: Mapping[str, Any], *stages: str) -> datamodules.PackedDataModule:
    """A datamodule of these arguments, set up for these stages; scenes are decoded once in a process."""
    module = datamodules.PackedDataModule(**data)
    key = repr([module.pack.folder, module.land_cover, module.patch_size, module.overlap, module.val_scenes])
    decoded = _DECODED.setdefault(key, module)
    for stage in stages:
        decoded.setup(stage)
    for name in ('train_dataset', 'val_dataset', 'test_dataset'):
        setattr(module, name, getattr(decoded, name))
    return module


def measure_step(stage: Stage, data: Any, root: Path, variant: str, scale: float = 1.0) -> dict[str, Any]:
    """Time of a step [s], of the first ones [s], and the most memory of the GPU that it takes [MB]; or what failed."""
    probe = root / 'probe'
    timer = StepTimer(scale)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    settings = {'max_steps': timer.warm + timer.most, 'limit_val_batches': 0, 'enable_checkpointing': False}
    try:
        trainer_for(probe, variant, timer, **settings).fit(make_task(stage), datamodule=data)
    except RuntimeError as error:
        # Too little memory, or a compiler that gives up: that is a result, too
        return {'failed': (str(error).splitlines() or [type(error).__name__])[0]}
    finally:
        shutil.rmtree(probe, ignore_errors=True)
    return {'step_seconds': timer.seconds, 'first_seconds': timer.first, 'memory_mb': peak_memory()}


def peak_memory() -> float:
    """The most memory of the GPU since it was last asked to forget [MB]; 0 without one."""
    return torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else 0.0
