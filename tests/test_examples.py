"""Every file in examples/ runs on tiny fakes, from a folder laid out as the files expect it."""

import json
import os
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torchgeo.main
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import slow_but
from tests.data.oscd.data import write_oscd
from tests.data.segmunich.data import write_segmunich
from tests.rasters import write_folder
from torchgeo_specdm.cli import main
from torchgeo_specdm.pipeline import SpecDMPipeline
from torchgeo_specdm.sizes import choose_sizes

pytestmark = pytest.mark.usefixtures('few_steps')
EXAMPLES = Path(__file__).parents[1] / 'examples'
# Its data comes from a second file
AUTO = 'auto'
GENERATORS = sorted(
    path.stem
    for path in (EXAMPLES / 'conf').glob('*.yaml')
    if path.stem != AUTO and not path.stem.startswith(('mixed-', 'experiment-'))
)
MIXED = sorted(path.stem for path in (EXAMPLES / 'conf').glob('mixed-*.yaml'))
EXPERIMENT_FILES = sorted((EXAMPLES / 'conf').glob('experiment-*.yaml'))

TRAINER = {
    'accelerator': 'cpu',
    # Not 1: jsonargparse reads it as 1.0, which Lightning takes for all
    'limit_train_batches': 2,
    'limit_val_batches': 2,
    'num_sanity_val_steps': 0,
    'enable_progress_bar': False,
    'enable_model_summary': False,
    'log_every_n_steps': 1,
}
# What makes a run long; every other value, the number of levels and the patch size among them, is the file's own
SMALL = {
    'max_steps': 2,
    'check_val_every_n_epoch': 1,
    'batch_size': 2,
    'num_workers': 0,
    'width': [8, 8],
    'depth': 1,
    'ratio': 0.5,
}


def shrunk(config: Any) -> Any:
    """The same settings, small. No setting is added or left out, so that a misspelt one is refused all the same."""
    if isinstance(config, list):
        return [shrunk(value) for value in config]
    if not isinstance(config, dict):
        return config
    small = {key: SMALL[key] if key in SMALL and value != AUTO else shrunk(value) for key, value in config.items()}
    return small | {'widths': [32] * len(small['widths'])} if small.get('widths', AUTO) != AUTO else small


