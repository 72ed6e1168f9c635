"""Times on disk, so that a benchmark that was interrupted goes on, and rows made of them."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        figure: What was measured.
        value: Ratio of medians, or a time [s].
        bar: What it must reach, in words; empty where it is only printed.
        met: Whether it does.
        note: The medians that it was made of.
    """

    figure: str
    value: float
    bar: str = ''
    met: bool | None = None
    note: str = ''

    def line(self) -> str:
        """As Markdown."""
        verdict = {None: '', True: 'met', False: '**not met**'}[self.met]
        return f'| {self.figure} | {self.value:.3g} | {self.bar} | {verdict} | {self.note} |'


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        repeats: Times of each kind, of which the median counts.
        blocks: Blocks of the benchmark of many blocks; four times as many are measured beside them.
        warm: Real samples of a warm epoch, which has six times as many samples.
        cold: Of a cold one.
        streams: Workers of the loader of the cold ones.
        steps: Most steps of a solver.
    """

    repeats: int = 5
    blocks: int = 8
    warm: int = 64
    cold: int = 24
    streams: int = 2
    steps: int = 1000


# Shows that everything runs; its figures mean nothing
FAST = Size(repeats=1, blocks=1, warm=4, cold=4, streams=1, steps=2)


class Times:
    """Times by name [s], written after each.

    Args:
        path: A JSON file; what it holds already is not measured again.
        repeats: Times of each name.
    """

    def __init__(self, path: Path, repeats: int) -> None:
        self.path, self.repeats = path, repeats
        self._known: dict[str, list[float]] = json.loads(path.read_text()) if path.is_file() else {}

    def measure(self, **works: Callable[[int], Callable[[], object]]) -> None:
        """Time works by turns, as often as is missing.

        Args:
            works: By name; each prepares, without being timed, the repetition of a number, and returns what is timed.
        """
        for number in range(self.repeats):
            for name, prepare in works.items():
                if self.count(name) <= number:
                    work = prepare(number)
                    start = time.perf_counter()
                    work()
                    self.add(name, [time.perf_counter() - start])

    def add(self, name: str, seconds: Sequence[float]) -> None:
        """Keep times that were measured elsewhere."""
        self._known.setdefault(name, []).extend(seconds)
        _write(self.path, self._known)

    def count(self, name: str) -> int:
        """How many times of this name there are."""
        return len(self._known.get(name, []))

    def median(self, name: str) -> float:
        """Median of the times of this name [s]."""
        return median(self._known[name])


def keep_rows(path: Path, part: str, rows: Sequence[Row]) -> None:
    """Enter the rows of a part into a JSON file that holds those of others."""
    known = json.loads(path.read_text()) if path.is_file() else {}
    _write(path, known | {part: [asdict(row) for row in rows]})


@contextmanager
def one_thread() -> Iterator[None]:
    """What is compared uses one core, as a block does."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _write(path: Path, values: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix('.partial')
    partial.write_text(json.dumps(values, indent=1) + '\n')
    partial.replace(path)
