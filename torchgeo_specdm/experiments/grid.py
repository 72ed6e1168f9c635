"""Cells of models that are trained: data configuration x model x seed, scored on whole test scenes.

In every cell a model is trained for equally many steps, validated equally often on the val scenes, and tested with the
weights that validated best. The learning rate of a model is the one with which the control, real pairs alone, validates
best; no test score is looked at.
"""

import inspect
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from torchgeo_specdm.comparison import Counts, mean_iou, sum_groups, sum_samples
from torchgeo_specdm.datasets.device import resolve_device, same_arithmetic
from torchgeo_specdm.downstream.base import DenseModel
from torchgeo_specdm.downstream.registry import DOWNSTREAM, make_model
from torchgeo_specdm.downstream.scenes import count_scenes
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.experiments.bars import REAL_PAIRS, SEEDS, TEST_CITIES, Bar, judge
from torchgeo_specdm.experiments.bench import Bench, Settings
from torchgeo_specdm.experiments.data import SUBSET_SEED, Data, Scenes
from torchgeo_specdm.experiments.named import MODELS, STEPS
from torchgeo_specdm.experiments.plan import Arm, DownstreamExperiment
from torchgeo_specdm.experiments.progress import Progress, duration
from torchgeo_specdm.experiments.results import Results, best
from torchgeo_specdm.experiments.table import Report
from torchgeo_specdm.experiments.training import Budget, train
from torchgeo_specdm.spec import DatasetSpec

CONTROL = Arm()
_TUNING_SEED = 0
_MEANS = 'Scores on whole test scenes, mean ± standard deviation over the seeds:'
_GAINS = (
    'Gains of the mean over the seeds, with 95 % intervals by bootstrap over test scenes and seeds, and in how many '
    'seeds the score is higher:'
)
_BARS = (
    f'What must hold, with {REAL_PAIRS} real pairs, {TEST_CITIES} whole test cities and {SEEDS} seeds; with fewer it '
    'is not measured:'
)
# The paper's values are of these models
_PAPER_MODELS = {'OSCD': 'changeformer:v3', 'SegMunich': 'segformer:mit_b5'}


def build(model: str, spec: DatasetSpec, seed: int) -> DenseModel:
    """A model with random weights.

    Args:
        model: ``NAME`` or ``NAME:OPTION``, its backbone (or, where it has none, its version).
        spec: Describes the pairs.
        seed: Of the weights.

    Raises:
        SpecDMError: There is no such model or option for the task.
    """
    name, _, option = model.partition(':')
    options = {}
    if option:
        known = inspect.signature(DOWNSTREAM[name].load()).parameters if name in DOWNSTREAM else {}
        options['version' if 'version' in known else 'backbone'] = option
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return make_model(name, spec.num_bands, spec.num_classes, task=spec.task, **options)
        except (KeyError, RuntimeError) as error:
            # Of the libraries whose backbones these are
            raise SpecDMError(f'--model {model}: {error}') from error


def planned(arms: Sequence[Arm], settings: Settings) -> Progress:
    """The cells of these arms, those with which learning rates are chosen among them."""
    rates = settings.rates if len(settings.rates) > 1 else ()
    chosen = {(model, CONTROL, _TUNING_SEED, rate): (model, 1.0) for model in settings.models for rate in rates}
    cells = {
        (model, arm, seed, None): (model, arm.steps)
        for model in settings.models
        for arm in arms
        for seed in settings.seeds
        # The control of this seed is there once the rate is chosen
        if not (rates and (arm, seed) == (CONTROL, _TUNING_SEED))
    }
    return Progress({**chosen, **cells})


