"""What gpu.py does, in order of priority, and how a job's configuration is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from torchgeo_specdm.catalogue import resolve
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.stages import merge

# Stages of a preset that need nothing but this package's core; the judge is trained elsewhere
_STAGES = ('AutoencoderTask', 'LatentDiffusionTask')
_DATA = {'OSCDPatchesDataModule': False, 'OSCDLandCoverDataModule': True}
_OWN_DATA = ('patch_size', 'overlap', 'batch_size', 'num_workers')


@dataclass(frozen=True)
class Job:
    """One line of the plan.

    Attributes:
        name: Names its folder; what a later job names in ``of``. An experiment is named as by ``specdm experiment``.
        kind: What is done.
        config: A preset, without suffix.
        minutes: Wall clock of a training, its measurements and validation included.
        lengths: Optimiser steps of stages, by task, where the wall clock does not decide; other stages are left out.
        autoencoder: Name of the checkpoint whose autoencoder is taken over; by default one is trained.
        changes: Arguments of tasks that differ from the preset, by class name.
        seed: Of a training.
        of: The training whose checkpoint is sampled; of ``seeds``, an arm.
        against: Another one, of an experiment or of ``seeds`` that compares two.
        count: Samples that are generated.
        sampling: Arguments of :meth:`SpecDMPipeline.sample`, of an experiment those of ``SpecDMSynthetic``; 20 steps by
            default.
        steps: Optimiser steps of each cell of an experiment.
        ship: Whether the checkpoint is brought back.
    """

    name: str
    kind: Literal['train', 'samples', 'experiment', 'steps', 'seeds', 'train-speed', 'sample-speed']
    config: str
    minutes: float = 0.0
    lengths: Mapping[str, int] = field(default_factory=dict)
    autoencoder: str = ''
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seed: int = 0
    of: str = ''
    against: str = ''
    count: int = 0
    sampling: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 0
    ship: bool = False


@dataclass(frozen=True)
class Stage:
    """One training of a job: a task, its data, the most steps that the preset gives it and where it clips gradients."""

    task: str
    arguments: Mapping[str, Any]
    data: Mapping[str, Any]
    max_steps: int
    gradient_clip_val: float | None = None


# A single stream cannot be given a part of itself: so that arms differ in one thing, none learns that. A third of the
# operations of the preset's denoiser, and as many weights
_JOINT: dict[str, Any] = {'LatentDiffusionTask': {'together': 1.0, 'widths': [64, 128, 192], 'depth': 1}}
# The paper's two comparisons; single_stream is LDM's autoencoder, as large as both branches together
ARMS: dict[str, dict[str, dict[str, Any]]] = {
    'two-stream': _JOINT,
    'single-stream': {'AutoencoderTask': {'kind': 'single_stream'}, **_JOINT},
    'no-sad': {'AutoencoderTask': {'sad_weight': 0.0}},
}
# What an arm takes; the loss of spectral angles is one of the autoencoder alone
_FIRST = {'AutoencoderTask': 2000}
_BOTH = {**_FIRST, 'LatentDiffusionTask': 1500}
LENGTHS = {'two-stream': _BOTH, 'single-stream': _BOTH, 'no-sad': _FIRST}
# LDM on pairs of two dates: as many latents and weights as the streams of ``oscd.yaml``
_LDM: dict[str, Any] = {
    'AutoencoderTask': {'kind': 'single_stream', 'separate_dates': False, 'latent_channels': [40, 4]},
    'LatentDiffusionTask': {'together': 1.0},
}
SEEDS = (0, 1, 2)
# Samples of an arm: held-out images are fewer, and both sides of a distance are equally many
_COMPARED = 520
# Forty epochs of a hundred real pairs and five hundred synthetic ones, in batches of 16
CELL_STEPS = 1500
FEW_STEPS = (20, 10, 4, 1)
ANCESTRAL = 1000
AGREED = {'steps': 10, 'agreement': 2.25}
# Of the pairs that detectors learn from, as in experiment-oscd.yaml
_FOR_TASKS = AGREED | {'classes': 'train'}
# With the checkpoints that ship, whose autoencoders they take over: all the time is the denoiser's
_GENERATORS = {'oscd-landcover': 'oscd-landcover', 'oscd': 'oscd-change'}

PLAN: tuple[Job, ...] = (
    *(
        Job(name, 'train', name, minutes=4, autoencoder=checkpoint, ship=True)
        for name, checkpoint in _GENERATORS.items()
    ),
    *(Job(f'{name}-samples', 'samples', name, of=name, count=2000) for name in _GENERATORS),
    *(Job(f'{name}-agreed', 'samples', name, of=name, count=2000, sampling=AGREED) for name in _GENERATORS),
    Job('augmentation', 'experiment', 'oscd', of='oscd', steps=CELL_STEPS, sampling=_FOR_TASKS),
    *(
        Job(
            f'{arm}-{seed}',
            'train',
            'oscd-landcover',
            lengths=LENGTHS[arm],
            changes=changes,
            seed=seed,
            count=_COMPARED if LENGTHS[arm] == _BOTH else 0,
        )
        for seed in SEEDS
        for arm, changes in ARMS.items()
    ),
    Job('seeds', 'seeds', 'oscd-landcover', of='two-stream', against='single-stream', count=_COMPARED),
    *(Job(f'{name}-steps', 'steps', name, of=name, count=512) for name in _GENERATORS),
    Job('train-speed', 'train-speed', 'oscd-landcover', of='oscd-landcover'),
    Job('sample-speed', 'sample-speed', 'oscd-landcover', of='oscd-landcover'),
    Job('oscd-ldm', 'train', 'oscd', minutes=4, changes=_LDM, count=1000, ship=True),
    Job('against-ldm', 'experiment', 'oscd', of='oscd', against='oscd-ldm', steps=CELL_STEPS, sampling=_FOR_TASKS),
)


def needed(job: Job) -> list[str]:
    """What earlier jobs have to leave for this one."""
    of = [name for name in (job.of, job.against) if name]
    if job.kind == 'seeds':
        return [f'{arm}-{seed}/result.json' for arm in of for seed in SEEDS]
    return [f'{name}/checkpoint' for name in of]


def scaled(job: Job, scale: float) -> Job:
    """The job with fewer minutes, samples and steps, for a rehearsal."""
    count = max(4, round(job.count * scale)) if job.count else 0
    steps = max(2, round(job.steps * scale)) if job.steps else 0
    lengths = {task: max(2, round(length * scale)) for task, length in job.lengths.items()}
    return replace(job, minutes=job.minutes * scale, count=count, steps=steps, lengths=lengths)


def read_stages(job: Job, conf: Path, pack: Path, work: Path) -> list[Stage]:
    """The trainings of a job, as ``specdm fit`` reads them, on the pack and below ``work`` instead of ``runs``.

    Raises:
        SpecDMError: The preset is missing or names other data than a pack serves.
    """
    path = conf / f'{job.config}.yaml'
    if not path.is_file():
        raise SpecDMError(f'there is no preset {path}')
    top = yaml.safe_load(path.read_text(encoding='utf-8'))
    stages = [merge(top, stage) for stage in top.pop('stages')]
    found = []
    for config in stages:
        task = config['model']['class_path'].rpartition('.')[-1]
        if task in _trained(job):
            arguments = {**config['model'].get('init_args', {}), **job.changes.get(task, {})}
            if job.autoencoder and task == _STAGES[1]:
                arguments['autoencoder'] = str(_shipped(job.autoencoder) / 'autoencoder')
            moved = {name: _moved(value, work) for name, value in arguments.items()}
            trainer = config['trainer']
            data = _packed(config['data'], pack, path)
            steps = job.lengths.get(task, trainer['max_steps'])
            found.append(Stage(task, moved, data, steps, trainer.get('gradient_clip_val')))
    return found


def _shipped(name: str) -> Path:
    """The folder of a checkpoint that ships; this file's own clone first, which only an editable package knows."""
    clone = Path(__file__).parents[2] / 'checkpoints' / name
    return clone if clone.is_dir() else resolve(name)


