"""MixedDataModule under Lightning's data parallelism: two processes on a CPU share each epoch, and its generation."""

import hashlib
import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.plugins.environments.lightning import find_free_network_port
from lightning.pytorch import Trainer

from tests.fake import FakeDataModule, Level
from tests.streams import SETTINGS, Start, serve
from torchgeo_specdm.datamodules.mixed import MixedDataModule
from torchgeo_specdm.datasets.generation import BlockGenerator
from torchgeo_specdm.datasets.synthetic import SpecDMSynthetic

# Samples of each kind in an epoch, which ends within a block; two steps of each rank read all of them
LENGTH, BATCH, EPOCHS = 10, 5, 3
# Another seed, so that nothing is there when the stream begins
CASES: dict[str, dict[str, Any]] = {
    'plain': {},
    'stream': {'stream': True, 'seed': 1},
    'fresh': {'fresh': True, 'seed': 2},
}


def name(image: torch.Tensor) -> str:
    return hashlib.sha256(image.numpy().tobytes()).hexdigest()


class Noting(MixedDataModule):
    """Notes what this rank reads in each epoch."""

    read: dict[int, list[str]]

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        assert self.trainer is not None
        self.read.setdefault(self.trainer.current_epoch, []).extend(map(name, batch['image']))
        return super().on_before_batch_transfer(batch, dataloader_idx)


class Late(Level):
    """The second rank comes late to each epoch."""

    def on_train_epoch_end(self) -> None:
        time.sleep(0.3 * self.global_rank)


def train(rank: int, checkpoint: Path, folder: Path) -> None:
    """All cases as one of two ranks that somebody else has started."""
    os.environ['LOCAL_RANK'] = str(rank)
    found = {}
    for case, asked in CASES.items():
        real = FakeDataModule(length=LENGTH, batch_size=BATCH, num_workers=1)
        data = Noting(real, checkpoint, 1, steps=1, sample_batch_size=4, device='cpu', **asked)
        data.read = {}
        quiet = dict.fromkeys(('logger', 'enable_checkpointing', 'enable_progress_bar', 'enable_model_summary'), False)
        settings = {'max_epochs': EPOCHS, 'limit_val_batches': 0, 'default_root_dir': folder} | quiet
        trainer = Trainer(accelerator='cpu', devices=2, strategy='ddp', **settings)
        trainer.fit(Late(), data)
        found[case] = {'read': data.read, 'steps': trainer.global_step}
    (folder / f'rank{rank}.json').write_text(json.dumps(found))


def test_two_ranks_share_each_epoch_and_generate_nothing_twice(
    tiny_segmentation_checkpoint: Path, tmp_path: Path, fork: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, make = tmp_path / 'made', BlockGenerator.__call__

    def record(self: BlockGenerator, number: int) -> Any:
        with log.open('a') as file:
            file.write(f'{self.settings.seed} {number}\n')
        return make(self, number)

    def made(asked: dict[str, Any], **settings: Any) -> SpecDMSynthetic:
        return SpecDMSynthetic(tiny_segmentation_checkpoint, seed=asked.get('seed', 0), **SETTINGS | settings)

    monkeypatch.setattr(BlockGenerator, '__call__', record)
    for key, value in {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': find_free_network_port(), 'WORLD_SIZE': 2}.items():
        monkeypatch.setenv(key, str(value))
    for case in ('stream', 'fresh'):
        serve(fork, made(CASES[case], length=LENGTH, fresh=case == 'fresh'), 1)
    ranks = [fork(lambda rank=rank: train(rank, tiny_segmentation_checkpoint, tmp_path)) for rank in (0, 1)]
    for process in ranks:
        process.join(120)
        assert process.exitcode == 0
    generated = Counter(log.read_text().splitlines())
    assert set(generated.values()) == {1}
    assert {f'{seed} {block}' for seed in (0, 1) for block in range(3)} <= set(generated)

    first, second = (json.loads((tmp_path / f'rank{rank}.json').read_text()) for rank in (0, 1))
    real = FakeDataModule(length=LENGTH)
    real.setup('fit')
    reals = [name(sample['image']) for sample in real.train_dataset]
    for case, asked in CASES.items():
        a, b, endless = first[case], second[case], made(asked, cache=None)
        assert a['steps'] == b['steps'] == 2 * EPOCHS
        for epoch in range(EPOCHS):
            start = LENGTH * epoch if case == 'fresh' else 0
            synthetic = [name(endless[start + index]['image']) for index in range(LENGTH)]
            halves = a['read'][str(epoch)], b['read'][str(epoch)]
            assert len(halves[0]) == len(halves[1])
            assert sorted(halves[0] + halves[1]) == sorted(reals + synthetic), (case, epoch)
