"""Everything an evaluation computes from real data alone; it is cached, so that the next evaluation starts at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from torchgeo_specdm.alignment.copies import TrainingIndex
from torchgeo_specdm.alignment.judge import Judge
from torchgeo_specdm.comparison import Counts
from torchgeo_specdm.datasets.ground import ground, split_halves
from torchgeo_specdm.evaluation.alignment import BoundaryObserver, JudgeObserver
from torchgeo_specdm.evaluation.cache import Cache, fingerprint
from torchgeo_specdm.evaluation.copying import CopyObserver, OrientedObserver
from torchgeo_specdm.evaluation.fidelity import FeatureObserver
from torchgeo_specdm.evaluation.observation import Observer, Rows, Sides, draw
from torchgeo_specdm.evaluation.real_data import RealData
from torchgeo_specdm.evaluation.semantics import SemanticsObserver
from torchgeo_specdm.evaluation.spectra import SpectraObserver
from torchgeo_specdm.evaluation.usefulness import Budget, Source, train_counts
from torchgeo_specdm.extractors import make_extractor
from torchgeo_specdm.tasks.judge import train_judge

# Not that of any filter (0): whoever grades filtered samples must not have filtered them
_JUDGE_SEED = 1
# Whose features are compared in eight orientations, to find copies: it needs no network and sees all bands
_COPIES_IN = 'spectral'
_CPU = torch.device('cpu')


@dataclass(frozen=True)
class RealSide:
    """The real half of an evaluation; each part is computed, or read from the cache, when it is first asked for.

    Args:
        data: The real samples.
        cache: Where results are kept.
        samples: Most samples of a split to look at; copies are searched for among all train samples.
        extractors: Names of extractors.
        judge_steps: Steps of the judge's training.
        batch_size: Samples in memory at a time.
        device: Where networks run.
    """

    data: RealData
    cache: Cache
    samples: int = 1000
    extractors: Sequence[str] = ('spectral', 'lite0')
    judge_steps: int = 300
    batch_size: int = 16
    device: torch.device = _CPU

    @cached_property
    def train_indices(self) -> list[int]:
        """The train samples that are looked at."""
        return draw(self.data.train, self.samples)

    @cached_property
    def held_out_indices(self) -> list[int]:
        """The held-out samples that are looked at."""
        return draw(self.data.held_out, self.samples)

    @cached_property
    def _all_train(self) -> str:
        return fingerprint(self.data.train, range(len(self.data.train)))

    @cached_property
    def judge(self) -> Judge:
        """Trained on the train split."""
        depends = {'train': self._all_train, 'steps': self.judge_steps, 'seed': _JUDGE_SEED}
        folder = self.cache.path('judge', depends)
        if not (folder / 'judge').is_dir():
            train_judge(self.data.datamodule, folder, steps=self.judge_steps, seed=_JUDGE_SEED, spec=self.data.spec)
        return Judge.from_pretrained(folder / 'judge').to(self.device)

    @cached_property
    def index(self) -> TrainingIndex:
        """Signatures of all train samples."""
        path = self.cache.path('training-index', {'train': self._all_train}).with_suffix('.safetensors')
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            TrainingIndex.build(self.data.train, range(len(self.data.train)), self.data.spec).save(path)
        return TrainingIndex.load(path)

    @cached_property
    def observers(self) -> list[Observer]:
        """What looks at each sample, real or synthetic."""
        spec = self.data.spec
        boundaries = BoundaryObserver.calibrate((self.data.train[i] for i in self.train_indices), spec)
        return [
            *self._features.values(),
            SpectraObserver(spec),
            SemanticsObserver(spec),
            JudgeObserver(self.judge),
            boundaries,
            CopyObserver(self.index),
        ]

    @cached_property
    def _features(self) -> dict[str, FeatureObserver]:
        return {name: FeatureObserver(make_extractor(name, self.data.spec, self.device)) for name in self.extractors}

    @cached_property
    def train(self) -> Mapping[str, Rows]:
        """Rows of the train samples."""
        # The judge has learned from these, and each is its own copy
        skipped = (JudgeObserver.name, CopyObserver.name)
        observers = [observer for observer in self.observers if observer.name not in skipped]
        if _COPIES_IN in self._features:
            observers.append(OrientedObserver(self._features[_COPIES_IN]))
        return self._observe(self.data.train, self.train_indices, observers, 'real, train')

    @cached_property
    def held_out(self) -> Mapping[str, Rows]:
        """Rows of the held-out samples."""
        return self._observe(self.data.held_out, self.held_out_indices, self.observers, 'real, held out')

    @cached_property
    def places(self) -> Tensor:
        """Where the train samples that are looked at lie, ``(N, 3)``."""
        return ground(self.data.train, self.train_indices)

    @cached_property
    def halves(self) -> Tensor:
        """See :class:`~torchgeo_specdm.evaluation.observation.Sides`."""
        return split_halves(self.places, self.data.spec.patch_size)

    def prepare(self) -> None:
        """Compute, or read, the rows now: what is wrong with them shows before any sample is generated."""
        _ = self.train, self.held_out

    def sides(self, synthetic: Mapping[str, Rows]) -> Sides:
        """Rows of synthetic samples beside those of the real ones."""
        return Sides(self.data.spec, self.train, self.held_out, synthetic, self.halves)

    def counts(self, budget: Budget) -> Counts:
        """What a task trained on real samples alone finds in the test split."""
        depends = {
            'train': self._all_train,
            'test': fingerprint(self.data.test, range(len(self.data.test))),
            'budget': dict(vars(budget)),
        }
        found = self.cache.load('usefulness', depends)
        if found is None:
            counts = train_counts(self.data, Source.REAL, None, budget)
            found = counts._asdict()
            self.cache.save('usefulness', depends, found)
        return Counts(**found)

    def _observe(
        self, dataset: Any, indices: Sequence[int], observers: Sequence[Observer], text: str
    ) -> Mapping[str, Rows]:
        return self.cache.observe(dataset, indices, observers, batch_size=self.batch_size, text=text)