def _trained(job: Job) -> tuple[str, ...]:
    """The tasks of a job."""
    return tuple(job.lengths) or (_STAGES[1:] if job.autoencoder else _STAGES)


def _moved(value: Any, work: Path) -> Any:
    """A path that the preset has below ``runs``."""
    return str(work / value.removeprefix('runs/')) if isinstance(value, str) and value.startswith('runs/') else value


def _packed(data: Mapping[str, Any], pack: Path, path: Path) -> dict[str, Any]:
    name = data['class_path'].rpartition('.')[-1]
    given = data.get('init_args', {})
    if name not in _DATA or 'bands' in given:
        raise SpecDMError(f'{path} asks for {name}, a pack serves {", ".join(_DATA)} with the bands that it holds')
    own = {key: given[key] for key in _OWN_DATA if key in given}
    val = {'val_scenes': given['val_cities']} if 'val_cities' in given else {}
    return {'root': pack, 'land_cover': _DATA[name], **own, **val}


def chosen(only: Sequence[str], steps: int | None = None) -> tuple[Job, ...]:
    """The jobs of these names, in the order of the plan; all for none.

    Args:
        only: Names.
        steps: Length of the denoisers that ship; by default as long as the time of their jobs.

    Raises:
        SpecDMError: There is no such job.
    """
    names = [job.name for job in PLAN]
    if unknown := [name for name in only if name not in names]:
        raise SpecDMError(f'there is no job {unknown[0]}; there are {", ".join(names)}')
    jobs = [job for job in PLAN if not only or job.name in only]
    if steps is None:
        return tuple(jobs)
    length = {'LatentDiffusionTask': steps}
    return tuple(replace(job, lengths=length) if job.autoencoder else job for job in jobs)
