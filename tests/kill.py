"""Runs that are killed at random moments: the same command completes, and what it leaves is that of a quiet run.

A few kills of each command are part of the suite (``tests/test_kill.py``), more with

    python -m tests.kill --kills 50 --seed 0

A run of ``fit`` saves its state every five minutes; these do so after every step, and every second one is killed right
after it, so that a stage goes on from there.
"""

import argparse
import contextlib
import hashlib
import io
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch
import yaml
from lightning.pytorch import Trainer

from tests.conftest import tiny_pipeline, tiny_spec
from torchgeo_specdm import fit as fit_module
from torchgeo_specdm.cli import main as specdm
from torchgeo_specdm.datasets import SpecDMSynthetic
from torchgeo_specdm.datasets.oscd import OSCD, oscd_spec
from torchgeo_specdm.datasets.segmunich import segmunich_spec
from torchgeo_specdm.resume import ResumeCheckpoint

SAMPLES, BLOCK = 6, 2
TRAINER = {'accelerator': 'cpu', 'max_steps': 5, 'logger': False, 'enable_progress_bar': False}


# States that all stages save: one after each step, and one at the end
STATES = 18


class _EachStep(ResumeCheckpoint):
    """Saves the state after each step, and dies of the state with the number ``last``."""

    saved, last = 0, 0

    def __init__(self, path: Path) -> None:
        super().__init__(path, every=0.0)

    def _save(self, trainer: Trainer) -> None:
        super()._save(trainer)
        _EachStep.saved += 1
        if _EachStep.saved == self.last:
            os.kill(os.getpid(), signal.SIGKILL)


