"""A training that was interrupted and resumed ends with the weights of one that was not, bit for bit."""

import inspect
import math
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from torch import Tensor

from tests.fake import FakeDataModule
from torchgeo_specdm.resume import ResumeCheckpoint
from torchgeo_specdm.tasks import AutoencoderTask, JudgeTask, LatentDiffusionTask

AUTOENCODER: dict[str, Any] = {'latent_channels': (2, 1), 'width': (16, 16), 'depth': 1}
# Random numbers of all kinds: dropout, clocks and shares
DENOISER: dict[str, Any] = {
    **{'widths': (32,), 'depth': 1, 'dropout': 0.1, 'together': 0.5, 'absent': 0.5},
    **{'class_control': True, 'orientations': True, 'warmup_steps': 2},
}
STAGES = {
    'autoencoder': lambda: AutoencoderTask(**AUTOENCODER),
    'denoiser': lambda: LatentDiffusionTask(**DENOISER),
    'judge': lambda: JudgeTask(crop=8),
}
# Samples that make four batches of an epoch, of five where a last batch is not full
LENGTHS = {'autoencoder': 18, 'denoiser': 2, 'judge': 18}
STEPS = 10


@pytest.fixture(autouse=True)
def _keep_signals() -> Iterator[None]:
    """Lightning leaves Ctrl-C ignored after an interruption."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


class Stop(Callback):
    """Ends a run after so many steps, and draws here and there what has nothing to do with training.

    Args:
        at: Steps; a negative number of them ends it in the validation that follows, as Ctrl-C does, and any other as
            SIGKILL does, when the next batch is there.
    """

    def __init__(self, at: int | None) -> None:
        self.at = at

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.at:
            raise ConnectionAbortedError
        torch.rand(trainer.global_step % 3)

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if -trainer.global_step == self.at:
            raise KeyboardInterrupt
        torch.rand(5)


def run(stage: str, root: Path, stop: int | None = None, workers: int = 0, **settings: Any) -> dict[str, Tensor]:
    """Train, or go on where the last run in that folder was stopped; weights, averages and counters at the end."""
    path, task = root / 'last.ckpt', STAGES[stage]()
    trainer = Trainer(
        accelerator='cpu',
        default_root_dir=root,
        callbacks=[ResumeCheckpoint(path, every=math.inf if stop is None else 0.0), Stop(stop)],
        **{'logger': False, 'enable_progress_bar': False, 'enable_model_summary': False},
        **{'limit_val_batches': 1, 'num_sanity_val_steps': 0, 'max_steps': STEPS, **settings},
    )
    data = FakeDataModule(length=LENGTHS[stage], num_workers=workers)
    safe = {'weights_only': True} if 'weights_only' in inspect.signature(Trainer.fit).parameters else {}
    start = {'ckpt_path': path, **safe} if path.exists() else {}
    trainer.fit(task, task.wrap_datamodule(data, root), **start)
    return {'steps': torch.tensor(trainer.global_step), **task.state_dict()}


def different(stage: str, root: Path, stops: Sequence[int], **settings: Any) -> list[str]:
    """Names of what differs between a whole run and one that was stopped, once while two workers read for it."""
    whole, parts = root / 'whole', root / 'parts'
    for folder in (whole, parts):
        folder.mkdir()
        if stage == 'denoiser':
            (folder / 'autoencoder').symlink_to(root / 'autoencoder')
    seed_everything(3)
    expected = run(stage, whole, **settings)
    seed_everything(3)
    for number, stop in enumerate(stops):
        with pytest.raises((ConnectionAbortedError, SystemExit)):
            run(stage, parts, stop, workers=2 * (number == 2), **settings)
        assert int(torch.load(parts / 'last.ckpt', weights_only=True)['global_step']) == abs(stop)
        # What resumes is another process
        torch.manual_seed(100 + stop)
    found = run(stage, parts, **settings)
    assert found.keys() == expected.keys()
    return [name for name, value in expected.items() if not torch.equal(value, found[name])]


@pytest.fixture(scope='module')
def autoencoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('first')
    torch.manual_seed(0)
    run('autoencoder', root, max_steps=1)
    return root / 'autoencoder'


@pytest.fixture
def root(tmp_path: Path, autoencoder: Path) -> Path:
    """A folder that holds a first stage."""
    (tmp_path / 'autoencoder').symlink_to(autoencoder)
    return tmp_path


@pytest.mark.parametrize('stage', STAGES)
def test_a_resumed_run_ends_with_the_same_weights(stage: str, root: Path) -> None:
    """Stopped in the middle of the first epoch, at the ends of two in a row, and in the middle of one again."""
    assert different(stage, root, [2, 4, 8, 9]) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ('stops', 'settings'),
    [
        ([3], {'accumulate_grad_batches': 2, 'max_steps': 5}),
        ([-4, 7], {}),
        ([-2, 7], {'val_check_interval': 2}),
        ([4, 7], {'limit_train_batches': 3}),
        ([4, 7], {'max_steps': -1, 'max_epochs': 3}),
    ],
)
def test_so_does_one_with_other_settings(stops: list[int], settings: dict[str, Any], root: Path) -> None:
    assert different('autoencoder', root, stops, **settings) == []
