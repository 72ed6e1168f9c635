"""Losses of a training, watched for one that is no number before it spoils what is kept."""

from typing import Any

import torch
from torch import Tensor

from torchgeo_specdm.errors import DivergedError

_ASKED_EVERY = 50  # [steps]


def place_of_step(trainer: Any) -> str:
    """The step and the batch in which a trainer of Lightning is, in words."""
    return f'step {trainer.global_step}, batch {trainer.fit_loop.batch_idx} of epoch {trainer.current_epoch}'


class LossWatch:
    """Stops a training whose loss is no number any more.

    A GPU is asked every 50 steps, as it would wait at each; whoever keeps weights asks first (:meth:`require_numbers`).
    """

    def __init__(self) -> None:
        # Where each was computed, what to do if it is no number, and its value: those that nobody has looked at yet
        self._waiting: list[tuple[str, str, Tensor]] = []

    def see(self, loss: Tensor, where: str, remedy: str) -> None:
        """Take note of a loss, 0-d.

        Raises:
            DivergedError: This one, or one before it, is no number.
        """
        self._waiting.append((where, remedy, loss.detach()))
        if not loss.is_cuda or len(self._waiting) >= _ASKED_EVERY:
            self.require_numbers()

    def require_numbers(self) -> None:
        """Look at all losses that nobody has looked at yet.

        Raises:
            DivergedError: One is no number.
        """
        losses, self._waiting = self._waiting, []
        finite = torch.stack([value for _, _, value in losses]).isfinite().tolist() if losses else []
        if not all(finite):
            where, remedy, value = losses[finite.index(False)]
            raise DivergedError(f'the loss is {float(value)} in {where}: training stopped; {remedy}')
