"""Many blocks generated at once: a progress bar, and processes that share the work."""

import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from filelock import Timeout
from tqdm import tqdm

from torchgeo_specdm.datasets.producers import ProducerProcess

# Work that is left when helpers are started [s]; each takes some ten seconds until it begins
_WORTH = 30.0


class Helpers:
    """Producers that generate blocks beside this process. They end with the context.

    Args:
        jobs: What each of them is told.
    """

    def __init__(self, jobs: Sequence[Mapping[str, Any]]) -> None:
        self._jobs = jobs
        self._started: list[ProducerProcess] = []

    def __enter__(self) -> Self:
        return self

    def start_if_worth(self, left: float) -> None:
        """Start the helpers, unless they are started or there is little work.

        Args:
            left: Work that is left for one process [s].
        """
        if not self._started and left > _WORTH:
            self._started = [ProducerProcess(job) for job in self._jobs]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for helper in self._started:
            if helper.status:
                warnings.warn(
                    f'a process that helped to generate synthetic samples has failed: {helper.words()}', stacklevel=2
                )
            helper.close()


def fill(
    numbers: range, missing: Collection[int], obtain: Callable[[int, bool], Any], size: int, helpers: Helpers
) -> None:
    """Obtain blocks, those last that other processes are generating.

    Args:
        numbers: Of the blocks.
        missing: Those that are not there when it begins.
        obtain: Takes a number and whether to wait for a process that generates that block; if not, it raises Timeout.
        size: Samples in a block.
        helpers: Are started where that pays.
    """
    # Here, not above: it takes a second, and workers do without
    from lightning.fabric.utilities.rank_zero import rank_zero_only

    quiet = not missing or rank_zero_only.rank != 0  # type: ignore[attr-defined]
    left, waiting = len(missing), []
    total, done = len(numbers) * size, (len(numbers) - left) * size
    with tqdm(desc='generating', unit='pair', total=total, initial=done, disable=quiet) as bar:
        for number in numbers:
            start = time.monotonic()
            try:
                obtain(number, False)
            except Timeout:
                waiting.append(number)
                continue
            if number in missing:
                bar.update(size)
                left -= 1
                helpers.start_if_worth((time.monotonic() - start) * left)
        for number in waiting:
            obtain(number, True)
            bar.update(size)
