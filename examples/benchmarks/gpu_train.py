"""Trainings that end in time: the time of a step is measured, and the number of steps follows from the budget."""

import inspect
import shutil
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gpu_plan import Job, Stage
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

from torchgeo_specdm import datamodules, tasks
from torchgeo_specdm.checkpoint import folder_hash, read_json, write_json
from torchgeo_specdm.resume import ResumeCheckpoint
from torchgeo_specdm.tasks.generator import GeneratorTask

# What the autoencoder gets of a training's time; the denoiser gets the rest
_FIRST_SHARE = 1 / 3
# Of the time that is left, for validation, for writing and for what a step takes longer later on
_RESERVE = 0.05
_WARM, _TIMED = 10, 30
_SAVE_EVERY = 45.0  # [s]


class SliceEndError(BaseException):
    """The time of this call is over; like Ctrl-C it is no error, so that the state of a training is saved."""


@dataclass
class Clock:
    """When this call must end, in seconds of :func:`time.monotonic`."""

    deadline: float

    def check(self, needed: float = 0.0) -> None:
        """Stop here unless that many seconds are left.

        Raises:
            SliceEndError: They are not.
        """
        if time.monotonic() + needed > self.deadline:
            raise SliceEndError


class InTime(Callback):
    """Stops a training between two steps when the time is over, and counts its seconds across interruptions."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.seconds, self._seen = clock, 0.0, 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._seen = time.monotonic()

    def on_train_batch_start(self, *_: Any) -> None:
        now = time.monotonic()
        self.seconds, self._seen = self.seconds + now - self._seen, now
        self.clock.check()

    def state_dict(self) -> dict[str, Any]:
        return {'seconds': self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds = state_dict['seconds']


class StepTimer(Callback):
    """The mean time of steps, after some that warm up."""

    def __init__(self, warm: int, timed: int) -> None:
        self.warm, self.timed, self.steps = warm, timed, 0
        self.seconds = self.first = self._start = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start = time.monotonic()

    def on_train_batch_end(self, *_: Any) -> None:
        self.steps += 1
        if self.steps in (self.warm, self.warm + self.timed):
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            now = time.monotonic()
            if self.steps == self.warm:
                self.first = now - self._start
            else:
                self.seconds = (now - self._start) / self.timed
            self._start = now


class Switch(Callback):
    """Sets how a task computes, once its network is there.

    Args:
        name: Of a variant: words of ``float32``, ``tf32``, ``channels-last`` and ``compile``.
    """

    def __init__(self, name: str) -> None:
        self.words = name.split()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        model: Any = pl_module.model
        allow_tf32('tf32' in self.words)
        if 'float32' in self.words:
            pl_module.half_on_cuda = nullcontext  # type: ignore[assignment]
        if 'channels-last' in self.words:
            model.to(memory_format=torch.channels_last)
        if 'compile' in self.words:
            # The autoencoder is trained through its losses, the denoiser by calling it
            if hasattr(model, 'losses'):
                model.losses = torch.compile(model.losses)
            else:
                model.compile()


def allow_tf32(allowed: bool) -> None:
    """Whether a GPU may round the factors of float32 products to 10 bits."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    if hasattr(cudnn, 'conv'):
        # PyTorch >= 2.9, where older flags fail once these were used
        cudnn.conv.fp32_precision = matmul.fp32_precision = 'tf32' if allowed else 'ieee'
    else:
        cudnn.allow_tf32 = matmul.allow_tf32 = allowed


# Of these, a training takes the fastest; what else there is, the table of speed says
VARIANTS = ('bf16', 'bf16 benchmark', 'bf16 benchmark channels-last')


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
    return make_task(stage).wrap_datamodule(datamodules.PackedDataModule(**stage.data), root)


