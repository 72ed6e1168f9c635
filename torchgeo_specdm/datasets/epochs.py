"""The order of an epoch, and how a resumed training takes it up where it was left."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler


class EpochSampler(DistributedSampler[int]):
    """Positions of a dataset in random order, another one in each epoch, shared among ranks.

    Args:
        dataset: Has a length.
        ranks: Processes that train together.
        rank: Number of this one.
        seed: Of the order.
        place: Says in which epoch a training is, and how many positions of this rank lie behind in it. It is asked once
            after each :meth:`set_epoch`, when the first position is read, and knows better.
    """

    def __init__(
        self,
        dataset: Any,
        ranks: int = 1,
        rank: int = 0,
        seed: int = 0,
        place: Callable[[], tuple[int, int]] | None = None,
    ) -> None:
        super().__init__(dataset, ranks, rank, seed=seed)
        self.place = place
        self._begins = False

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next."""
        super().set_epoch(epoch)
        self._begins = True

    def __iter__(self) -> Iterator[int]:
        """The positions of this rank; the first ones come again where the ranks would not have equally many."""
        behind = 0
        # Whoever reads the loader once more, in a callback say, reads all of it
        if self.place and self._begins:
            epoch, behind = self.place()
            # As a subclass may tell others of it
            self.set_epoch(epoch)
        self._begins = False
        order = self.order()
        # resize would not repeat an order that is shorter than the number of ranks
        repeated = order.repeat(-(-self.total_size // len(order)))[: self.total_size]
        return iter(repeated[self.rank :: self.num_replicas][behind:].tolist())

    def order(self) -> Tensor:
        """All positions in the order of this epoch, ``(len(dataset),)``."""
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        return torch.randperm(len(self.dataset), generator=generator)  # type: ignore[arg-type]


class EpochLoader(DataLoader[Any]):
    """A loader that asks its sampler for an order when the first batch is asked for.

    Lightning makes the iterator of a training that is resumed before it tells the sampler which epoch it is, and
    before it knows itself which step it is; workers would begin with the order of another epoch.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """The batches of an epoch."""
        yield from super().__iter__()


class ResumableLoader(EpochLoader):
    """A loader whose sampler knows its place.

    The state tells Lightning, which warns otherwise, that an epoch can be taken up; there is nothing to keep.
    """

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing."""


def place_of(trainer: Any, batch_size: int) -> tuple[int, int]:
    """The epoch in which a trainer of Lightning is, and how many samples of a rank lie behind in it, by its steps."""
    _count_epoch(trainer)
    accumulated = trainer.accumulate_grad_batches
    epoch, step = divmod(trainer.global_step, math.ceil(trainer.num_training_batches / accumulated))
    return epoch, step * accumulated * batch_size


def counted_place(trainer: Any, batch_size: int) -> tuple[int, int]:
    """As :func:`place_of`, by Lightning's own counts: of any task, whose optimisers may make other steps.

    They are right wherever a training can be resumed but for states that were saved in ``on_train_epoch_start``, with
    which Lightning passes over an epoch.
    """
    _count_epoch(trainer)
    return trainer.current_epoch, trainer.fit_loop.epoch_loop.batch_progress.current.ready * batch_size


def _count_epoch(trainer: Any) -> None:
    """Count the epoch that begins, where Lightning has not.

    It forgets the first one after a training was resumed from the last batch of another. States that it saves from then
    on look like those of finished epochs: resumed from them, it would read batches again and train an epoch too many.
    """
    epochs = trainer.fit_loop.epoch_progress
    if epochs.current.ready == epochs.current.started == epochs.current.processed:
        epochs.increment_ready()
        epochs.increment_started()
