"""An experiment of the paper on the pack, with the generators that were trained before: its cells in slices of time."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gpu_slices.plan import Job
from gpu_slices.train import Clock
from torchgeo_specdm.experiments.bench import Bench, Settings, Store
from torchgeo_specdm.experiments.data import open_data
from torchgeo_specdm.experiments.named import EXPERIMENTS, MODELS
from torchgeo_specdm.experiments.options import FULL
from torchgeo_specdm.experiments.table import Report
from torchgeo_specdm.pipeline import SpecDMPipeline

FOLDER = 'experiments'
"""Of all experiments: they share cells."""
# What comes before the first step: decoding the data, generating pairs; and scoring the test scenes, which is not
# interrupted [s]
_PREPARATION, _SCORING = 60.0, 30.0
_TABLES = ('.md', '.csv', '.json')


def run_experiment(
    job: Job, pack: Path, val: Sequence[str], work: Path, clock: Clock, scale: float, device: torch.device,
    seeds: Sequence[int] = (), models: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """Compute the cells that are not there yet, and write the tables.

    Args:
        job: Named as the experiment.
        pack: Folder of the data.
        val: Scenes that the generators did not learn from; by default those that the pack names.
        work: Folder of all results.
        clock: When this call must end.
        scale: Share of the seeds; a rehearsal tries one learning rate.
        device: Where to train.
        seeds: In the order in which they are done; those of the full form by default.
        models: The paper's by default.

    Raises:
        SliceEndError: The time of this call is over; the state of the training is kept.
    """
    share = min(1.0, scale)
    clock.check(_PREPARATION * share)
    generators = {'checkpoint': work / job.of / 'checkpoint', 'against': work / job.against / 'checkpoint'}
    data = open_data(SpecDMPipeline.read_spec(generators['checkpoint']), pack, val_cities=val)
    chosen = tuple(seeds) or FULL['seeds']
    chosen = chosen[: max(1, round(len(chosen) * share))]
    rates = FULL['rates'] if share == 1 else FULL['rates'][:1]
    trained = tuple(models) or MODELS[data.spec.task]
    settings = Settings(trained, chosen, job.steps, FULL['batch_size'], rates, samples=2, device=str(device))
    folder = work / FOLDER
    bench = Bench(
        data,
        generators,
        settings,
        Store(folder / 'cells'),
        folder / 'pairs',
        # The other one may not know what agreement needs
        sampling={'checkpoint': job.sampling, 'against': {'steps': job.sampling['steps']}},
        check=lambda: clock.check(_SCORING * share),
    )
    experiment = EXPERIMENTS[job.name]
    about = []
    if share < 1:
        about = ['**REHEARSED: the figures mean nothing.**']
        bench = replace(bench, data=replace(data, protocol=None))
    experiment.run(bench, Report(folder, job.name, experiment.question, about))
    return {'models': trained, 'seeds': chosen, 'steps': job.steps, 'files': []}


def results(work: Path) -> list[Path]:
    """What experiments have written so far: a record for each cell, complete at once, and tables after each seed."""
    folder = work / FOLDER
    return [*folder.glob('cells/*.json'), *(path for path in folder.glob('*.*') if path.suffix in _TABLES)]