def measure_step(stage: Stage, data: Any, root: Path, variant: str, scale: float = 1.0) -> dict[str, float]:
    """Time of a step [s], of the first ones [s], and the most memory of the GPU that it takes [MB]."""
    probe = root / 'probe'
    timer = StepTimer(*(max(2, round(steps * scale)) for steps in (_WARM, _TIMED)))
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    steps = timer.warm + timer.timed
    settings = {'max_steps': steps, 'limit_val_batches': 0, 'enable_checkpointing': False}
    trainer_for(probe, variant, timer, **settings).fit(make_task(stage), datamodule=data)
    shutil.rmtree(probe, ignore_errors=True)
    return {'step_seconds': timer.seconds, 'first_seconds': timer.first, 'memory_mb': peak_memory()}


def peak_memory() -> float:
    """The most memory of the GPU since it was last asked to forget [MB]; 0 without one."""
    return torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else 0.0


def train(job: Job, stages: list[Stage], root: Path, clock: Clock, scale: float = 1.0) -> dict[str, Any]:
    """Train all stages of a job, going on where an earlier call was stopped.

    Args:
        job: Its minutes are the budget.
        stages: Of the job.
        root: Folder of the job.
        clock: When this call must end.
        scale: Of the steps that measure.

    Returns:
        What is known of each stage, by name of its task, and the checkpoint's hash and size [MB].

    Raises:
        SliceEndError: The time of this call is over.
    """
    state: dict[str, Any] = {}
    for number, stage in enumerate(stages):
        seed_everything(job.seed, verbose=False)
        # The second stage gets what the first one has left
        share = _FIRST_SHARE if number == 0 and len(stages) > 1 else 1.0
        spent = sum(found['seconds'] for found in state.values())
        budget = (60 * job.minutes - spent) * share
        path = root / f'{stage.task}.json'
        known = read_json(path) if path.is_file() else {}
        if 'metrics' not in known:
            known = _train_stage(stage, known, root, budget, clock, scale)
            write_json(path, known)
        state[stage.task] = known
    checkpoint = root / 'checkpoint'
    size = sum(path.stat().st_size for path in checkpoint.rglob('*') if path.is_file()) / 1e6
    return {'stages': state, 'checkpoint': folder_hash(checkpoint), 'checkpoint_mb': size}


def _train_stage(
    stage: Stage, known: dict[str, Any], root: Path, budget: float, clock: Clock, scale: float
) -> dict[str, Any]:
    start = time.monotonic()
    data, path = open_data(stage, root), root / stage.task / 'last.ckpt'
    if 'max_steps' not in known:
        variants = {name: measure_step(stage, data, root, name, scale) for name in VARIANTS}
        best = min(variants, key=lambda name: variants[name]['step_seconds'])
        left = (budget - (time.monotonic() - start)) * (1 - _RESERVE)
        steps = min(stage.max_steps, max(2, int(left / variants[best]['step_seconds'])))
        known = {'variants': variants, 'variant': best, 'max_steps': steps, 'preset_steps': stage.max_steps}
        known['preparation_seconds'] = time.monotonic() - start
        write_json(root / f'{stage.task}.json', known)
    task, timer = make_task(stage), InTime(clock)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    resume = ResumeCheckpoint(path, every=_SAVE_EVERY)
    trainer = trainer_for(root, known['variant'], timer, resume, max_steps=known['max_steps'], limit_val_batches=0)
    trainer.fit(task, datamodule=data, **_loaded(Trainer.fit, path if path.is_file() else None))
    if not task.finished(root):
        # Killed after its last step and before it wrote its output
        task.on_train_end()
    memory = peak_memory()
    scores = trainer_for(root, known['variant']).validate(
        task, datamodule=data, verbose=False, **_loaded(Trainer.validate, path)
    )
    path.unlink()
    seconds = known['preparation_seconds'] + timer.seconds
    done = {'seconds': seconds, 'train_seconds': timer.seconds, 'memory_mb': memory, 'metrics': dict(scores[0])}
    return known | done


def _loaded(method: Any, path: Path | None) -> Mapping[str, Any]:
    """How a state is named, which this script has written itself."""
    safe = {'weights_only': True} if 'weights_only' in inspect.signature(method).parameters else {}
    return {'ckpt_path': path, **safe}
