"""Trainings that end in time: the time of a step is measured, and the number of steps follows from the budget."""

import inspect
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

from gpu_slices.plan import Job, Stage
from gpu_slices.steps import make_task, measure_step, open_data, peak_memory, trainer_for, variants
from torchgeo_specdm.checkpoint import folder_hash, read_json, write_json
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.resume import ResumeCheckpoint

# What the autoencoder gets of a training's time; the denoiser gets the rest
_FIRST_SHARE = 1 / 3
# Of the time that is left, for validation, for writing and for what a step takes longer later on
_RESERVE = 0.05
# Writing the state of a denoiser takes seconds, and a call ends with a state of its own [s]
_SAVE_EVERY = 120.0
# What comes before the first step: decoding and encoding the data, measuring [s]
_PREPARATION = 60.0


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


def train(
    job: Job, stages: list[Stage], root: Path, clock: Clock, scale: float, fastest: Mapping[str, str]
) -> dict[str, Any]:
    """Train all stages of a job, going on where an earlier call was stopped.

    Args:
        job: Its minutes are the budget.
        stages: Of the job.
        root: Folder of the job.
        clock: When this call must end.
        scale: Of the steps that measure.
        fastest: The fastest variant for the task of a stage, where that is known.

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
            clock.check(_PREPARATION * scale)
            start = time.monotonic()
            data = open_data(stage, root)
            names = [fastest[stage.task]] if stage.task in fastest else variants(stage.task)
            if stage.task in job.lengths:
                length = {'max_steps': stage.max_steps, 'preset_steps': stage.max_steps}
                known = {'variants': {}, 'variant': names[0], **length}
            elif not known:
                known = _measure(stage, data, root, start + budget, scale, names)
            # Measuring draws too, and not equally often in every run
            seed_everything(job.seed, verbose=False)
            known = _train_stage(stage, known, data, root, clock)
            # Of a training that was interrupted, what the calls but the last took besides training is not counted
            known['seconds'] = max(time.monotonic() - start, known['train_seconds'])
            write_json(path, known)
            (root / stage.task / 'last.ckpt').unlink()
        state[stage.task] = known
    checkpoint = root / 'checkpoint'
    if not checkpoint.is_dir():
        return {'stages': state}
    size = sum(path.stat().st_size for path in checkpoint.rglob('*') if path.is_file()) / 1e6
    return {'stages': state, 'checkpoint': folder_hash(checkpoint), 'checkpoint_mb': size}


def _measure(
    stage: Stage, data: Any, root: Path, end: float, scale: float, names: Sequence[str]
) -> dict[str, Any]:  # fmt: skip
    """The fastest variant of a step, and how many of them are done at ``end``, a time of :func:`time.monotonic`."""
    found = {name: measure_step(stage, data, root, name, scale) for name in names}
    done = [name for name in names if 'failed' not in found[name]]
    if not done:
        raise SpecDMError(f'no step of {stage.task} was possible: {found}')
    best = min(done, key=lambda name: found[name]['step_seconds'])
    steps = int((end - time.monotonic()) * (1 - _RESERVE) / found[best]['step_seconds'])
    known = {'variants': found, 'variant': best, 'max_steps': min(stage.max_steps, max(2, steps))}
    known |= {'preset_steps': stage.max_steps}
    write_json(root / f'{stage.task}.json', known)
    return known


def _train_stage(stage: Stage, known: dict[str, Any], data: Any, root: Path, clock: Clock) -> dict[str, Any]:
    path = root / stage.task / 'last.ckpt'
    task, timer = make_task(stage), InTime(clock)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    resume = ResumeCheckpoint(path, every=_SAVE_EVERY)
    trainer = trainer_for(
        root,
        known['variant'],
        timer,
        resume,
        max_steps=known['max_steps'],
        gradient_clip_val=stage.gradient_clip_val,
        limit_val_batches=0,
    )
    trainer.fit(task, datamodule=data, **_loaded(Trainer.fit, path if path.is_file() else None))
    if not task.finished(root):
        # Killed after its last step and before it wrote its output
        task.on_train_end()
    memory = peak_memory()
    scores = trainer_for(root, known['variant'], timer).validate(
        task, datamodule=data, verbose=False, **_loaded(Trainer.validate, path)
    )
    return known | {'train_seconds': timer.seconds, 'memory_mb': memory, 'metrics': dict(scores[0])}


def _loaded(method: Any, path: Path | None) -> Mapping[str, Any]:
    """How a state is named, which this script has written itself."""
    safe = {'weights_only': True} if 'weights_only' in inspect.signature(method).parameters else {}
    return {'ckpt_path': path, **safe}
