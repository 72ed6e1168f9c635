"""A measured figure with its interval, its reference and what it says; and how intervals are drawn."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Interval(NamedTuple):
    """A figure and the limits of its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f'{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]'


@dataclass(frozen=True)
class Measure:
    """One figure of an evaluation.

    Attributes:
        name: What was measured, as a user would say it.
        value: Of the synthetic samples.
        reference: The same figure of real samples: what a perfect generator would reach.
        reference_name: Which real samples those are (``real train halves``, ``held-out real``).
        unit: Unit of the figure; empty for a pure number.
        samples: Number of synthetic samples behind ``value``.
        settings: Whatever else belongs beside the figure (extractor, dimensions, ...), as JSON types.
        flag: A sentence that says what is wrong and what it means for a user; empty if nothing is.
    """

    name: str
    value: Interval
    reference: Interval | None = None
    reference_name: str = ''
    unit: str = ''
    samples: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    flag: str = ''


@dataclass(frozen=True)
class Section:
    """The measures that answer one question.

    Attributes:
        title: Short title.
        question: What the measures answer.
        measures: The figures.
        notes: How to read them, in sentences.
        details: Further figures for the JSON file and for drawings: numbers, texts, tensors, mappings.
    """

    title: str
    question: str
    measures: Sequence[Measure]
    notes: Sequence[str] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def flags(self) -> list[str]:
        """What is wrong, one sentence each."""
        return [measure.flag for measure in self.measures if measure.flag]


def bootstrap(statistic: Callable[[Tensor], float], samples: int, resamples: int = 200, seed: int = 0) -> Interval:
    """A figure with the percentile bootstrap interval over samples (Efron, 1979).

    Args:
        statistic: Maps row indices ``(samples,)``, with repetitions, to the figure.
        samples: Number of rows.
        resamples: Number of draws.
        seed: Seed of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = [statistic(torch.randint(samples, (samples,), generator=generator)) for _ in range(resamples)]
    low, high = torch.tensor(drawn, dtype=torch.float64).nanquantile(torch.tensor([0.025, 0.975]).double()).tolist()
    return Interval(statistic(torch.arange(samples)), low, high)
