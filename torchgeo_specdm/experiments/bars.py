"""Bars of an experiment: what its figures must reach, and whether they do.

A bar is judged by the same means and intervals that the tables print. It is *met*, *not met*, or *not measured*: of
fewer seeds or other pairs than it asks for there is a figure and no verdict. Nothing here imports torch.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SEEDS = 5
"""Trainings of each model and data configuration; more are welcome."""
REAL_PAIRS = 100
TEST_CITIES = 10
MET, MISSED, UNKNOWN = 'met', 'not met', 'not measured'

Rows = Sequence[Mapping[str, Any]]


def find(rows: Rows, **values: str) -> Mapping[str, Any]:
    """The row that has these values."""
    return next(row for row in rows if all(row[name] == value for name, value in values.items()))


@dataclass(frozen=True)
class Bar(ABC):
    """What one figure must reach.

    Attributes:
        what: The figure in words.
        paper: The paper's value, as it is printed.
        score: Its column in the tables.
        arm: The data configuration that it is about.
    """

    what: str
    paper: str
    score: str
    arm: str

    @property
    def arms(self) -> tuple[str, ...]:
        """The data configurations that are needed."""
        return (self.arm,)

    @property
    @abstractmethod
    def asked(self) -> str:
        """The bar in words."""

    @abstractmethod
    def measure(self, means: Rows, gains: Rows, model: str) -> tuple[Any, bool]:
        """The figure of a model, a named tuple that starts with its value, and whether it reaches the bar.

        Args:
            means: Rows of means over the seeds, as of ``Results.means``.
            gains: Rows of gains, as of ``Results.gains``.
            model: Of the rows.
        """


@dataclass(frozen=True)
class Level(Bar):
    """The mean of a score over the seeds is at least ``least``."""

    least: float

    @property
    def asked(self) -> str:
        """The bar in words."""
        return f'≥ {self.least:.2f}'

    def measure(self, means: Rows, gains: Rows, model: str) -> tuple[Any, bool]:
        """Mean and spread."""
        found = find(means, model=model, data=self.arm)[self.score]
        return found, found.mean >= self.least


@dataclass(frozen=True)
class Compared(Bar):
    """What the gain on another data configuration must reach.

    Attributes:
        against: The other one.
    """

    against: str

    @property
    def arms(self) -> tuple[str, ...]:
        """Both."""
        return (self.arm, self.against)

    def measure(self, means: Rows, gains: Rows, model: str) -> tuple[Any, bool]:
        """The gain with its interval and the number of seeds in which there is one."""
        found = find(gains, model=model, data=self.arm, against=self.against)[self.score]
        return found, self.is_reached(found)

    @abstractmethod
    def is_reached(self, gain: Any) -> bool:
        """Whether a gain, as of ``Results.gains``, is enough."""


@dataclass(frozen=True)
class Gained(Compared):
    """The gain is at least ``least``, and its 95 % interval lies above 0."""

    least: float

    @property
    def asked(self) -> str:
        """The bar in words."""
        return f'≥ {self.least:+.2f}, 95 % interval above 0'

    def is_reached(self, gain: Any) -> bool:
        """By its value and its lower limit."""
        return bool(gain.value >= self.least and gain.low > 0)


@dataclass(frozen=True)
class HigherInEverySeed(Compared):
    """The score is higher than with another data configuration, seed by seed."""

    @property
    def asked(self) -> str:
        """The bar in words."""
        return 'higher in every seed'

    def is_reached(self, gain: Any) -> bool:
        """By the number of seeds."""
        return bool(gain.higher == gain.seeds)


def judge(bars: Sequence[Bar], means: Rows, gains: Rows, *, seeds: int, scenes: int) -> list[dict[str, Any]]:
    """A row for each model and bar: bar, paper's value, figure and verdict.

    Args:
        bars: What must hold.
        means: As for :meth:`Bar.measure`.
        gains: Likewise.
        seeds: Of the trainings so far.
        scenes: Whole test scenes.
    """
    rows = []
    for model in dict.fromkeys(row['model'] for row in means):
        for bar in bars:
            found, reached = bar.measure(means, gains, model)
            alike = all(find(means, model=model, data=arm)['real'] == REAL_PAIRS for arm in bar.arms)
            known = alike and seeds >= SEEDS and scenes == TEST_CITIES and not math.isnan(found[0])
            verdict = (MET if reached else MISSED) if known else UNKNOWN
            row = {'model': model, 'what must hold': bar.what, 'bar': bar.asked, 'paper': bar.paper}
            rows.append(row | {'measured': found, 'verdict': verdict})
    return rows
