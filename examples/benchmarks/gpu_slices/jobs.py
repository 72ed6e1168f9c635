"""How each kind of job is done."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from quality_table.seeds import seed_rows
from quality_table.table import RealSides
from torch.utils.data import Subset

from gpu_slices.experiment import run_experiment
from gpu_slices.plan import ANCESTRAL, FEW_STEPS, SEEDS, Job, Stage, read_stages
from gpu_slices.rows import Generated, distances, figures, known_rows, real_rows
from gpu_slices.speed import sample_speed, train_speed
from gpu_slices.steps import packed
from gpu_slices.train import Clock, train
from torchgeo_specdm.checkpoint import read_json, write_json
from torchgeo_specdm.datamodules import PackedDataModule
from torchgeo_specdm.evaluation.cache import Cache
from torchgeo_specdm.evaluation.copying import CopyObserver
from torchgeo_specdm.evaluation.observation import Observer, Rows, draw
from torchgeo_specdm.evaluation.quality import CHUNK, image_observers, pair_observers
from torchgeo_specdm.evaluation.rule import RuleObserver
from torchgeo_specdm.evaluation.spectra import SpectraObserver


@dataclass
class Bench:
    """The device, the data and the folders of a run.

    Attributes:
        pack: Folder of the packed data.
        work: Folder of all results; each job has one in it.
        conf: Folder of the presets.
        scale: Share of the time, the steps and the samples.
        clock: When this call must end.
        seeds: Of experiments, in the order in which they are done; the five of the full form by default.
        models: Of experiments; the paper's by default.
    """

    pack: Path
    work: Path
    conf: Path
    scale: float
    clock: Clock
    seeds: tuple[int, ...] = ()
    models: tuple[str, ...] = ()
    device: torch.device = field(default_factory=lambda: torch.device('cuda' if torch.cuda.is_available() else 'cpu'))

    def run(self, job: Job) -> dict[str, Any]:
        """Do a job, and say what came out.

        Raises:
            SliceEndError: The time of this call is over.
        """
        stages = read_stages(job, self.conf, self.pack, self.work)
        kinds: dict[str, Callable[[Job, list[Stage]], dict[str, Any]]] = {
            'train': self._train,
            'samples': self._samples,
            'experiment': self._experiment,
            'steps': self._steps,
            'seeds': self._seeds,
            'train-speed': self._train_speed,
            'sample-speed': self._sample_speed,
        }
        return kinds[job.kind](job, stages)

    def _train(self, job: Job, stages: list[Stage]) -> dict[str, Any]:
        root = self.work / job.name
        first = self.work / job.config / 'result.json'
        known = read_json(first)['stages'] if first.is_file() else {}
        fastest = {task: stage['variant'] for task, stage in known.items()}
        result = train(job, stages, root, self.clock, self.scale, fastest)
        files: list[Path] = []
        if job.count:
            data = packed(stages[0].data, 'fit')
            spec = data.train_dataset.spec  # type: ignore[union-attr]
            ruled: list[Observer] = [RuleObserver(spec)] if stages[0].data['land_cover'] else []
            observers = [*image_observers(spec, self.device), SpectraObserver(spec), *ruled]
            generated = Generated(root / 'checkpoint', Cache(root / 'rows'), self.device, self.clock)
            made = generated.rows(job.count, observers, files.append, steps=FEW_STEPS[0])
            result |= {'count': job.count, 'figures': figures(made, *self._real(data, observers, job.count))}
        files += [path for path in (root / 'checkpoint').rglob('*') if path.is_file()] if job.ship else []
        return result | {'files': self._relative(files)}

    def _seeds(self, job: Job, stages: list[Stage]) -> dict[str, Any]:
        """Two arms in all seeds, of the rows that their trainings left: this needs no GPU."""
        data = packed(stages[0].data, 'fit')
        spec = data.train_dataset.spec  # type: ignore[union-attr]
        observers = image_observers(spec, self.device)
        train, held_out = self._real(data, observers, job.count)
        pairs = [(self._kept(f'{job.of}-{s}', observers), self._kept(f'{job.against}-{s}', observers)) for s in SEEDS]
        rows = seed_rows(pairs, RealSides(spec, train, held_out, {}))
        return {'lines': [str(row) for row in rows], 'files': []}

    def _kept(self, name: str, observers: list[Observer]) -> dict[str, Rows]:
        """What observers saw of the samples of a training."""
        result = read_json(self.work / name / 'result.json')
        cache = Cache(self.work / name / 'rows')
        return known_rows(cache, {'weights': result['checkpoint'], 'steps': FEW_STEPS[0]}, result['count'], observers)

    def _samples(self, job: Job, stages: list[Stage]) -> dict[str, Any]:
        data = packed(stages[0].data, 'fit')
        spec = data.train_dataset.spec  # type: ignore[union-attr]
        features = image_observers(spec, self.device)
        observers = pair_observers(data.train_dataset, spec, job.count, features)
        sampling = job.sampling or {'steps': FEW_STEPS[0]}
        generated, files = self._generated(job)
        made = generated.rows(job.count, observers, files.append, **sampling)
        result = {'count': job.count, 'figures': figures(made, *self._real(data, observers, job.count))}
        return result | {'sampling': sampling, 'files': self._relative(files)}

    def _steps(self, job: Job, stages: list[Stage]) -> dict[str, Any]:
        data = packed(stages[0].data, 'fit')
        observers = image_observers(data.train_dataset.spec, self.device)  # type: ignore[union-attr]
        # A thousand evaluations of few samples would leave a GPU idle
        generated, files = self._generated(job, CHUNK if self.device.type == 'cuda' else None)
        samplings: list[dict[str, Any]] = [{'steps': steps} for steps in FEW_STEPS]
        samplings.append({'steps': max(2, round(ANCESTRAL * min(1.0, self.scale))), 'solver': 'ddpm'})
        found = []
        for sampling in samplings:
            made = generated.rows(job.count, observers, files.append, **sampling)
            found.append({'sampling': sampling, 'figures': distances(made, *self._real(data, observers, job.count))})
        return {'count': job.count, 'samplings': found, 'files': self._relative(files)}

    def _experiment(self, job: Job, stages: list[Stage]) -> dict[str, Any]:
        val = stages[0].data.get('val_scenes', ())
        return run_experiment(
            job, self.pack, val, self.work, self.clock, self.scale, self.device, self.seeds, self.models
        )

    def _train_speed(self, job: Job, stages: list[Stage]) -> dict[str, Any]:
        path = self.work / job.name / 'measured.json'
        known = read_json(path) if path.is_file() else {}
        # What came back from another machine has this autoencoder alone
        encoder = {'autoencoder': str(self.work / job.of / 'checkpoint' / 'autoencoder')}
        given = [replace(stage, arguments={**stage.arguments, **encoder}) for stage in stages[1:]]
        stages = [stages[0], *given]
        root = self.work / job.name
        found = train_speed(stages, root, self.clock, known, lambda values: write_json(path, dict(values)), self.scale)
        batches = {stage.task: stage.data.get('batch_size') for stage in stages}
        return {'stages': found, 'batch_sizes': batches, 'files': []}

    def _sample_speed(self, job: Job, stages: list[Stage]) -> dict[str, Any]:
        path = self.work / job.name / 'measured.json'
        known = read_json(path) if path.is_file() else {}
        checkpoint = self.work / job.of / 'checkpoint'
        found = sample_speed(
            checkpoint, self.device, self.clock, known, lambda values: write_json(path, dict(values)), self.scale
        )
        return {**found, 'steps': FEW_STEPS[0], 'files': []}

    def _real(
        self, data: PackedDataModule, observers: list[Observer], count: int
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What observers see of at most ``count`` train samples, and of those that were held out."""
        cache = Cache(self.work / 'real')
        # A train sample is its own copy
        of_train = [observer for observer in observers if not isinstance(observer, CopyObserver)]
        # Those of quality.py, so that the rows of both are of the same patches
        train = Subset(data.train_dataset, draw(data.train_dataset, count))
        return real_rows(train, of_train, cache), real_rows(data.val_dataset, observers, cache)

    def _generated(self, job: Job, block: int | None = None) -> tuple[Generated, list[Path]]:
        root = self.work / job.of
        return Generated(root / 'checkpoint', Cache(root / 'quality.parts'), self.device, self.clock, block), []

    def _relative(self, files: list[Path]) -> list[str]:
        return sorted({path.relative_to(self.work).as_posix() for path in files})
