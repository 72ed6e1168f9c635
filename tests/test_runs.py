"""Runs that end badly: two in one folder, a loss that is no number, a disk that is full or read-only."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import yaml
from filelock import FileLock

from tests.conftest import tiny_spec
from tests.disks import small_disk
from tests.exporting.test_formats import TAGS, make_sample
from tests.exporting.test_resume import contents
from tests.fake import FakePairs
from tests.test_cli import AUTOENCODER, DENOISER, TRAINER
from torchgeo_specdm.checkpoint import WEIGHTS, folder_hash, write_folder
from torchgeo_specdm.cli import main
from torchgeo_specdm.datasets.oscd import OSCD, oscd_spec
from torchgeo_specdm.datasets.segmunich import segmunich_spec
from torchgeo_specdm.diverging import LossGuard
from torchgeo_specdm.errors import DivergedError
from torchgeo_specdm.exporting import FORMATS, make_format
from torchgeo_specdm.losses import LossWatch
from torchgeo_specdm.tasks import AutoencoderTask, JudgeTask, LatentDiffusionTask

STAGES: dict[str, tuple[type, dict[str, Any], str]] = {
    '1': (AutoencoderTask, AUTOENCODER, 'autoencoder'),
    '2': (LatentDiffusionTask, DENOISER, 'checkpoint'),
    '3': (JudgeTask, {}, 'checkpoint/filter'),
}
# What a disk in memory hands out at once [byte]
PAGE = 4096


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / 'config.yaml'
    stages = [{'model': {'class_path': kind.__name__, 'init_args': about}} for kind, about, _ in STAGES.values()]
    about = {'default_root_dir': str(tmp_path / 'run'), 'logger': False}
    data = {'class_path': 'tests.fake.FakeDataModule'}
    path.write_text(yaml.safe_dump({'trainer': TRAINER | about, 'data': data, 'stages': stages}))
    return str(path)


def line(capsys: pytest.CaptureFixture[str]) -> str:
    (found,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith('specdm: error')]
    return found


def test_a_second_run_in_one_folder_is_refused(config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ['fit', '--config', config, '--stage', '1']
    (tmp_path / 'run').mkdir()
    with FileLock(tmp_path / 'run' / '.specdm.lock'):
        assert main(command) == 2
        assert 'another training is at work in' in line(capsys)
        assert [path.name for path in (tmp_path / 'run').iterdir()] == ['.specdm.lock']
    assert main(command) == 0
    assert (tmp_path / 'run' / 'autoencoder').is_dir()


def test_a_loss_that_is_no_number_ends_each_stage(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for stage, (kind, _, output) in STAGES.items():
        command = ['fit', '--config', config, '--stage', stage]
        last = tmp_path / 'run' / kind.__name__ / 'last.ckpt'
        sound = kind.training_step  # type: ignore[attr-defined]

        def spoilt(self: Any, batch: Any, batch_idx: int, sound: Any = sound) -> Any:
            loss = sound(self, batch, batch_idx)
            return loss * torch.nan if self.global_step == 2 else loss

        with monkeypatch.context() as patch:
            patch.setattr(kind, 'training_step', spoilt)
            assert main(command) == 2
        message = line(capsys)
        assert 'the loss is nan in step 2, batch' in message
        assert f'{last} holds the last good weights' in message
        assert not (tmp_path / 'run' / output).exists()
        state = torch.load(last, weights_only=True)
        assert state['global_step'] == 2
        assert all(value.isfinite().all() for value in state['state_dict'].values())
        assert main(command) == 0
        assert (tmp_path / 'run' / output).is_dir()


def train_torchgeo(folder: Path, max_steps: int = 4, **about: Any) -> list[str]:
    """The command that trains a task of TorchGeo, saving after each step."""
    saving = {'class_path': 'ModelCheckpoint', 'init_args': {'every_n_train_steps': 1, 'save_last': True}}
    trainer = TRAINER | {
        'default_root_dir': str(folder),
        'logger': False,
        'callbacks': [saving],
        'max_steps': max_steps,
    }
    settings = {'backbone': 'resnet18', 'in_channels': 3, 'num_classes': 4, 'task': 'multiclass'}
    model = {'class_path': 'SemanticSegmentationTask', 'init_args': settings | about}
    data = {'class_path': 'tests.fake.FakeDataModule', 'init_args': {'patch_size': 32}}
    path = folder.with_suffix('.yaml')
    path.write_text(yaml.safe_dump({'trainer': trainer, 'data': data, 'model': model}))
    return ['fit', '--config', str(path)]


def spoil_samples(patch: pytest.MonkeyPatch, name: str, value: float, first: int) -> None:
    """Fill ``name`` in all train samples from the one that is read as number ``first`` on."""
    sound, read = FakePairs.__getitem__, []

    def spoilt(self: FakePairs, index: int) -> dict[str, Any]:
        sample = sound(self, index)
        read.extend([index] * (self.split == 'train'))
        return sample | {name: torch.full_like(sample[name], value)} if len(read) > first else sample

    patch.setattr(FakePairs, '__getitem__', spoilt)


def test_a_loss_that_is_no_number_ends_a_task_of_torchgeo(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of it is alone in its folder too."""
    command = train_torchgeo(tmp_path / 'run')
    with monkeypatch.context() as patch:
        spoil_samples(patch, 'image', torch.nan, first=8)
        assert main(command) == 2
    message = line(capsys)
    assert 'the loss is nan in step 2, batch 0 of epoch 1' in message
    (last,) = (tmp_path / 'run').rglob('last.ckpt')
    assert f'{last} holds the last good weights' in message
    assert all(value.isfinite().all() for value in torch.load(last, weights_only=False)['state_dict'].values())
    spoil_samples(monkeypatch, 'image', torch.nan, first=0)
    assert main(command) == 2
    assert 'in step 0, batch 0 of epoch 0' in (message := line(capsys))
    assert 'no checkpoint was written' in message
    with FileLock(tmp_path / 'run' / '.specdm.lock'):
        assert main(command) == 2
    assert 'another training is at work in' in line(capsys)


