"""Shows samples, real and generated, to observers, and keeps what these saw."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quality_table.observers import BlockMeans, DecodedObserver
from torchgeo_specdm.checkpoint import folder_hash
from torchgeo_specdm.datasets import SpecDMSynthetic
from torchgeo_specdm.datasets.device import resolve_device
from torchgeo_specdm.evaluation.cache import Cache, fingerprint
from torchgeo_specdm.evaluation.observation import Observer, Rows, draw, join_rows, observe
from torchgeo_specdm.evaluation.quality import image_observers, kept_parts, kept_rows, pair_observers
from torchgeo_specdm.evaluation.real_data import RealData
from torchgeo_specdm.evaluation.reconstruction import ReconstructionObserver
from torchgeo_specdm.evaluation.rule import RuleObserver
from torchgeo_specdm.evaluation.spectra import SpectraObserver
from torchgeo_specdm.parts import load_autoencoder
from torchgeo_specdm.spec import DatasetSpec

# What networks see at once: fewer are slow on a GPU, more on a CPU
_BATCH = 32
Side = Mapping[str, Rows]


def asked(steps: int, agreement: float = 1.0, classes: str | None = None) -> dict[str, Any]:
    """Arguments of :class:`SpecDMSynthetic`. What is not asked for is left out, so that kept rows are found again."""
    optional = {'agreement': None if agreement == 1 else agreement, 'classes': classes}
    return {'steps': steps} | {name: value for name, value in optional.items() if value is not None}


@dataclass(frozen=True)
class RealSides:
    """What was seen of real samples."""

    spec: DatasetSpec
    train: Side
    held_out: Side
    test: Side


class Table:
    """Observes each sample once.

    Args:
        checkpoint: The generator.
        real: What it imitates.
        count: Most samples of each split.
        cache: Where rows are kept.
        device: Where samples are generated and networks look at them; by default a GPU where there is one.
        sampling: Arguments of :class:`SpecDMSynthetic`, unless said otherwise; 20 steps by default.
    """

    def __init__(
        self,
        checkpoint: Path,
        real: RealData,
        count: int,
        cache: Cache,
        device: str | None = None,
        sampling: Mapping[str, Any] | None = None,
    ) -> None:
        self.checkpoint, self.data, self.count, self.cache = checkpoint, real, count, cache
        self.device, self.sampling = device, sampling or asked(20)
        spec = self.spec = real.spec
        self.features = image_observers(spec, resolve_device(device))
        self.observers = pair_observers(real.train, spec, count, self.features)
        self.rule = next((observer for observer in self.observers if isinstance(observer, RuleObserver)), None)
        self.copies = self.observers[-1]
        autoencoder = self._autoencoder(checkpoint / 'autoencoder')
        exact = (SpectraObserver, RuleObserver)
        decoded = [DecodedObserver(observer, autoencoder) for observer in self.observers if isinstance(observer, exact)]
        # A train sample is its own copy
        train = self.see(real.train, self.observers[:-1], 'train')
        held_out = self.see(real.held_out, self.observers, 'held out')
        self.real = RealSides(spec, train, held_out, self.see(real.test, [*self.observers, *decoded], 'test'))

    def see(self, dataset: Any, observers: Sequence[Observer], text: str) -> Side:
        """What observers see of samples that are there."""
        chosen = draw(dataset, self.count)
        return self.cache.observe(dataset, chosen, observers, batch_size=_BATCH, text=text)

    def generate(
        self, checkpoint: Path, count: int, observers: Sequence[Observer], given: Any = None, **sampling: Any
    ) -> Side:
        """What observers see of a generator's samples, kept in parts."""
        own = self.sampling
        if given is not None or checkpoint != self.checkpoint:
            # Shares of other samples contradict what is given, and a baseline need not know any
            own = {name: value for name, value in own.items() if name != 'classes'}
        sampling = {**own, **sampling}
        dataset = SpecDMSynthetic(checkpoint, count, device=self.device, given=given, **sampling, cache=None)
        self.spec.require_match(dataset.spec, 'the real data', str(checkpoint))
        depends = {'weights': folder_hash(checkpoint), **sampling}
        if given is not None:
            depends['given'] = fingerprint(given, range(len(given)))
        text = ' '.join([str(checkpoint), *(f'{name}={value}' for name, value in sampling.items())])
        chosen = kept_parts(count)
        parts = [self._part(dataset, part, observers, depends, f'{text} from {part.start}') for part in chosen]
        return {name: join_rows([part[name] for part in parts]) for name in parts[0]}

    def _part(
        self, dataset: Any, chosen: range, observers: Sequence[Observer], depends: Mapping[str, Any], text: str
    ) -> Side:
        """Rows of some samples, generated only for those observers that have not seen them."""
        kept = {observer.name: kept_rows(depends, chosen, observer) for observer in observers}
        found = {name: self.cache.load(*key) for name, key in kept.items()}
        missing = [observer for observer in observers if found[observer.name] is None]
        made = observe(dataset, chosen, missing, batch_size=_BATCH, text=text)
        for name, rows in made.items():
            self.cache.save(*kept[name], rows)
        return {name: made.get(name) or found[name] or {} for name in kept}

    def reconstructed(self, folder: Path) -> Rows:
        """What an autoencoder makes of test samples."""
        observer = self._autoencoder(folder)
        return self.see(self.data.test, [observer], str(folder))[observer.name]

    def block_means(self) -> Rows:
        """What is left of test samples whose images are made of blocks."""
        observer = ReconstructionObserver(BlockMeans(self.spec), self.spec)  # type: ignore[arg-type]
        return self.see(self.data.test, [observer], 'block means')[observer.name]

    def _autoencoder(self, folder: Path) -> ReconstructionObserver:
        return ReconstructionObserver(load_autoencoder(folder).to(resolve_device(self.device)), self.spec)
