"""What the records of trained models say: scores with their spread, gains with their intervals."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torchgeo_specdm.comparison import Counts, compare, f1, iou, mean_iou
from torchgeo_specdm.experiments.plan import DownstreamExperiment
from torchgeo_specdm.experiments.table import Spread
from torchgeo_specdm.spec import DatasetSpec

Record = Mapping[str, Any]
_RESAMPLES = 2000


class Gain(NamedTuple):
    """By how much a mean score is higher, the limits of its 95 % interval, and in how many seeds it is higher."""

    value: float
    low: float
    high: float
    higher: int
    seeds: int

    def __str__(self) -> str:
        return f'{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}], {self.higher} of {self.seeds}'


def best(record: Record) -> tuple[int, float]:
    """Step and score of the best validation of a record."""
    known = [(int(step), float(score)) for step, score in record['val'] if not math.isnan(score)]
    return max(known, key=lambda pair: pair[1])


def main_scores(spec: DatasetSpec) -> dict[str, Callable[[Counts], Tensor]]:
    """The paper's scores by name, means over the classes, and the one that says most of change."""
    found: dict[str, Callable[[Counts], Tensor]] = {'mIoU': mean_iou, 'mF1': lambda counts: f1(counts).nanmean(-1)}
    if spec.task == 'change':
        found['F1 of change'] = lambda counts: f1(counts)[..., 1]
    return found


class Results:
    """Tables of the cells that are computed.

    Args:
        experiment: Names the arms, and which are compared.
        spec: Describes the pairs.
        records: Of each model and arm, one for each seed; with ``hit``, ``predicted`` and ``labelled`` ``(G, K)``.
        seeds: Of the records.
    """

    def __init__(
        self,
        experiment: DownstreamExperiment,
        spec: DatasetSpec,
        records: Mapping[tuple[str, str], Sequence[Record]],
        seeds: Sequence[int],
    ) -> None:
        self.experiment, self.spec, self.records, self.seeds = experiment, spec, records, seeds
        self.scores = main_scores(spec)
        self.counts = {key: _counts(found) for key, found in records.items()}
        self._totals = {key: Counts(*(part.sum(1) for part in counts)) for key, counts in self.counts.items()}

    def cells(self) -> list[dict[str, Any]]:
        """One row for each cell, with the scores of each class."""
        rows = []
        for (model, name), found in self.records.items():
            for number, (seed, record) in enumerate(zip(self.seeds, found, strict=True)):
                total = Counts(*(part[number] for part in self._totals[model, name]))
                budget = record['depends']['budget']
                row = {'model': model, 'data': name, 'seed': seed, 'lr': budget['lr'], 'steps': budget['steps']}
                row |= dict(zip(('best step', 'val mIoU'), best(record), strict=True))
                row |= {score: float(function(total)) for score, function in self.scores.items()}
                for kind, function in (('IoU', iou), ('F1', f1)):
                    values = zip(self.spec.classes, function(total).tolist(), strict=True)
                    row |= {f'{kind}, {label}': value for label, value in values}
                rows.append(row | {'seconds': record['seconds']})
        return rows

    def means(self) -> list[dict[str, Any]]:
        """Mean and spread over the seeds for each model and arm, beside the paper's values where it has any."""
        rows = []
        for (model, name), found in self.records.items():
            depends = found[0]['depends']
            row: dict[str, Any] = {'model': model, 'data': name, 'real': depends['real']}
            row |= {'synthetic': depends.get('synthetic', 0), 'steps': depends['budget']['steps']}
            total = self._totals[model, name]
            row |= {score: Spread.of(function(total).tolist()) for score, function in self.scores.items()}
            if paper := self.experiment.paper.get(self.spec.name):
                row |= dict(zip(('mIoU, paper', 'mF1, paper'), paper.get(name, (math.nan, math.nan)), strict=True))
            rows.append(row)
        return rows

    def gains(self) -> list[dict[str, Any]]:
        """What each arm gains on what it is compared with, for each model."""
        return [
            {'model': model, 'data': name, 'against': other}
            | {score: self._gain((model, other), (model, name), function) for score, function in self.scores.items()}
            for model in dict.fromkeys(model for model, _ in self.records)
            for name, other in self.experiment.compared
        ]

    def _gain(self, first: tuple[str, str], second: tuple[str, str], score: Callable[[Counts], Tensor]) -> Gain:
        difference = compare(self.counts[first], self.counts[second], score, _RESAMPLES).difference
        higher = score(self._totals[second]) > score(self._totals[first])
        return Gain(*difference, higher=int(higher.sum()), seeds=len(higher))


def _counts(records: Sequence[Record]) -> Counts:
    """Counts ``(S, G, K)`` of S seeds."""
    return Counts(*(torch.tensor([record[name] for record in records], dtype=torch.float64) for name in Counts._fields))
