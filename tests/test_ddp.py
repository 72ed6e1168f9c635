"""Two processes train as one: Lightning's data parallelism on a CPU."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.fake import FakeDataModule
from tests.test_cli import AUTOENCODER, DENOISER, TRAINER
from torchgeo_specdm.pipeline import SpecDMPipeline
from torchgeo_specdm.tasks import LatentDiffusionTask


class TellingTask(LatentDiffusionTask):
    """Notes what each process draws and reads in each step, and what its weights are at the end."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.drawn: list[float] = []
        self.read: list[float] = []

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        self.drawn.append(float(torch.rand(())))
        self.read += batch['latents'].double().sum((1, 2, 3)).tolist()

    def on_train_end(self) -> None:
        super().on_train_end()
        weights = float(sum(p.double().abs().sum() for p in self.model.parameters()))
        written = (self.root / self.output / 'specdm.json').is_file()
        path = self.root / f'rank{self.global_rank}.yaml'
        path.write_text(
            yaml.safe_dump({'drawn': self.drawn, 'read': self.read, 'weights': weights, 'written': written})
        )


@pytest.mark.slow
def test_two_processes_train_one_generator(tmp_path: Path) -> None:
    config = {
        'trainer': TRAINER | {'default_root_dir': str(tmp_path), 'devices': 2, 'strategy': 'ddp', 'max_steps': 2},
        'data': {'class_path': f'{FakeDataModule.__module__}.FakeDataModule'},
        'stages': [
            {'model': {'class_path': 'AutoencoderTask', 'init_args': AUTOENCODER}},
            {'model': {'class_path': 'tests.test_ddp.TellingTask', 'init_args': DENOISER}},
        ],
    }
    path = tmp_path / 'config.yaml'
    path.write_text(yaml.safe_dump(config))
    root = Path(__file__).parents[1]
    environment = os.environ | {'PYTHONPATH': str(root), 'OMP_NUM_THREADS': '1', 'MASTER_ADDR': '127.0.0.1'}
    command = [sys.executable, '-m', 'torchgeo_specdm', 'fit', '--config', str(path)]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]

    first, second = (yaml.safe_load((tmp_path / f'rank{rank}.yaml').read_text()) for rank in (0, 1))
    assert len({*first['drawn'], *second['drawn']}) == 4
    assert not {*first['read']} & {*second['read']}
    assert len({*first['read'], *second['read']}) == 2 * 2 * FakeDataModule().batch_size
    assert first['weights'] == second['weights']
    assert first['written'] is second['written'] is True
    pipeline = SpecDMPipeline.from_pretrained(tmp_path / 'checkpoint')
    assert pipeline.training['batch_size'] == 2 * FakeDataModule().batch_size