@pytest.fixture(scope='module')
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The current folder, with the data where the files look for it."""
    folder = tmp_path_factory.mktemp('workspace')
    write_oscd(folder / 'data' / 'oscd', test_cities=('dubai',), height=128, width=144)
    write_segmunich(folder / 'data' / 'segmunich', places=3)
    before = Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


def small_copy(workspace: Path, name: str) -> str:
    config = shrunk(yaml.safe_load((EXAMPLES / 'conf' / f'{name}.yaml').read_text()))
    config['trainer'] |= TRAINER
    copy = workspace / f'{name}.yaml'
    copy.write_text(yaml.safe_dump(config))
    return str(copy)


def pictures(folder: Path) -> set[str]:
    """Names of the pictures that validation logged anywhere below ``folder``."""
    logs = {path.parent for path in folder.rglob('events.out.tfevents.*')}
    return {name for log in logs for name in EventAccumulator(str(log)).Reload().Tags()['images']}


@pytest.fixture(params=MIXED)
def mixed(request: pytest.FixtureRequest, workspace: Path) -> str:
    """The name of a mixed configuration whose generator is trained."""
    config = yaml.safe_load((EXAMPLES / 'conf' / f'{request.param}.yaml').read_text())
    generator = Path(config['data']['init_args']['checkpoint']).parent.name
    assert generator in GENERATORS
    if not Path('runs', generator, 'checkpoint').is_dir():
        assert main(['fit', '--config', small_copy(workspace, generator)]) == 0
    return str(request.param)


@pytest.mark.parametrize('name', slow_but(['indian-pines', 'oscd', 'oscd-landcover-cpu', 'segmunich'], GENERATORS))
def test_a_generator_is_trained(name: str, workspace: Path) -> None:
    """All stages run, and write to the folder that is called like the file."""
    assert main(['fit', '--config', small_copy(workspace, name)]) == 0
    written = workspace / 'runs' / name
    assert {'autoencoder', 'checkpoint'} <= {path.name for path in written.iterdir()}
    assert (written / 'checkpoint' / 'filter' / 'filter.json').is_file()
    assert SpecDMPipeline.read_spec(written / 'checkpoint').name.replace(' ', '-').lower() in name
    # Pixels are not reconstructed
    reconstructed = set() if 'pixels' in name else {'val/reconstructed'}
    assert pictures(written) == reconstructed | {'val/sampled', 'val/judged'}


@pytest.mark.slow
@pytest.mark.parametrize('path', EXPERIMENT_FILES, ids=lambda path: path.stem)
def test_an_experiment_is_rehearsed(path: Path, tmp_path: Path) -> None:
    """With the models of the file, in few steps on random scenes."""
    given = yaml.safe_load(path.read_text())
    command = ['experiment', 'augmentation', '--config', str(path), '--fast', '--seeds', '0', '--out', str(tmp_path)]
    assert main(command) == 0
    found = json.loads((tmp_path / 'augmentation.json').read_text())
    assert found['settings']['models'] == given['model']
    assert found['spec']['name'] == f'toy {given["task"]}'
    assert {row['steps'] for row in found['cells']} == {4}


@pytest.mark.slow
def test_sizes_follow_from_the_data(workspace: Path) -> None:
    write_folder(workspace / 'data' / 'fields', [(40, 40)] * 10)
    declared = {'classes': ['soil', 'crop', 'water'], 'value_range': [0, 5000], 'name': 'fields'}
    given = {'root': 'data/fields', 'image': 'image/*.tif', 'mask': 'mask/*.tif', 'patch_size': 'auto'}
    given |= {'declared': declared, 'batch_size': 2}
    mine = workspace / 'mine.yaml'
    mine.write_text(yaml.safe_dump({'data': {'class_path': 'FolderDataModule', 'init_args': given}}))
    assert main(['fit', '--config', small_copy(workspace, AUTO), '--config', str(mine)]) == 0
    pipeline = SpecDMPipeline.from_pretrained(workspace / 'runs' / AUTO / 'checkpoint')
    sizes = choose_sizes(pipeline.spec, 32)
    assert pipeline.spec.patch_size == 32
    assert tuple(pipeline.denoiser.config['widths']) == sizes.widths
    assert tuple(pipeline.autoencoder.config['latent_channels']) == sizes.latent_channels
    assert tuple(pipeline.autoencoder.config['width']) == sizes.width


@pytest.mark.parametrize('command', [main, torchgeo.main.main], ids=['specdm', 'torchgeo'])
def test_torchgeos_task_is_trained_on_the_mix(
    command: Any, mixed: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same file serves both commands, on every version of TorchGeo."""
    monkeypatch.setattr('sys.argv', ['torchgeo'])
    before = set(workspace.rglob('*.ckpt'))
    assert not command(['fit', '--config', small_copy(workspace, mixed)])
    (weights,) = set(workspace.rglob('*.ckpt')) - before
    assert workspace / 'runs' / mixed in weights.parents
    assert 'image/0' in pictures(weights.parents[1])


def test_a_generator_and_its_patches_are_replaced_from_the_command_line(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the comment in mixed-oscd.yaml says."""
    options = ['--data.checkpoint', 'runs/oscd-cpu/checkpoint', '--data.real.patch_size', '64', '--data.ratio', '0']
    with pytest.raises(SystemExit) as end:
        main(['fit', '--config', str(EXAMPLES / 'conf' / 'mixed-oscd.yaml'), *options, '--print_config'])
    assert not end.value.code
    given = yaml.safe_load(capsys.readouterr().out)['data']['init_args']
    assert (given['checkpoint'], given['ratio']) == ('runs/oscd-cpu/checkpoint', 0)
    assert given['real']['init_args']['patch_size'] == 64
    assert given['real']['init_args']['root'] == 'data/oscd'


def test_the_script_trains(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path('runs/indian-pines/checkpoint').is_dir():
        assert main(['fit', '--config', small_copy(workspace, 'indian-pines')]) == 0
    arguments = ['runs/indian-pines/checkpoint', '--ratio', '0.05', '--max-steps', '2', '--out', str(tmp_path)]
    monkeypatch.setattr('sys.argv', ['train_with_mixed.py', *arguments])
    runpy.run_path(str(EXAMPLES / 'train_with_mixed.py'), run_name='__main__')
    assert list(tmp_path.rglob('*.ckpt'))
