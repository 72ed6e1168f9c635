r"""A training without TorchGeo and Lightning, the same for every model, task and data configuration.

AdamW under a learning rate that rises for a twentieth of the steps and falls along a cosine; gradients are clipped. The
loss is that of the pixels plus that of the regions,

.. math:: L = -\frac{1}{|\Omega|} \sum_{i \in \Omega} \log p_i(y_i) + 1 - \frac{1}{|P|} \sum_{k \in P}
   \frac{2 \sum_i p_i(k) [y_i = k]}{\sum_i p_i(k) + [y_i = k]}

over the labelled pixels :math:`\Omega` and the classes :math:`P` in the batch (soft Dice, Milletari et al., 2016): of
OSCD's pixels one in fifty changed, and cross-entropy alone learns for long that nothing does.

All that is drawn at a step is a function of the seed and of the step, so that a training which was interrupted goes on
to the same bits.
"""

import io
import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from torchgeo_specdm.datasets.device import same_arithmetic
from torchgeo_specdm.disk import write_whole
from torchgeo_specdm.downstream.base import DenseModel
from torchgeo_specdm.draws import mixed_generator
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.experiments.batches import batches, order, turned
from torchgeo_specdm.losses import LossWatch

_WARM_UP = 0.05
_LARGEST_GRADIENT = 1.0
# [s]; what an interruption can cost
_SAVE_EVERY = 300.0


@dataclass(frozen=True)
class Budget:
    """How a model is trained.

    Attributes:
        steps: Optimiser steps.
        batch_size: Pairs in a batch.
        lr: Highest learning rate.
        weight_decay: Of AdamW.
        validations: How often the model is validated, evenly spread, the last time at the end.
    """

    steps: int
    batch_size: int = 16
    lr: float = 1e-3
    weight_decay: float = 0.01
    validations: int = 10

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size, self.validations) < 1 or self.lr <= 0:
            raise SpecDMError(f'{self}: steps, batch_size and validations must be at least 1, and lr positive')

    @property
    def validated(self) -> list[int]:
        """The steps after which the model is validated."""
        return sorted({math.ceil(self.steps * part / self.validations) for part in range(1, self.validations + 1)})

    def rate(self, step: int) -> float:
        """Learning rate of a step, from 0."""
        warm = max(1, round(_WARM_UP * self.steps))
        return self.lr * min(1.0, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * step / self.steps))


