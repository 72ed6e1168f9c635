"""Cells of generators: samples beside real ones. Fréchet distances, spectra, and what the autoencoder loses.

As many real held-out samples are measured in the same way: what samples of other ground reach. A distance depends on
its features and on the number of samples N; both stand beside it.
"""

import itertools
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor

from torchgeo_specdm.checkpoint import folder_hash
from torchgeo_specdm.datasets.device import resolve_device
from torchgeo_specdm.evaluation.cache import fingerprint
from torchgeo_specdm.evaluation.fidelity import FeatureObserver
from torchgeo_specdm.evaluation.observation import Observer, Rows, draw, observe
from torchgeo_specdm.evaluation.quality import has_lite0
from torchgeo_specdm.evaluation.reconstruction import ReconstructionObserver, measure_reconstruction
from torchgeo_specdm.evaluation.spectra import SpectraObserver
from torchgeo_specdm.experiments.bench import Bench
from torchgeo_specdm.experiments.plan import GeneratorExperiment
from torchgeo_specdm.experiments.progress import Progress, duration
from torchgeo_specdm.experiments.table import Report, Spread
from torchgeo_specdm.extractors import make_extractor
from torchgeo_specdm.functional import spectral_angle
from torchgeo_specdm.functional.distances import frechet_distance
from torchgeo_specdm.functional.spectra import ClassSums
from torchgeo_specdm.parts import load_autoencoder

_HELD_OUT = 'real, held out'
Sides = Mapping[str, Rows]


class Gallery:
    """Shows samples to observers.

    Args:
        bench: Real data and generators.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench, self.spec = bench, bench.data.spec
        names = ['spectral', *(['lite0'] if has_lite0() and {'B02', 'B03', 'B04'} <= set(self.spec.bands) else [])]
        device = resolve_device(bench.settings.device)
        features = [FeatureObserver(make_extractor(name, self.spec, device)) for name in names]
        self.observers: list[Observer] = [*features, SpectraObserver(self.spec)]
        self.count = min(bench.settings.samples, len(bench.data.pool), len(bench.data.held_out))
        self._train: Sides | None = None

    @property
    def train(self) -> Sides:
        """Rows of real samples that generators learn from; observed once."""
        if self._train is None:
            self._train = self._see(self.bench.data.pool, 'real')
        return self._train

    @property
    def depends(self) -> dict[str, Any]:
        """All that figures depend on besides the generator, as JSON values."""
        pool = self.bench.data.pool
        observers = [observer.settings for observer in self.observers]
        return {'N': self.count, 'real': fingerprint(pool, draw(pool, self.count)), 'observers': observers}

    def held_out(self) -> dict[str, float]:
        """Figures of real samples of other ground."""
        return self._figures(self._see(self.bench.data.held_out, _HELD_OUT))

    def generated(self, generator: str, seed: int) -> dict[str, float]:
        """Figures of a generator's samples."""
        return self._figures(self._see(self.bench.synthetic(generator, self.count, seed), f'{generator}, seed {seed}'))

    def reconstructed(self, generator: str) -> dict[str, float]:
        """What a generator's autoencoder loses of held-out samples."""
        autoencoder = load_autoencoder(self.bench.generators[generator] / 'autoencoder')
        observer = ReconstructionObserver(autoencoder.to(resolve_device(self.bench.settings.device)), self.spec)
        data = self.bench.data.held_out
        rows = observe(data, draw(data, self.count), [observer], text=f'{generator}, reconstruction')[observer.name]
        rmse, angle, entropy, _ = measure_reconstruction(rows, self.spec).measures
        named = (('RMSE', rmse), ('SAD [rad]', angle), ('cross-entropy [nat]', entropy))
        return {name: measure.value.value for name, measure in named}

    def _see(self, dataset: Any, text: str) -> Sides:
        return observe(dataset, draw(dataset, self.count), self.observers, text=text)

    def _figures(self, side: Sides) -> dict[str, float]:
        found = {}
        for observer in self.observers[:-1]:
            assert isinstance(observer, FeatureObserver)
            for stream, features in side[observer.name].items():
                distance = frechet_distance(self.train[observer.name][stream], features)
                found[f'FD {stream}, {observer.extractor.name}'] = distance
        return found | {'mSAD [rad]': _mean_angle(side, self.train)}