def _quiet(*arguments: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        if specdm(list(arguments)):
            raise RuntimeError(f'specdm {" ".join(arguments)} failed')


def fit(checkpoint: Path, folder: Path, *options: str) -> None:
    """All stages of a generator with its filter."""
    config = {
        'trainer': TRAINER | {'default_root_dir': str(folder), 'enable_model_summary': False},
        'data': {'class_path': 'tests.fake.FakeDataModule'},
        'stages': [
            {'model': {'class_path': 'AutoencoderTask', 'init_args': {'width': [16, 16], 'depth': 1}}},
            {'model': {'class_path': 'LatentDiffusionTask', 'init_args': {'widths': [32], 'depth': 1}}},
            {'model': {'class_path': 'JudgeTask'}},
        ],
    }
    path = folder.parent / f'{folder.name}.yaml'
    path.write_text(yaml.safe_dump(config))
    with mock.patch.object(fit_module, 'ResumeCheckpoint', _EachStep):
        _quiet('fit', '--config', str(path), *options)


def restart(checkpoint: Path, folder: Path) -> None:
    """All stages again over a finished output."""
    fit(checkpoint, folder, '--restart')


def _sample(*options: str) -> Callable[[Path, Path], None]:
    def run(checkpoint: Path, folder: Path) -> None:
        sizes = ('--n', str(SAMPLES), '--batch-size', str(BLOCK), '--steps', '2', '--device', 'cpu')
        _quiet('sample', str(checkpoint), '--out', str(folder), *sizes, *options)

    return run


def materialize(checkpoint: Path, folder: Path) -> None:
    """All blocks of a dataset in its cache."""
    SpecDMSynthetic(checkpoint, SAMPLES, steps=2, batch_size=BLOCK, device='cpu', cache=folder).materialize()


COMMANDS = {
    'fit': fit,
    'restart': restart,
    'sample': _sample(),
    'export': _sample('--format', 'webdataset', '--shard-size', '3'),
    **{name: _sample('--format', name) for name in ('npz', 'oscd', 'segmunich')},
    'materialize': materialize,
}
# What goes on after a kill where it is not the same command: a training that is begun anew need not be begun thrice
SEQUELS = {'restart': fit}
# Formats of one dataset
SPECS = {'oscd': oscd_spec(OSCD.all_bands, 16), 'segmunich': segmunich_spec()}
# What a command leaves: the states and locks of runs, and what killed ones leave, are none of it
_TRAINED = ('autoencoder/**/*', 'checkpoint/**/*')
RESULTS = {'fit': _TRAINED, 'restart': _TRAINED, 'materialize': ('*/*.safetensors',)}


def results(name: str, folder: Path) -> dict[str, str]:
    """SHA-256 of all that a command leaves, by the path in its folder."""
    found = {path for pattern in RESULTS.get(name, ('**/*',)) for path in folder.glob(pattern) if path.is_file()}
    files = sorted(path for path in found if not any(part.startswith('.') for part in path.relative_to(folder).parts))
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def _child(run: Callable[[Path, Path], None], checkpoint: Path, folder: Path, states: int) -> None:
    # Its own group, so that the processes of a killed run end with it
    os.setpgrp()
    torch.set_num_threads(1)
    _EachStep.last = states
    run(checkpoint, folder)


def start(
    run: Callable[[Path, Path], None], checkpoint: Path, folder: Path, states: int = 0
) -> multiprocessing.Process:
    """A command in a child of its own, forked: all libraries are there already; it may die after so many states."""
    child = multiprocessing.get_context('fork').Process(target=_child, args=(run, checkpoint, folder, states))
    child.start()
    return child  # type: ignore[return-value]


def complete(run: Callable[[Path, Path], None], checkpoint: Path, folder: Path) -> float:
    """Run a command to its end, and say how long it took [s].

    Raises:
        RuntimeError: It failed.
    """
    begin = time.monotonic()
    child = start(run, checkpoint, folder)
    child.join()
    if child.exitcode:
        raise RuntimeError(f'the command for {folder} ended with {child.exitcode}')
    return time.monotonic() - begin


def kill(name: str, kills: int, seed: int, root: Path) -> list[str]:
    """Kill a command so many times, each time in a folder of its own, and run it again.

    Args:
        name: Of the command.
        kills: Number of kills.
        seed: Of the moments.
        root: An empty folder.

    Returns:
        What went wrong, a line for each.
    """
    checkpoint = root / 'generator'
    tiny_pipeline(SPECS.get(name, tiny_spec('segmentation'))).save_pretrained(checkpoint)
    command, sequel = COMMANDS[name], SEQUELS.get(name, COMMANDS[name])
    duration = complete(sequel, checkpoint, root / 'quiet')
    expected, moments, wrong = results(name, root / 'quiet'), random.Random(seed), []
    for number in range(kills):
        folder, moment = root / f'killed{number}', moments.uniform(0, duration)
        states = moments.randint(1, STATES) if name in ('fit', 'restart') and number % 2 else 0
        when = f'state {states}' if states else f'{moment:.2f} s'
        if name in SEQUELS:
            # With the times of its files, which say what is finished
            shutil.copytree(root / 'quiet', folder)
        child = start(command, checkpoint, folder, states)
        if not states:
            time.sleep(moment)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid or 0, signal.SIGKILL)
        child.join()
        if states and child.exitcode != -signal.SIGKILL:
            wrong.append(f'{name} did not come to {when}')
        torn = [path for path, digest in results(name, folder).items() if expected.get(path) != digest]
        wrong += [f'{name}, killed after {when}: {path} is half written' for path in torn]
        complete(sequel, checkpoint, folder)
        if (found := results(name, folder)) != expected:
            different = sorted(path for path in found | expected if found.get(path) != expected.get(path))
            wrong.append(f'{name}, killed after {when}: {", ".join(different)} differ')
    return wrong


def main() -> int:
    """Kill all commands, and print what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--kills', type=int, default=50, help='of each command')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--only', choices=COMMANDS, nargs='+', default=list(COMMANDS))
    args = parser.parse_args()
    failed = 0
    for name in args.only:
        with tempfile.TemporaryDirectory() as folder:
            wrong = kill(name, args.kills, args.seed, Path(folder))
        print(f'{name}: {args.kills} kills, {len(wrong)} went wrong', *wrong, sep='\n  ', flush=True)
        failed += bool(wrong)
    return failed


if __name__ == '__main__':
    sys.exit(main())
