"""The whole job through the command line on tiny fakes: both stages, sampling, mixing, TorchGeo's own task."""

from pathlib import Path
from typing import Any

import pytest
import rasterio
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import slow_but
from tests.data.oscd.data import write_oscd
from tests.data.segmunich.data import write_segmunich
from torchgeo_specdm.cli import main

pytestmark = pytest.mark.usefixtures('few_steps')
_TRAINER = {
    'max_steps': 2,
    'accelerator': 'cpu',
    'limit_val_batches': 1,
    'limit_test_batches': 2,
    'num_sanity_val_steps': 0,
    'log_every_n_steps': 1,
    'val_check_interval': 1,
}
_CASES: dict[str, dict[str, Any]] = {
    'change': {
        'write': write_oscd,
        'data': 'torchgeo_specdm.datamodules.OSCDPatchesDataModule',
        'init_args': {'patch_size': 32, 'overlap': 0, 'batch_size': 4},
        'task': 'ChangeDetectionTask',
        'task_args': {'model': 'fcsiamdiff', 'in_channels': 10, 'task': 'binary'},
    },
    'segmentation': {
        'write': write_segmunich,
        'data': 'torchgeo_specdm.datamodules.SegMunichDataModule',
        'init_args': {'drop_blank': 0.9, 'group_split': False, 'batch_size': 4},
        'task': 'SemanticSegmentationTask',
        'task_args': {'model': 'unet', 'in_channels': 10, 'task': 'multiclass', 'num_classes': 13},
    },
}


def save(path: Path, config: dict[str, Any]) -> str:
    path.write_text(yaml.safe_dump(config))
    return str(path)


@pytest.mark.usefixtures('no_network')
@pytest.mark.parametrize('name', slow_but(['change'], _CASES))
def test_from_raw_data_to_torchgeos_task(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = _CASES[name]
    case['write'](tmp_path / 'data')
    data = {'class_path': case['data'], 'init_args': {'root': str(tmp_path / 'data'), **case['init_args']}}
    generator = {
        'trainer': {'default_root_dir': str(tmp_path / 'generator'), **_TRAINER, 'logger': False},
        'data': data,
        'stages': [
            {
                'model': {
                    'class_path': 'AutoencoderTask',
                    'init_args': {'width': [16, 16], 'latent_channels': [2, 1], 'depth': 1},
                }
            },
            {'model': {'class_path': 'LatentDiffusionTask', 'init_args': {'widths': [32, 32], 'depth': 1}}},
        ],
    }
    assert main(['fit', '--config', save(tmp_path / 'generator.yaml', generator)]) == 0
    assert main(['validate', '--config', str(tmp_path / 'generator.yaml')]) == 0
    checkpoint = tmp_path / 'generator' / 'checkpoint'
    assert (checkpoint / 'specdm.json').is_file()

    sample = ['sample', str(checkpoint), '--n', '3', '--out', str(tmp_path / 'out'), '--steps', '2', '--device', 'cpu']
    assert main(sample) == 0
    images = sorted((tmp_path / 'out' / 'image').iterdir())
    assert len(images) == (6 if name == 'change' else 3)
    with rasterio.open(images[0]) as raster:
        assert raster.descriptions[0] == 'B02'
        assert raster.tags()['SYNTHETIC'] == 'torchgeo_specdm'

    mixed = {
        'trainer': {'default_root_dir': str(tmp_path / 'task'), **_TRAINER},
        'model': {
            'class_path': case['task'],
            'init_args': {'backbone': 'resnet18', 'weights': None, **case['task_args']},
        },
        'data': {
            'class_path': 'torchgeo_specdm.datamodules.MixedDataModule',
            'init_args': {'real': data, 'checkpoint': str(checkpoint), 'ratio': 1.5, 'steps': 2, 'device': 'cpu'},
        },
    }
    config = save(tmp_path / 'mixed.yaml', mixed)
    assert main(['fit', '--config', config]) == 0
    # The task's validation plot, which only a logger with add_figure asks for, was drawn
    events = EventAccumulator(str(next((tmp_path / 'task').rglob('events.out*')).parent))
    events.Reload()
    assert events.Tags()['images']
    assert main(['test', '--config', config]) == 0
    assert 'test_loss' in capsys.readouterr().out

    wrong = config.replace('mixed', 'wrong')
    mixed['data']['init_args']['ratio'] = -1
    save(Path(wrong), mixed)
    assert main(['fit', '--config', wrong]) == 2
    assert 'must not be negative' in capsys.readouterr().err
