"""The state of a run on disk, from which it is resumed after an interruption."""

import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from torchgeo_specdm.errors import DivergedError

_SAVE_EVERY = 300.0  # [s]; what a crash can cost, for an interruption saves as well


class ResumeCheckpoint(Checkpoint):
    """Keeps the state of a run in one file, written every few minutes, when interrupted and at the end.

    Weights that are no numbers are not written, so the file holds the last good ones.

    The first Ctrl-C lets the current batch end: interrupted anywhere, the state may be half of one step and half of
    the next, and loggers that write from a thread can lock up. The second one stops at once.

    Args:
        path: The file.
        every: Time between two saves [s].
    """

    def __init__(self, path: Path, every: float = _SAVE_EVERY) -> None:
        self.path = path
        self.every = every
        self._saved = time.monotonic()
        self._first_step = self._last_step = 0
        self._stop = False
        self._handler: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock and watch for Ctrl-C."""
        self._saved, self._first_step = time.monotonic(), trainer.global_step
        self._last_step = self._first_step
        if threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(signal.SIGINT, self._interrupt)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Stop if asked to, or save when it is time."""
        # The gradients of a step that is half accumulated are not part of a state
        if trainer.global_step == self._last_step:
            return
        self._last_step = trainer.global_step
        self._stop_if_asked()
        # One process decides for all, or they would wait for one another
        if trainer.strategy.broadcast(time.monotonic() - self._saved >= self.every):
            self._save(trainer)

    def on_validation_batch_end(self, *_: Any) -> None:
        """Stop if asked to."""
        self._stop_if_asked()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last state."""
        self._release()
        self._save(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save when a user or a scheduler stops the run; after an error, processes no longer march together."""
        self._release()
        # A loss that is no number is noticed before it reaches the weights, except on a GPU
        alone = isinstance(exception, DivergedError) and trainer.world_size == 1
        if (alone or not isinstance(exception, Exception)) and trainer.global_step > self._first_step:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        if trainer.fast_dev_run or not _is_finite(trainer.lightning_module):  # type: ignore[attr-defined]
            return
        # Lightning's own writing is a copy from another disk at times, and a copy can be interrupted
        partial = self.path.with_name(f'.{self.path.name}.partial')
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            partial.replace(self.path)
        self._saved = time.monotonic()

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._stop = True
        self._release()

    def _release(self) -> None:
        """Give Ctrl-C back."""
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            self._handler = None

    def _stop_if_asked(self) -> None:
        if self._stop:
            raise KeyboardInterrupt


def _is_finite(module: LightningModule) -> bool:
    """Whether all weights are numbers; others must not replace the last good ones."""
    return all(bool(value.isfinite().all()) for value in module.parameters())
