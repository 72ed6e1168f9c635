"""What all cells of a grid share: real data, generators, settings, and where their records are kept."""

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock
from torch.utils.data import Subset

from torchgeo_specdm import __version__
from torchgeo_specdm.datasets import MixedDataset, SpecDMSynthetic
from torchgeo_specdm.disk import sweep
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.evaluation.cache import fingerprint
from torchgeo_specdm.experiments.data import Data
from torchgeo_specdm.experiments.plan import Arm
from torchgeo_specdm.report import write_text


@dataclass(frozen=True)
class Settings:
    """What a user chooses.

    Attributes:
        models: Downstream models, ``NAME`` or ``NAME:OPTION`` (``unet:resnet18``, ``changeformer:v3``).
        seeds: Of the trainings; of the samples where generators are compared.
        steps: Optimiser steps of a training.
        batch_size: Pairs in a batch.
        rates: Learning rates to choose from on the val scenes.
        samples: Most samples that are compared with real ones.
        device: Where to compute; by default a GPU where there is one.
    """

    models: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: int
    batch_size: int
    rates: tuple[float, ...]
    samples: int
    device: str | None = None

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size) < 1 or self.samples < 2:
            raise SpecDMError('--steps and --batch-size must be at least 1, and --samples at least 2')
        if not self.rates or min(self.rates) <= 0 or not self.seeds or min(self.seeds) < 0:
            raise SpecDMError('--lr must be positive, and --seeds must not be negative')


class Store:
    """Records of cells, one JSON file each, complete or absent; several processes may fill one.

    Args:
        folder: Made at the first record.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def record(
        self, name: str, depends: Mapping[str, Any], make: Callable[[Path], dict[str, Any]]
    ) -> tuple[dict[str, Any], bool]:
        """The record of a cell, and whether it was there already.

        Args:
            name: Starts the name of its file.
            depends: All that it depends on, as JSON values; equal values mean equal records.
            make: Computes it; is handed a file for the state of an interrupted computation.

        Raises:
            SpecDMError: The record is damaged.
        """
        depends = {'release': __version__, **depends}
        digest = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:12]
        path = self.folder / f'{re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")}-{digest}.json'
        self.folder.mkdir(parents=True, exist_ok=True)
        # Another process that computes this cell is waited for
        with FileLock(path.with_suffix('.lock')):
            if path.is_file():
                return _read(path), True
            state, spent = path.with_suffix('.state'), path.with_suffix('.seconds')
            with _counted(spent) as seconds:
                found = make(state)
            found |= {'seconds': round(seconds(), 1), 'depends': depends}
            write_text(path, json.dumps(found) + '\n')
            for done in (state, spent):
                done.unlink(missing_ok=True)
                sweep(done)
        return found, False


@contextmanager
def _counted(spent: Path) -> Iterator[Callable[[], float]]:
    """Counts the seconds of a computation, those of its interrupted calls too, which are kept in a file."""
    before = float(spent.read_text(encoding='utf-8')) if spent.is_file() else 0.0
    start = time.monotonic()

    def seconds() -> float:
        return before + time.monotonic() - start

    try:
        yield seconds
    except BaseException:
        write_text(spent, f'{seconds():.1f}')
        raise


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding='utf-8')))
    except ValueError as error:
        raise SpecDMError(f'{path} is damaged ({error}): delete it, and its cell is computed again') from error


@dataclass(frozen=True)
class Bench:
    """What all cells of a grid share.

    Attributes:
        data: Real data.
        generators: Folder of each generator, by the option that names it.
        settings: What a user chooses.
        store: Where records are kept.
        cache: Where synthetic pairs are kept, as of ``SpecDMSynthetic``.
        sampling: Further arguments of ``SpecDMSynthetic``, for each generator that takes any.
        check: Called between two steps of a training; what it raises stops the training, whose state is kept.
    """

    data: Data
    generators: Mapping[str, Path]
    settings: Settings
    store: Store
    cache: Path | bool = True
    sampling: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    check: Callable[[], None] = lambda: None

    def synthetic(self, generator: str, length: int, seed: int = 0, **asked: Any) -> SpecDMSynthetic:
        """Pairs of a generator: the same for every cell that asks for the same, and generated once."""
        folder = self.generators[generator]
        asked = {**self.sampling.get(generator, {}), **asked, 'device': self.settings.device, 'cache': self.cache}
        found = SpecDMSynthetic(folder, length, seed=seed, **asked)
        self.data.spec.require_match(found.spec, 'the real data', f'--{generator}')
        return found

    def pairs(self, arm: Arm) -> tuple[Any, dict[str, Any]]:
        """What an arm learns from, map-style, and all that this depends on, as JSON values."""
        real: Subset[Any] = self.data.drawn(None if arm.real is None else arm.real)
        reals, count = len(real), round(arm.ratio * self.data.count)
        if not reals and not count:
            raise SpecDMError('an arm without real and synthetic pairs has nothing to learn from')
        depends: dict[str, Any] = {'real': reals, 'pairs': fingerprint(real, range(reals)) if reals else ''}
        if not count:
            return real, depends
        classes: dict[str, Any] = {} if arm.classes is None else {'classes': arm.classes}
        synthetic = self.synthetic(arm.generator, count, keep=arm.keep, **classes)
        synthetic.materialize()
        depends |= {'synthetic': count, 'generated': synthetic.settings.key}
        if not reals:
            return synthetic, depends
        return MixedDataset(real, synthetic, count / reals, real_spec=self.data.spec), depends
