"""``specdm evaluate``: can the labels be trusted, are the samples copies, will they help? Answered with figures."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from torchgeo_specdm.alignment.calibration import TOLERANCE
from torchgeo_specdm.alignment.judge import Judge
from torchgeo_specdm.class_statistics import ClassStatistics
from torchgeo_specdm.datasets import SpecDMSynthetic
from torchgeo_specdm.datasets.device import resolve_device
from torchgeo_specdm.disk import alone
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.evaluation.alignment import JudgeObserver, class_losses, measure_alignment, sample_scores, worst
from torchgeo_specdm.evaluation.cache import Cache, default_folder
from torchgeo_specdm.evaluation.copying import measure_copying
from torchgeo_specdm.evaluation.fidelity import measure_fidelity
from torchgeo_specdm.evaluation.measure import Section
from torchgeo_specdm.evaluation.observation import Rows, Sides, observe
from torchgeo_specdm.evaluation.page import write_evaluation
from torchgeo_specdm.evaluation.provenance import provenance
from torchgeo_specdm.evaluation.real_data import RealData, spread
from torchgeo_specdm.evaluation.real_side import RealSide
from torchgeo_specdm.evaluation.reconstruction import ReconstructionObserver, measure_reconstruction
from torchgeo_specdm.evaluation.result import ClosePair, Evaluation, Generator, Misaligned, Sample
from torchgeo_specdm.evaluation.semantics import measure_semantics
from torchgeo_specdm.evaluation.spectra import SpectraObserver, measure_spectra
from torchgeo_specdm.evaluation.usefulness import Budget, measure_usefulness
from torchgeo_specdm.functional import dihedral
from torchgeo_specdm.parts import load_autoencoder
from torchgeo_specdm.spec import DatasetSpec, find_spec

_SHOWN = 8


@dataclass(frozen=True)
class Settings:
    """How much is computed, and of what.

    Attributes:
        real: Most real samples of a split to look at.
        extractors: Names in :data:`~torchgeo_specdm.extractors.EXTRACTORS`.
        usefulness: Trainings that show whether synthetic samples help; None to leave them out.
        judge_steps: Steps of the judge's training.
        batch_size: Samples in memory at a time.
        device: Where networks run; by default a GPU where there is one.
        cache: Folder for what is computed from real data alone.
    """

    real: int = 1000
    extractors: Sequence[str] = ('spectral', 'lite0')
    usefulness: Budget | None = field(default_factory=Budget)
    judge_steps: int = 300
    batch_size: int = 16
    device: str | None = None
    cache: Path = field(default_factory=default_folder)


def evaluate(generators: Mapping[str, Any], real: RealData, out: Path, settings: Settings | None = None) -> Evaluation:
    """Measure generators against the real data that they imitate; write ``report.html`` and ``metrics.json``.

    Args:
        generators: Datasets of synthetic samples with a length, by name; the first is the one the report is about.
        real: What they imitate.
        out: Folder to write to.
        settings: How much is computed.

    Raises:
        SpecDMError: An argument is wrong, or another evaluation is at work in the folder.
        SpecMismatchError: A generator imitates other data.
    """
    settings = settings or Settings()
    for name, dataset in generators.items():
        spec = find_spec(dataset)
        if spec is None:
            raise SpecDMError(f'{name} carries no spec: give the dataset an attribute spec (DatasetSpec)')
        real.spec.require_match(spec, 'the real data', name)
    with alone(out, 'evaluation', 'name another folder with --out'):
        return _evaluate(generators, real, out, settings)


def _evaluate(generators: Mapping[str, Any], real: RealData, out: Path, settings: Settings) -> Evaluation:
    start = time.monotonic()

    def say(text: str) -> None:
        print(f'[{time.monotonic() - start:4.0f} s] {text}', flush=True)

    side = RealSide(
        real,
        Cache(settings.cache),
        settings.real,
        settings.extractors,
        settings.judge_steps,
        settings.batch_size,
        resolve_device(settings.device),
    )
    say(f'Real data: {real.spec.name}, {len(real.train)} train and {len(real.held_out)} held-out samples')
    side.prepare()
    say(f'Real side ready, kept in {settings.cache}')
    found = []
    for name, dataset in generators.items():
        say(f'{name}: {len(dataset)} synthetic samples')
        found.append(_measure(name, dataset, side, settings, say))
    made = _provenance(generators, side, settings) | {'time': f'{(time.monotonic() - start) / 60:.1f} minutes'}
    evaluation = Evaluation(
        spec=real.spec,
        title=f'Synthetic {real.spec.name}: {" against ".join(generators)}',
        real_pairs=[real.train[index] for index in spread(side.train_indices, _SHOWN)],
        real_statistics=_statistics(side.train, real.spec),
        generators=found,
        made=made,
    )
    write_evaluation(evaluation, out)
    for generator in found:
        for section in generator.sections:
            for flag in section.flags:
                say(f'{generator.name}: {section.title}: {flag}')
    say(f'Wrote {out / "report.html"} and {out / "metrics.json"}')
    return evaluation


def _measure(name: str, dataset: Any, side: RealSide, settings: Settings, say: Callable[[str], None]) -> Generator:
    """Everything about one generator."""
    spec = side.data.spec
    rows = observe(dataset, range(len(dataset)), side.observers, batch_size=settings.batch_size, text=name)
    say(f'{name}: measuring')
    sides = side.sides(rows)
    copying = measure_copying(sides, side.places)
    sections = [
        measure_alignment(sides),
        measure_semantics(sides),
        *_reconstruction(dataset, side, settings),
        copying,
        measure_fidelity(sides),
        measure_spectra(sides),
    ]
    if settings.usefulness:
        say(f'{name}: training on synthetic and on mixed samples')
        sections.append(measure_usefulness(side.data, dataset, side.counts(settings.usefulness), settings.usefulness))
    return Generator(
        name=name,
        sections=sections,
        pairs=[dataset[index] for index in range(min(_SHOWN, len(dataset)))],
        statistics=_statistics(rows, spec),
        closest=[_close_pair(found, dataset, side.data.train) for found in copying.details['closest']],
        worst=_worst(sides, dataset, side.judge, spec),
        filtered=_filtered(dataset),
    )


def _reconstruction(dataset: Any, side: RealSide, settings: Settings) -> list[Section]:
    """What the autoencoder makes of held-out samples, where the generator has one."""
    if not isinstance(dataset, SpecDMSynthetic):
        return []
    observer = ReconstructionObserver(load_autoencoder(dataset.checkpoint / 'autoencoder'), side.data.spec)
    rows = observe(
        side.data.held_out, side.held_out_indices, [observer], batch_size=settings.batch_size, text='reconstruction'
    )
    return [measure_reconstruction(rows[observer.name], side.data.spec)]


def _filtered(dataset: Any) -> Mapping[str, Any] | None:
    """What a filter counted, where there was one."""
    if isinstance(dataset, SpecDMSynthetic):
        return None if dataset.filter is None else dataset.filter_summary().to_dict()
    return getattr(dataset, 'filtered', None)


def _statistics(rows: Mapping[str, Rows], spec: DatasetSpec) -> ClassStatistics:
    found = rows[SpectraObserver.name]
    return ClassStatistics.from_sums(spec, *(found[key].double().sum(0) for key in ('pixels', 'sum', 'squares')))


def _close_pair(found: Mapping[str, Any], dataset: Any, train: Any) -> ClosePair:
    sample = train[found['train']]
    turned = {key: dihedral(sample[key], found['orientation']) for key in ('image', 'mask')}
    return ClosePair(dataset[found['synthetic']], turned, found['ratio'])


def _worst(sides: Sides, dataset: Any, judge: Judge, spec: DatasetSpec) -> list[Misaligned]:
    """The samples whose masks the judge finds least plausible, and at which pixels."""
    real = sides.held_out[JudgeObserver.name]
    scores = sample_scores(sides.synthetic[JudgeObserver.name], real)
    # A class that no held-out sample holds has no usual loss: NaN rejects nothing
    limits = torch.cat([TOLERANCE * class_losses(real), torch.full((1,), torch.nan)])
    found = []
    for index in worst(scores, _SHOWN):
        sample: Sample = dataset[index]
        mask = sample['mask'].view(1, *sample['mask'].shape[-2:])
        loss = judge.pixel_loss(sample['image'].unsqueeze(0), mask).cpu()
        limit = limits[mask.where((mask >= 0) & (mask < spec.num_classes), spec.num_classes)]
        found.append(Misaligned(sample, float(scores[index]), (loss > limit)[0]))
    return found


def _provenance(generators: Mapping[str, Any], side: RealSide, settings: Settings) -> dict[str, str]:
    data = side.data
    made = {
        'real data': f'{data.spec.name}: {len(side.train_indices)} of {len(data.train)} train samples and '
        f'{len(side.held_out_indices)} of {len(data.held_out)} held-out samples looked at; copies searched for among '
        'all train samples',
        'extractors': ', '.join(settings.extractors),
        'judge': f'trained for {settings.judge_steps} steps on the train samples, with another seed than any filter',
    }
    for name, dataset in generators.items():
        if isinstance(dataset, SpecDMSynthetic):
            made |= {f'{name}: {key}': text for key, text in provenance(dataset).items()}
    return made
