"""How many cells of a grid are left, and how long they take."""

from collections.abc import Hashable, Mapping
from statistics import fmean
from typing import Any

_MINUTE, _HOUR = 60, 3600


class Progress:
    """Cells that are left, each of which will take what others of its kind took for the same work.

    Where other processes compute some of them, it takes less.

    Args:
        cells: Kind (a model, say) and work (steps, say) of each cell.
    """

    def __init__(self, cells: Mapping[Any, tuple[str, float]]) -> None:
        self.total = len(cells)
        self._left: dict[Hashable, tuple[str, float]] = dict(cells)
        self._paces: dict[str, list[float]] = {}

    def done(self, cell: Hashable, seconds: float) -> None:
        """Tell that a cell is there, and what it took [s]; any other cell, or the same once more, is of no account."""
        if cell in self._left:
            kind, work = self._left.pop(cell)
            self._paces.setdefault(kind, []).append(seconds / work)

    @property
    def number(self) -> int:
        """Cells that are there."""
        return self.total - len(self._left)

    @property
    def seconds(self) -> float | None:
        """What the cells take that are left [s]; None as long as none is there."""
        known = [pace for paces in self._paces.values() for pace in paces]
        if not known:
            return None
        return float(sum(work * fmean(self._paces.get(kind, known)) for kind, work in self._left.values()))

    def __str__(self) -> str:
        text = f'{self.number} of {self.total} cells'
        if self._left and (seconds := self.seconds) is not None:
            text += f', about {duration(seconds)} left'
        return text


def duration(seconds: float) -> str:
    """A time in words, to two digits or so."""
    if seconds < 2 * _MINUTE:
        return f'{seconds:.0f} s'
    if seconds < 2 * _HOUR:
        return f'{seconds / _MINUTE:.0f} min'
    return f'{seconds / _HOUR:.1f} h'
