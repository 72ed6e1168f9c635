"""What an experiment is; ``named.py`` has those there are. Nothing here imports torch: the command line is fast."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torchgeo_specdm.experiments.bars import Bar

if TYPE_CHECKING:
    from torchgeo_specdm.experiments.bench import Bench
    from torchgeo_specdm.experiments.table import Report

# More than any dataset has
ALL = 10**9
"""Real pairs of an arm that takes all there are."""

Paper = Mapping[str, Mapping[str, tuple[float, ...]]]
"""Values of the paper by name of the dataset and row."""


@dataclass(frozen=True)
class Arm:
    """A data configuration: the pairs that a model is trained on. It takes as many optimiser steps as any other.

    Attributes:
        real: Real pairs; None for as many as the protocol draws, :data:`ALL` for all there are. Fewer pairs are among
            the more.
        ratio: Synthetic pairs for each real one of the protocol, whatever ``real`` is.
        generator: Which checkpoint they come from: ``checkpoint`` or ``against``, after the options that name it.
        keep: The filter of the synthetic pairs, as of ``SpecDMSynthetic``.
        classes: Which classes they are asked for, as of ``SpecDMSynthetic``; None for what the options say.
        augment: Whether all pairs, synthetic ones too, are shown in random ones of the eight orientations of a square.
        steps: Share of the optimiser steps. Anything but 1 is no fair comparison, and there to show just that.
    """

    real: int | None = None
    ratio: float = 0
    generator: str = 'checkpoint'
    keep: str | None = None
    classes: str | None = None
    augment: bool = True
    steps: float = 1


@dataclass(frozen=True)
class Experiment(ABC):
    """One question.

    Attributes:
        question: What it answers.
        paper: What the paper reports.
    """

    question: str
    paper: Paper = field(kw_only=True, default_factory=dict)

    @property
    @abstractmethod
    def needs(self) -> frozenset[str]:
        """The options that name its generators: ``checkpoint``, ``against``."""

    @abstractmethod
    def run(self, bench: 'Bench', report: 'Report') -> None:
        """Compute all cells that are not there yet, and report."""


@dataclass(frozen=True)
class DownstreamExperiment(Experiment):
    """Models that are trained on different data, and scored on the same real test scenes.

    Attributes:
        arms: Data configurations by name.
        gains: Which arm is compared with which; by default all others with the first.
        bars: What must hold with the protocol ``paper``, by name of the dataset.
    """

    arms: Mapping[str, Arm]
    gains: tuple[tuple[str, str], ...] = ()
    bars: Mapping[str, tuple[Bar, ...]] = field(kw_only=True, default_factory=dict)

    @property
    def needs(self) -> frozenset[str]:
        """The generators of its arms."""
        return frozenset({arm.generator for arm in self.arms.values() if arm.ratio} | {'checkpoint'})

    @property
    def compared(self) -> tuple[tuple[str, str], ...]:
        """Pairs of an arm and what it is compared with."""
        control, *others = self.arms
        return self.gains or tuple((other, control) for other in others)

    def run(self, bench: 'Bench', report: 'Report') -> None:
        """Train and score."""
        from torchgeo_specdm.experiments.grid import run

        run(self, bench, report)


@dataclass(frozen=True)
class GeneratorExperiment(Experiment):
    """Generators whose samples are compared with real ones.

    Attributes:
        rows: Name of each row, and which generator it is.
        reconstruction: Whether their autoencoders are measured too.
        paper_figures: What the paper's values are.
    """

    rows: Mapping[str, str]
    reconstruction: bool = False
    paper_figures: tuple[str, ...] = ()

    @property
    def needs(self) -> frozenset[str]:
        """Its generators."""
        return frozenset(self.rows.values())

    def run(self, bench: 'Bench', report: 'Report') -> None:
        """Sample and measure."""
        from torchgeo_specdm.experiments.samples import run

        run(self, bench, report)