class Grid:
    """The cells of one experiment.

    Args:
        bench: What they share.
        arms: All data configurations, from which follows how many cells are left.
    """

    def __init__(self, bench: Bench, arms: Sequence[Arm] = ()) -> None:
        self.bench = bench
        self.progress = planned(arms, bench.settings)
        self.spec = bench.data.spec
        self.rates: dict[str, float] = {}
        self._pairs: dict[Arm, tuple[Any, dict[str, Any]]] = {}

    def pairs(self, arm: Arm) -> tuple[Any, dict[str, Any]]:
        """As of :meth:`Bench.pairs`, made once."""
        if arm not in self._pairs:
            self._pairs[arm] = self.bench.pairs(arm)
        return self._pairs[arm]

    def choose_rate(self, model: str) -> float:
        """The learning rate with which the control validates best."""
        if model not in self.rates:
            rates = self.bench.settings.rates
            found = {rate: self._record('real', CONTROL, model, _TUNING_SEED, rate) for rate in rates}
            self.rates[model] = max(found, key=lambda rate: best(found[rate])[1])
        return self.rates[model]

    def cell(self, name: str, arm: Arm, model: str, seed: int) -> dict[str, Any]:
        """The record of a cell, computed if it is not there."""
        rates = self.bench.settings.rates
        return self._record(name, arm, model, seed, rates[0] if len(rates) == 1 else self.choose_rate(model))

    def _record(self, name: str, arm: Arm, model: str, seed: int, rate: float) -> dict[str, Any]:
        settings, data = self.bench.settings, self.bench.data
        pairs, depends = self.pairs(arm)
        budget = Budget(max(1, round(settings.steps * arm.steps)), settings.batch_size, rate)
        depends = {
            **depends,
            'augment': arm.augment,
            'model': model,
            'seed': seed,
            'budget': asdict(budget),
            'data': self.spec.to_dict(),
            'val': data.val.names,
            'test': data.test.names,
            'device': resolve_device(settings.device).type,
        }
        text = f'{name}, {model}, seed {seed}, lr {rate:g}'
        bar = f'cell {self.progress.number + 1} of {self.progress.total}: {text}' if self.progress.total else text
        # Experiments share cells, whatever they call an arm
        found, known = self.bench.store.record(
            f'{model} seed {seed}', depends, lambda state: self._train(pairs, arm, model, seed, budget, state, bar)
        )
        choosing = len(settings.rates) > 1 and model not in self.rates
        self.progress.done((model, arm, seed, rate if choosing else None), found['seconds'])
        if not known:
            took = duration(found['seconds'])
            print(f'{text}: val mIoU {best(found)[1]:.3f}, {took}; {self.progress}', flush=True)
        return found

    def _train(
        self, pairs: Any, arm: Arm, model: str, seed: int, budget: Budget, state: Path, text: str
    ) -> dict[str, Any]:
        data = self.bench.data
        network = build(model, self.spec, seed).to(resolve_device(self.bench.settings.device))

        def validate(network: DenseModel) -> float:
            return float(mean_iou(sum_samples(self._count(network, data.val, overlap=0.0))))

        history = train(
            network,
            pairs,
            budget,
            data.mean,
            data.std,
            validate,
            seed=seed,
            augment=arm.augment,
            state=state,
            check=self.bench.check,
            text=text,
        )
        with same_arithmetic(resolve_device(self.bench.settings.device)):
            counts = sum_groups(self._count(network, data.test, overlap=0.5), data.test.groups)
        return {'val': history, 'units': data.test.units, **{k: v.tolist() for k, v in counts._asdict().items()}}

    def _count(self, network: DenseModel, scenes: Scenes, overlap: float) -> Counts:
        data = self.bench.data
        samples = (scenes.samples[index] for index in range(len(scenes.names)))
        classes, tile = self.spec.num_classes, self.spec.patch_size
        return count_scenes(network, samples, data.mean, data.std, classes, tile=tile, overlap=overlap)


def run(experiment: DownstreamExperiment, bench: Bench, report: Report) -> None:
    """Compute the cells seed by seed, and write the tables after each."""
    grid, settings, spec = Grid(bench, list(experiment.arms.values())), bench.settings, bench.data.spec
    # What is wrong with a model or a generator is said before hours are spent on others
    for model in settings.models:
        build(model, spec, 0)
    for arm in experiment.arms.values():
        grid.pairs(arm)
    records: dict[tuple[str, str], list[dict[str, Any]]] = {}
    text = ''
    for number, seed in enumerate(settings.seeds, 1):
        for model in settings.models:
            for name, arm in experiment.arms.items():
                records.setdefault((model, name), []).append(grid.cell(name, arm, model, seed))
        seeds = settings.seeds[:number]
        results = Results(experiment, spec, records, seeds)
        made = {
            'settings': asdict(settings),
            'spec': spec.to_dict(),
            'test': bench.data.test.units,
            'val': bench.data.val.units,
        }
        tables = {_MEANS: results.means(), _GAINS: results.gains()}
        if bars := _bars(experiment, bench.data):
            scenes = len(bench.data.test.units)
            tables[_BARS] = judge(bars, tables[_MEANS], tables[_GAINS], seeds=number, scenes=scenes)
        text = report.write(results.cells(), tables, made, _notes(experiment, grid, seeds))
    print(f'\n{text}')


def _bars(experiment: DownstreamExperiment, data: Data) -> Sequence[Bar]:
    """What must hold on this data: nothing on random scenes, or where other pairs are drawn than the paper's."""
    return experiment.bars.get(data.spec.name, ()) if data.protocol == 'paper' else ()


def _notes(experiment: DownstreamExperiment, grid: Grid, seeds: Sequence[int]) -> list[str]:
    """How the cells were computed, in sentences."""
    data, settings = grid.bench.data, grid.bench.settings
    rates = ', '.join(f'{rate:g}' for rate in settings.rates)
    if grid.rates:
        chosen = ', '.join(f'{rate:g} for {model}' for model, rate in grid.rates.items())
        rates = f'{chosen}; of {rates} those with which real pairs alone validate best'
    notes = [
        f'{data.spec.name}: {data.count} real pairs of {data.spec.patch_size} px by the protocol, drawn with seed '
        f'{SUBSET_SEED} from {len(data.pool)}. Scores are of {len(data.test.units)} whole test scenes; the weights are '
        f'those that scored best on {len(data.val.units)} val scenes. Seeds: {", ".join(map(str, seeds))}. Learning '
        f'rate: {rates}.'
    ]
    for generator in sorted({arm.generator for arm in experiment.arms.values() if arm.ratio}):
        asked = ', '.join(f'{name} {value}' for name, value in grid.bench.sampling.get(generator, {}).items())
        notes.append(f'Pairs of --{generator} are sampled with {asked or "the settings of the checkpoint"}.')
    full = MODELS[data.spec.task]
    if data.protocol and (settings.steps < STEPS or not set(settings.models) <= set(full)):
        notes.append(
            f'**Reduced form**: {settings.steps} steps of {", ".join(settings.models)}. The full form is {STEPS} steps '
            f'of {" and ".join(full)}.'
        )
    if data.spec.name in experiment.paper:
        notes.append(f"The paper's values are of {_PAPER_MODELS[data.spec.name]} on patches, not on whole scenes.")
    return notes