def dense_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy plus soft Dice loss over the labelled pixels; 0 where there is none.

    Args:
        logits: ``(B, K, H, W)``.
        mask: ``(B, H, W)`` int64; a value that is no class is ignored.
    """
    classes = logits.shape[1]
    labelled = (mask >= 0) & (mask < classes)
    log_p = logits.float().log_softmax(1)
    truth = F.one_hot(mask.where(labelled, 0), classes).movedim(-1, 1) * labelled.unsqueeze(1)
    entropy = -(log_p * truth).sum() / labelled.sum().clamp_min(1)
    p = log_p.exp() * labelled.unsqueeze(1)
    pixels = truth.sum((0, 2, 3))
    dice = 2 * (p * truth).sum((0, 2, 3)) / (p.sum((0, 2, 3)) + pixels).clamp_min(1e-6)
    present = pixels > 0
    return entropy + ((1 - dice) * present).sum() / present.sum().clamp_min(1)


def train(
    model: DenseModel,
    pairs: Any,
    budget: Budget,
    mean: Tensor,
    std: Tensor,
    validate: Callable[[DenseModel], float],
    *,
    seed: int,
    augment: bool = True,
    state: Path | None = None,
    check: Callable[[], None] = lambda: None,
    text: str = '',
) -> list[tuple[int, float]]:
    """Train a model; it ends with the weights that validated best, the first of equals.

    Args:
        model: On the device where it is trained; a GPU multiplies in bfloat16.
        pairs: Map-style dataset of ``image`` (raw units) and ``mask`` in the shapes of :mod:`torchgeo_specdm.spec`.
            If they take at most 2 GiB as 16-bit integers, they are read once and kept on the device.
        budget: How long and how.
        mean: Mean of each band, ``(C,)``.
        std: Standard deviation of each band, ``(C,)``.
        validate: A score of the model, the higher the better; NaN is worse than any other.
        seed: Of order, orientations and dropout.
        augment: Whether each pair is shown in a random one of the eight orientations of a square.
        state: Where the state of the training is kept every few minutes, to go on from; the caller deletes it.
        check: Called between two steps, and after the last one; what it raises stops the training, whose state is kept.
        text: What the progress bar says.

    Returns:
        Step and score of each validation.

    Raises:
        DivergedError: A loss is no number; ``state`` keeps the last good weights.
        SpecDMError: No validation has a score.
    """
    run = _Run(model, budget)
    if state is not None and state.is_file():
        run.load(state)
    device = next(model.parameters()).device
    scale = mean.to(device).view(-1, 1, 1), std.to(device).view(-1, 1, 1)
    devices = [device] if device.type == 'cuda' else []
    saved = time.monotonic()
    steps = range(run.step, budget.steps)
    source = batches(pairs, [order(len(pairs), step, budget.batch_size, seed) for step in steps], device)
    with torch.random.fork_rng(devices=devices), same_arithmetic(device), closing(source):
        bar = tqdm(steps, text, budget.steps, initial=run.step, unit='step')
        for step, (image, mask) in zip(bar, source, strict=True):
            run.pause(check, state)
            draw = mixed_generator(seed, step)
            torch.manual_seed(int(torch.randint(2**62, (), generator=draw)))
            if augment:
                image, mask = turned(image, mask, draw)
            run.update(_loss(model, (image - scale[0]) / scale[1], mask), step)
            if step + 1 in budget.validated:
                run.validated(validate(model))
            if state is not None and time.monotonic() - saved >= _SAVE_EVERY:
                run.save(state)
                saved = time.monotonic()
        run.pause(check, state)
    if run.best is None:
        raise SpecDMError(f'{text or "the training"} has no score on the val scenes: do they hold labels?')
    model.load_state_dict(run.best)
    return run.history


class _Run:
    """What a training changes."""

    def __init__(self, model: DenseModel, budget: Budget) -> None:
        self.model, self.budget = model, budget
        self.optimizer = torch.optim.AdamW(model.parameters(), budget.lr, weight_decay=budget.weight_decay)
        self.step = 0
        self._losses = LossWatch()
        self.history: list[tuple[int, float]] = []
        self.best: dict[str, Tensor] | None = None

    def update(self, loss: Tensor, step: int) -> None:
        remedy = (
            f'look at the values of the pairs in its batch of {self.budget.batch_size}, or lower the learning rate '
            f'(--lr), which is {self.budget.lr:g}'
        )
        self._losses.see(loss, f'step {step}', remedy)
        for group in self.optimizer.param_groups:
            group['lr'] = self.budget.rate(step)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), _LARGEST_GRADIENT)
        self.optimizer.step()
        self.step = step + 1

    def validated(self, score: float) -> None:
        self._losses.require_numbers()
        best = max((value for _, value in self.history if not math.isnan(value)), default=-math.inf)
        if score > best:
            self.best = {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}
        self.history.append((self.step, score))

    def pause(self, check: Callable[[], None], state: Path | None) -> None:
        """Keep the state where ``check`` stops the training, whatever it raises."""
        try:
            check()
        except BaseException:
            if state is not None:
                self.save(state)
            raise

    def save(self, path: Path) -> None:
        self._losses.require_numbers()
        values = {
            'step': self.step,
            'history': self.history,
            'best': self.best,
            'model': self.model.state_dict(),
            'optimizer': self.optimizer.state_dict(),
        }
        buffer = io.BytesIO()
        torch.save(values, buffer)
        # By Python: PyTorch's errors do not tell a full disk from others
        write_whole(path, lambda partial: partial.write_bytes(buffer.getbuffer()))

    def load(self, path: Path) -> None:
        values = torch.load(path, map_location='cpu', weights_only=True)
        self.step, self.best = values['step'], values['best']
        self.history = [(step, score) for step, score in values['history']]
        self.model.load_state_dict(values['model'])
        self.optimizer.load_state_dict(values['optimizer'])


def _loss(model: DenseModel, image: Tensor, mask: Tensor) -> Tensor:
    model.train()
    with torch.autocast(image.device.type, torch.bfloat16, enabled=image.device.type == 'cuda'):
        loss = dense_loss(model(image), mask)
        extra = model.extra_loss(mask)
    return loss if extra is None else loss + extra
