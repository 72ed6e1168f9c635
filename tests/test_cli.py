import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from torchgeo_specdm import compat
from torchgeo_specdm.cli import main
from torchgeo_specdm.datasets import SpecDMSynthetic
from torchgeo_specdm.datasets.conditions import TrainClasses
from torchgeo_specdm.pipeline import GUIDANCE, SpecDMPipeline
from torchgeo_specdm.tasks import AutoencoderTask

TRAINER = {
    'accelerator': 'cpu',
    'max_steps': 4,
    'enable_progress_bar': False,
    'enable_model_summary': False,
    'log_every_n_steps': 1,
}
AUTOENCODER = {'latent_channels': [2, 1], 'width': [16, 16], 'depth': 1}
DENOISER = {'widths': [32, 32], 'depth': 1}


@pytest.fixture(autouse=True)
def _keep_signals() -> Iterator[None]:
    """Lightning leaves Ctrl-C ignored after an interruption."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.fixture
def staged(tmp_path: Path) -> str:
    """A configuration of both stages; outputs go to ``tmp_path``."""
    return write(
        tmp_path,
        trainer=TRAINER | {'default_root_dir': str(tmp_path)},
        data={'class_path': 'tests.fake.FakeDataModule'},
        stages=[
            {'model': {'class_path': 'AutoencoderTask', 'init_args': AUTOENCODER}},
            {'model': {'class_path': 'LatentDiffusionTask', 'init_args': DENOISER}},
        ],
    )


def write(folder: Path, **config: Any) -> str:
    path = folder / 'config.yaml'
    path.write_text(yaml.safe_dump(config))
    return str(path)


def step(folder: Path) -> int:
    return int(torch.load(folder / 'last.ckpt', weights_only=True)['global_step'])


def test_one_file_trains_both_stages_once(staged: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ['fit', '--config', staged, '--trainer.max_steps', '2']
    assert main(command) == 0
    assert SpecDMPipeline.from_pretrained(tmp_path / 'checkpoint').spec.name == 'tiny segmentation'
    assert [step(tmp_path / name) for name in ('AutoencoderTask', 'LatentDiffusionTask')] == [2, 2]
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*') if path.is_file()}
    capsys.readouterr()

    assert main(command) == 0
    said = capsys.readouterr().out
    assert said.count('is finished after 2 steps and stays as it is') == said.count('--restart trains it again') == 2
    # Another architecture is not silently the old one
    assert main([*command, '--stage', '1', '--model.depth', '2']) == 2
    assert 'was trained with another depth' in capsys.readouterr().err
    assert written == {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*') if path.is_file()}

    assert main([*command, '--stage', 'AutoencoderTask', '--restart', '--trainer.max_steps', '3']) == 0
    assert [step(tmp_path / name) for name in ('AutoencoderTask', 'LatentDiffusionTask')] == [3, 2]


def test_the_filter_lies_beside_the_generator_and_is_written_again_where_it_is_lost(tmp_path: Path) -> None:
    config = write(
        tmp_path,
        trainer=TRAINER | {'default_root_dir': str(tmp_path), 'max_steps': 2},
        data={'class_path': 'tests.fake.FakeDataModule'},
        stages=[
            {'model': {'class_path': 'AutoencoderTask', 'init_args': AUTOENCODER}},
            {'model': {'class_path': 'LatentDiffusionTask', 'init_args': DENOISER}},
            {'model': 'JudgeTask'},
        ],
    )
    assert main(['fit', '--config', config, '--stage', 'JudgeTask']) == 0
    assert (tmp_path / 'checkpoint' / 'filter').is_dir()
    # A filter without a generator does not pass for one; the generator replaces the folder, and the filter is back
    # without another step
    assert main(['fit', '--config', config]) == 0
    dataset = SpecDMSynthetic(tmp_path / 'checkpoint', 2, steps=1, batch_size=2, device='cpu', keep='aligned')
    assert dataset.verdict(1).candidate < 4
    assert step(tmp_path / 'JudgeTask') == 2
    times = [path.stat().st_mtime_ns for path in tmp_path.rglob('*') if path.is_file()]
    assert main(['fit', '--config', config]) == 0
    assert times == [path.stat().st_mtime_ns for path in tmp_path.rglob('*') if path.is_file()], 'all is finished'


def test_data_that_is_not_there_leaves_no_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write(
        tmp_path,
        trainer=TRAINER | {'default_root_dir': str(tmp_path / 'run'), 'logger': True, 'max_steps': 2},
        data={'class_path': 'OSCDPatchesDataModule', 'init_args': {'root': str(tmp_path / 'nowhere')}},
        model={'class_path': 'AutoencoderTask', 'init_args': AUTOENCODER},
    )
    assert main(['fit', '--config', config]) == 2
    assert 'Dataset not found' in capsys.readouterr().err
    assert not (tmp_path / 'run' / 'lightning_logs').exists()


def test_an_interrupted_run_resumes(
    staged: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def interrupt(self: AutoencoderTask, batch: Any, batch_idx: int) -> None:
        seen.append(self.global_step)
        if len(seen) == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(AutoencoderTask, 'on_train_batch_start', interrupt)
    command = ['fit', '--config', staged, '--stage', '1']
    assert main(command) == 130
    assert capsys.readouterr().err.splitlines()[-1] == 'specdm: interrupted; the same command resumes'
    assert not (tmp_path / 'autoencoder').exists()

    assert main([*command, '--model.depth', '2']) == 2
    assert 'was trained with another depth' in capsys.readouterr().err

    assert main(command) == 0
    assert 'resuming from' in capsys.readouterr().out
    # The batch in which Ctrl-C fell was finished, and none was repeated
    assert seen == [0, 1, 2, 3]
    assert (tmp_path / 'autoencoder').is_dir()


def test_a_restart_that_was_interrupted_is_not_finished(
    staged: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ['fit', '--config', staged, '--stage', '1', '--trainer.max_steps', '3']
    assert main(command) == 0

    def interrupt(self: AutoencoderTask, batch: Any, batch_idx: int) -> None:
        if self.global_step == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(AutoencoderTask, 'on_train_batch_start', interrupt)
        assert main([*command, '--restart']) == 130
    assert step(tmp_path / 'AutoencoderTask') == 1
    assert main(command) == 0
    assert step(tmp_path / 'AutoencoderTask') == 3


def test_torchgeos_task_runs_by_its_short_name(tmp_path: Path) -> None:
    config = write(
        tmp_path,
        trainer=TRAINER | {'default_root_dir': str(tmp_path), 'max_steps': 1},
        data={'class_path': 'tests.fake.FakeDataModule', 'init_args': {'patch_size': 32}},
        model={
            'class_path': 'SemanticSegmentationTask',
            'init_args': {'backbone': 'resnet18', 'in_channels': 3, 'num_classes': 4, 'task': 'multiclass'},
        },
    )
    assert main(['fit', '--config', config]) == 0
    (weights,) = tmp_path.rglob('*.ckpt')
    assert weights.parent.name == 'checkpoints'
    for command in ('validate', 'test'):
        assert main([command, '--config', config, '--ckpt_path', str(weights)]) == 0


@pytest.mark.parametrize('name', sorted({'ChangeDetectionTask', compat.change_task().__name__}))
def test_torchgeos_tasks_are_found_by_their_old_and_new_names(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(['fit', '--model', name, '--data', 'OSCDDataModule', '--print_config'])
    assert not end.value.code
    config = yaml.safe_load(capsys.readouterr().out)
    assert config['model']['class_path'].rpartition('.')[-1] == name
    assert config['data']['class_path'].startswith('torchgeo.')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--data.lenght', '3'], 'lenght'),
        (['--model.depth', 'deep'], 'depth'),
        (['--model', 'NoSuchTask'], 'NoSuchTask'),
        (['--trainer.accelerator', 'cuda'], 'accelerator'),
        (['--stage', 'NoSuchStage'], '1 (AutoencoderTask), 2 (LatentDiffusionTask)'),
        (['--stage', '2'], 'autoencoder'),
        (['--data.patch_size', '18'], '18 px is not divisible'),
        (['--config', 'absent.yaml'], 'absent.yaml'),
        (['--no_such_option', '1'], 'no_such_option'),
        (
            ['--trainer.accelerator', 'gppu'],
            'Lightning refuses a setting of trainer: You selected an invalid accelerator',
        ),
    ],
)
def test_what_a_user_can_mend_is_one_line(
    arguments: list[str], message: str, staged: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if arguments[-1] == 'cuda' and torch.cuda.is_available():
        pytest.skip('CUDA is there')
    assert main(['fit', '--config', staged, *arguments]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith('specdm: error: ')]
    assert message in line
    # Nothing but the configuration that the test wrote, and the lock, which stays where it was held
    assert {path.name for path in tmp_path.iterdir()} <= {'config.yaml', '.specdm.lock'}


def test_a_preset_without_data_names_the_second_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['fit', '--config', str(Path(__file__).parents[1] / 'examples' / 'conf' / 'auto.yaml')]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith('specdm: error: ')]
    assert 'arguments are required: fit.data' in line
    assert 'a second file, --config FILE, which "specdm init DATASET" writes' in line


@pytest.mark.parametrize('trainer', [None, [1], 'cpu'])
def test_a_trainer_without_settings_is_refused(
    trainer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {'class_path': 'tests.fake.FakeDataModule'}
    config = write(tmp_path, trainer=trainer, data=data, model={'class_path': 'AutoencoderTask'})
    assert main(['fit', '--config', config]) == 2
    assert 'trainer' in capsys.readouterr().err


def test_validating_a_generator_needs_a_trained_one(staged: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['validate', '--config', staged, '--stage', '1']) == 2
    assert 'run "specdm fit" first' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['sample', 'checkpoint', '--n', '0', '--out', 'out'], '--n is 0'),
        (['sample', 'no-such-folder', '--n', '1', '--out', 'out'], 'no-such-folder'),
        (['demo', '--dataset', 'oscd'], '--root'),
    ],
)
def test_other_commands_refuse_alike(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith('specdm: error: ')
    assert error.count('\n') == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('arguments', [[], ['no-such-command'], ['sample', 'a', '--n', '1'], ['demo', '--x']])
def test_usage_errors_exit_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2


def test_the_help_names_the_default_that_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(['sample', '--help'])
    text = f'pairs of such classes (default: {GUIDANCE}; {TrainClasses.guidance:g} for train)'
    assert text in ' '.join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    'command', ['sample', 'init', 'evaluate', 'experiment', 'checkpoints', 'card', 'cache', 'cache list', 'demo']
)
def test_each_help_says_what_the_command_does(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Those of ``fit``, ``validate`` and ``test`` are Lightning's, with a paragraph on stages."""
    with pytest.raises(SystemExit):
        main([*command.split(), '--help'])
    usage, said, *_ = capsys.readouterr().out.split('\n\n')
    assert usage.startswith(f'usage: specdm {command}')
    assert said[0].isupper()
    assert ' ' in said


def test_bugs_keep_their_traceback(staged: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(AutoencoderTask, 'configure_model', bug)
    with pytest.raises(ZeroDivisionError):
        main(['fit', '--config', staged, '--stage', '1'])


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    """As ``specdm checkpoints | head``."""
    command = [sys.executable, '-m', 'torchgeo_specdm', 'checkpoints']
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ''
        assert process.wait(timeout=120) == 141
