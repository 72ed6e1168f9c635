"""One epoch, however it is read: any start of workers, any number of them, workers that live on."""

import multiprocessing
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, StackDataset

from tests import streams
from tests.conftest import slow_but, tiny_pipeline
from tests.streams import SPEC, Start, joined, same, serve, uncached
from torchgeo_specdm.datasets.synthetic import SpecDMSynthetic

LENGTH = 22
# Two steps, between which the default solver draws noise
SETTINGS: dict[str, Any] = streams.SETTINGS | {'steps': 2}


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('loaders') / 'checkpoint'
    tiny_pipeline(SPEC).save_pretrained(folder)
    return folder


@pytest.fixture(scope='module', autouse=True)
def imported_once() -> None:
    """The server that forks workers imports what they need, so that not each of them takes its seconds."""
    multiprocessing.set_forkserver_preload(['torchgeo_specdm.datasets.synthetic'])


# A spawned worker imports everything anew, which takes seconds: so the datasets stand side by side in one loader
@pytest.mark.parametrize(
    ('workers', 'context'),
    slow_but(
        [(0, None), (2, 'fork'), (4, 'fork'), (2, 'spawn')],
        [(0, None), *((workers, context) for context in ('fork', 'forkserver', 'spawn') for workers in (2, 4))],
    ),
)
def test_workers_never_change_a_bit(
    workers: int, context: str | None, checkpoint: Path, tmp_path: Path, fork: Start
) -> None:
    reference = uncached(checkpoint, range(LENGTH), steps=2)
    copy = Path(shutil.copytree(checkpoint, tmp_path / 'copy'))
    sides = {
        'streamed': SpecDMSynthetic(checkpoint, LENGTH, **SETTINGS),
        'made': SpecDMSynthetic(copy, LENGTH, cache=tmp_path / 'made', **SETTINGS),
        'alone': SpecDMSynthetic(checkpoint, LENGTH, cache=None, **SETTINGS),
    }
    assert sides['made'].materialize()
    # What is made needs no networks
    shutil.rmtree(copy)
    if workers:
        serve(fork, sides['streamed'], workers)
    orders = [range(LENGTH), torch.randperm(LENGTH, generator=torch.Generator().manual_seed(0)).tolist()]
    sampler = list(orders[0])
    loader: Any = DataLoader(
        StackDataset(**sides),
        3,
        sampler=sampler,
        num_workers=workers,
        multiprocessing_context=context,
        persistent_workers=workers > 0,
    )
    for order in orders:
        sampler[:] = order
        expected = {key: value[order] for key, value in reference.items()}
        batches = list(loader)
        for side in sides:
            assert same(joined([batch[side] for batch in batches]), expected), side
