"""What an evaluation found, as the report shows it: everything drawn or printed comes from here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from torchgeo_specdm.class_statistics import ClassStatistics
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.evaluation.measure import Section
from torchgeo_specdm.spec import DatasetSpec

Sample = Mapping[str, Tensor]
"""``image`` and ``mask`` in the shapes of :mod:`torchgeo_specdm.spec`, raw units."""


@dataclass(frozen=True)
class ClosePair:
    """A synthetic sample and the train sample that it resembles most.

    Attributes:
        synthetic: The generated sample.
        train: Its nearest train sample, turned as it was found nearest.
        ratio: Distance to it over the distance to the nearest train sample of other ground; a copy is near 0.
    """

    synthetic: Sample
    train: Sample
    ratio: float


@dataclass(frozen=True)
class Misaligned:
    """A synthetic sample whose mask a judge trusts little.

    Attributes:
        sample: The generated sample.
        score: Its alignment; higher is better.
        rejected: Pixels at which the judge disagrees, ``(H, W)`` bool.
    """

    sample: Sample
    score: float
    rejected: Tensor


@dataclass(frozen=True)
class Generator:
    """One evaluated source of synthetic pairs: a checkpoint or a folder.

    Attributes:
        name: Short name, unique in an evaluation.
        sections: What was measured.
        pairs: A few samples, not selected.
        statistics: Of all its samples.
        closest: The samples nearest to train samples, nearest first.
        worst: The samples with the lowest alignment, lowest first.
        filtered: What a filter rejected, by reason; None if nothing was filtered.
    """

    name: str
    sections: Sequence[Section]
    pairs: Sequence[Sample]
    statistics: ClassStatistics
    closest: Sequence[ClosePair] = ()
    worst: Sequence[Misaligned] = ()
    filtered: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Evaluation:
    """One or more generators beside the real data that they imitate.

    Attributes:
        spec: Describes all samples.
        title: Title of the report.
        real_pairs: A few real train samples.
        real_statistics: Of all real train samples.
        generators: What was evaluated; the first is the one that the report is about.
        made: How it was made: data, versions, seeds, times.

    Raises:
        SpecDMError: There is no generator, more than two, or their names cannot be told apart.
    """

    spec: DatasetSpec
    title: str
    real_pairs: Sequence[Sample]
    real_statistics: ClassStatistics
    generators: Sequence[Generator]
    made: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [source.name for source in self.generators]
        if not 1 <= len(names) <= 2 or len({*names, 'real'}) <= len(names):
            raise SpecDMError(
                f"a report is about one or two generators of different names, none of them 'real', not {names}"
            )