def test_batches_without_a_label_do_not_end_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their mean loss is no number, and their gradient is zero."""
    spoil_samples(monkeypatch, 'mask', 255, first=4)
    assert main(train_torchgeo(tmp_path / 'run', max_steps=3, ignore_index=255)) == 0
    (last,) = (tmp_path / 'run').rglob('last.ckpt')
    state = torch.load(last, weights_only=False)
    assert state['global_step'] == 3
    assert all(value.isfinite().all() for value in state['state_dict'].values())


def test_no_checkpoint_is_written_of_a_loss_that_nobody_has_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, which is not asked at each step."""
    guard, trainer = LossGuard(), mock.Mock(global_step=3, current_epoch=0, fit_loop=mock.Mock(batch_idx=3))
    monkeypatch.setattr(LossWatch, 'see', lambda watch, loss, *about: watch._waiting.append((*about, loss)))
    guard.on_save_checkpoint(trainer, mock.Mock(), {})
    guard.on_before_backward(trainer, mock.Mock(), torch.tensor(torch.inf))
    with pytest.raises(DivergedError, match='inf in step 3, batch 3 of epoch 0'):
        guard.on_save_checkpoint(trainer, mock.Mock(), {})


def test_a_finished_stage_is_not_taken_for_one_of_other_data(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command, record = ['fit', '--config', config, '--stage', '1'], tmp_path / 'run' / 'AutoencoderTask' / 'data.json'
    assert main(command) == 0
    before = folder_hash(tmp_path / 'run' / 'autoencoder')
    other = [*command, '--data.patch_size', '32', '--data.length', '9']
    assert main(other) == 2
    assert 'was trained on data with another length, patch_size: use' in (message := line(capsys))
    assert '--restart' in message
    with monkeypatch.context() as patch:
        patch.setattr(AutoencoderTask, 'on_train_batch_start', mock.Mock(side_effect=RuntimeError('killed')))
        with pytest.raises(RuntimeError, match='killed'):
            main([*other, '--restart'])
    assert main(other) == 2, 'a restart that came to nothing'
    # How samples are loaded changes none of them
    assert main([*command, '--data.batch_size', '2', '--data.num_workers', '1']) == 0
    assert folder_hash(tmp_path / 'run' / 'autoencoder') == before
    assert main([*other, '--restart']) == 0
    assert main(other) == 0
    assert main(command) == 2
    # As a run leaves it that is killed before it writes the record
    record.write_text('{"class_path": "OSCDPatchesDataModule"}')
    os.utime(record, (0, 0))
    assert main(command) == 0
    # As an earlier release left it
    record.unlink()
    assert main(command) == 0
    assert not record.exists()


def test_an_output_that_was_lost_while_it_was_written_is_written_again(config: str, tmp_path: Path) -> None:
    for stage, (_, _, output) in list(STAGES.items())[:2]:
        command, folder = ['fit', '--config', config, '--stage', stage], tmp_path / 'run' / output
        assert main(command) == 0
        before = folder_hash(folder)
        # As a run leaves it that is killed after its last state, and before its output has its name
        folder.rename(folder.with_name(f'.{folder.name}.partial-{2**22 + 1}'))
        assert main(command) == 0
        assert folder_hash(folder) == before
        assert not list(folder.parent.glob('.*.partial-*'))


def test_what_a_killed_process_of_the_same_number_has_left_is_no_hindrance(tmp_path: Path) -> None:
    """In a container one process after the other has the same number."""
    left = [tmp_path / f'.a.{kind}-{os.getpid()}' for kind in ('partial', 'old')]
    for folder in left:
        folder.mkdir()
        (folder / 'x').write_text('half')
    for text in ('new', 'newer'):
        write_folder(tmp_path / 'a', lambda folder, text=text: (folder / 'x').write_text(text) and None)  # type: ignore[misc]
        assert (tmp_path / 'a' / 'x').read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ['a']


def test_a_folder_that_cannot_be_written_stays_what_it_was(tmp_path: Path) -> None:
    write_folder(tmp_path / 'a', lambda folder: (folder / 'x').write_text('old') and None)

    def fill(folder: Path) -> None:
        (folder / 'x').write_text('new')
        raise OSError(errno.ENOSPC, 'full')

    with pytest.raises(OSError, match='full'):
        write_folder(tmp_path / 'a', fill)
    assert [path.name for path in tmp_path.iterdir()] == ['a']
    assert (tmp_path / 'a' / 'x').read_text() == 'old'


@pytest.mark.parametrize(('number', 'message'), [(errno.ENOSPC, 'is full'), (errno.EROFS, 'may not be written')])
def test_a_full_disk_ends_a_training_in_one_line(
    config: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    message: str,
) -> None:
    command, sound = ['fit', '--config', config, '--stage', '1'], Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.name == WEIGHTS:
            raise OSError(number, 'no', str(path))
        return sound(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, 'write_bytes', full)
        assert main(command) == 2
    assert message in line(capsys)
    assert not list((tmp_path / 'run').glob('*autoencoder*'))
    assert main(command) == 0
    assert (tmp_path / 'run' / 'autoencoder' / WEIGHTS).is_file()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB of its own, where this user may mount one."""
    with small_disk(tmp_path / 'disk', '2m') as folder:
        yield folder


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open('wb', buffering=0) as file:
        while True:
            file.write(bytes(PAGE))


def test_a_training_on_a_small_disk(config: str, disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A disk that takes nothing, a part of the state, or the state and a part of the output."""
    root, filler = disk / 'run', disk / 'filler'
    command = ['fit', '--config', config, '--stage', '1', '--trainer.default_root_dir', str(root)]
    assert main(command) == 0
    whole = folder_hash(root / 'autoencoder')
    pages = sum(-(-path.stat().st_size // PAGE) for path in root.rglob('*') if path.is_file())
    for free in (0, pages // 3, pages - 2):
        shutil.rmtree(root)
        with pytest.raises(OSError, match='No space left'):
            fill(filler)
        os.truncate(filler, filler.stat().st_size - free * PAGE)
        capsys.readouterr()
        assert main(command) == 2
        assert 'is full' in line(capsys)
        assert not (root / 'autoencoder').exists()
        filler.unlink()
        assert main(command) == 0
        assert folder_hash(root / 'autoencoder') == whole
        assert not list(root.rglob('*partial*'))


@pytest.mark.parametrize('form', ['geotiff', 'npz', 'webdataset'])
def test_samples_on_a_small_disk(
    tiny_segmentation_checkpoint: Path, disk: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    sizes = ['--steps', '1', '--batch-size', '8', '--device', 'cpu', '--format', form]
    sizes += ['--shard-size', '4'] if form == 'webdataset' else []
    command = ['sample', str(tiny_segmentation_checkpoint), '--out', str(disk / 'out'), *sizes]
    assert main([*command, '--n', '8']) == 0
    whole = {path: path.read_bytes() for path in (disk / 'out').rglob('*') if path.is_file()}
    filler = disk / 'filler'
    with pytest.raises(OSError, match='No space left'):
        fill(filler)
    assert main([*command, '--n', '16']) == 2
    assert 'is full' in line(capsys)
    assert all(path.read_bytes() == content for path, content in whole.items() if path.name != 'specdm.json')
    filler.unlink()
    assert main([*command, '--n', '16']) == 0
    subprocess.run(['mount', '-o', 'remount,ro', disk], check=True)
    assert main([*command, '--n', '24']) == 2
    assert 'may not be written' in line(capsys)


@pytest.mark.parametrize('form', FORMATS)
def test_a_file_that_a_disk_takes_in_part_gets_no_name(form: str, disk: Path) -> None:
    """However much of it the disk takes, and whichever library makes it."""
    spec = {'segmunich': segmunich_spec(), 'oscd': oscd_spec(OSCD.all_bands, 16)}.get(form, tiny_spec('segmentation'))
    layout = make_format(form, spec)
    items = [layout.item(index, make_sample(spec, index), TAGS) for index in range(min(layout.unit_size, 20))]
    layout.write(disk / 'whole', 0, items)
    whole = contents(disk / 'whole')
    shutil.rmtree(disk / 'whole')
    pages = sum(-(-len(content) // PAGE) for content in whole.values())
    with pytest.raises(OSError, match='No space left'):
        fill(disk / 'filler')
    size = (disk / 'filler').stat().st_size
    for free in range(0, pages, -(-pages // 20)):
        os.truncate(disk / 'filler', size - free * PAGE)
        with pytest.raises(OSError, match='No space left'):
            layout.write(disk / 'out', 0, items)
        assert contents(disk / 'out').items() < whole.items()
        assert not layout.is_complete(disk / 'out', 0, len(items))
        assert not list(disk.rglob('.*'))
        shutil.rmtree(disk / 'out')
        with pytest.raises(OSError, match='No space left'):
            fill(disk / 'filler')