def _mean_angle(first: Sides, second: Sides) -> float:
    """Spectral angle between mean spectra, mean over dates and the classes that both sides have [rad]."""
    means = [_class_means(side[SpectraObserver.name]) for side in (first, second)]
    return float(spectral_angle(means[0], means[1], dim=-1).nanmean())


def _class_means(rows: Rows) -> Tensor:
    """``(T, K, C)``; NaN for a class without pixels."""
    return ClassSums(*(rows[name].double().sum(0) for name in ('pixels', 'sum', 'squares'))).mean


def run(experiment: GeneratorExperiment, bench: Bench, report: Report) -> None:
    """Compute the cells seed by seed, and write the table after each."""
    gallery, text = Gallery(bench), ''
    device = resolve_device(bench.settings.device)
    depends = {**gallery.depends, 'device': device.type}
    real, _ = bench.store.record('held out', depends, lambda _: {'figures': gallery.held_out()})
    found: dict[str, list[dict[str, float]]] = {_HELD_OUT: [real['figures']]}
    lost: dict[str, dict[str, float]] = {}
    for name, generator in experiment.rows.items():
        if experiment.reconstruction:
            weights = {**depends, 'weights': folder_hash(bench.generators[generator])}
            record, _ = bench.store.record(
                f'{generator} reconstruction',
                weights,
                lambda _, generator=generator: {'figures': gallery.reconstructed(generator)},  # type: ignore[misc]
            )
            lost[name] = record['figures']
    cells = itertools.product(experiment.rows, bench.settings.seeds)
    progress = Progress(dict.fromkeys(cells, ('samples', 1.0)))
    for number, seed in enumerate(bench.settings.seeds, 1):
        for name, generator in experiment.rows.items():
            key = bench.synthetic(generator, gallery.count, seed).settings.key
            record, known = bench.store.record(
                f'{generator} seed {seed}',
                {**depends, 'generated': key},
                lambda _, generator=generator, seed=seed: {'figures': gallery.generated(generator, seed)},  # type: ignore[misc]
            )
            progress.done((name, seed), record['seconds'])
            if not known:
                print(f'{name}, seed {seed}: {duration(record["seconds"])}; {progress}', flush=True)
            found.setdefault(name, []).append(record['figures'])
        text = _report(experiment, gallery, found, lost, bench.settings.seeds[:number], report)
    print(f'\n{text}')


def _report(
    experiment: GeneratorExperiment,
    gallery: Gallery,
    found: Mapping[str, list[dict[str, float]]],
    lost: Mapping[str, dict[str, float]],
    seeds: tuple[int, ...],
    report: Report,
) -> str:
    rows: list[dict[str, Any]] = []
    for name, figures in found.items():
        row = {key: Spread.of([one[key] for one in figures]) for key in figures[0]}
        rows.append({'samples': name, 'N': gallery.count, **row, **lost.get(name, {})})
    cells = [
        {'samples': name, 'seed': '' if name == _HELD_OUT else seed, **figures, **lost.get(name, {})}
        for name, several in found.items()
        for seed, figures in zip(seeds, several, strict=False)
    ]
    tables: dict[str, list[dict[str, Any]]] = {'Mean ± standard deviation over sampling seeds:': rows}
    if paper := experiment.paper.get(gallery.spec.name):
        tables['The paper, on its own patches, with features that it does not name:'] = [
            {'samples': name, **dict(zip(experiment.paper_figures, values, strict=True))}
            for name, values in paper.items()
        ]
    made = {'settings': asdict(gallery.bench.settings), 'spec': gallery.spec.to_dict()}
    notes = [
        f'FD: Fréchet distance to {gallery.count} real train samples, in the features named. Compare it with the row '
        f'*{_HELD_OUT}* alone. mSAD: angle between the mean spectra of a class, mean over classes and dates.',
        'A spread over sampling seeds does not hold that of training the generator again.',
    ]
    return report.write(cells, tables, made, notes)
