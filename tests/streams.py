"""A dataset whose blocks another process generates: what its tests begin and wait for."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.conftest import tiny_spec
from torchgeo_specdm import producer
from torchgeo_specdm.datasets.cache import BlockCache
from torchgeo_specdm.datasets.synthetic import SpecDMSynthetic
from torchgeo_specdm.datasets.wishes import take_place

SPEC = dataclasses.replace(tiny_spec('segmentation'), dtype='float32')
SETTINGS: dict[str, Any] = {'steps': 1, 'batch_size': 4, 'device': 'cpu'}
Start = Callable[[Callable[[], Any]], Any]


def opened(dataset: SpecDMSynthetic) -> BlockCache:
    """The cache of a dataset, as another dataset of the same settings opens it."""
    other = SpecDMSynthetic(dataset.checkpoint, **SETTINGS | {'seed': dataset.seed})
    other._settings = dataset.settings
    blocks = other._open()
    assert isinstance(blocks, BlockCache)
    return blocks


def serve(start: Start, dataset: SpecDMSynthetic, workers: int = 2) -> Any:
    """A producer of a dataset that is ready at once; so many workers see that there is no place for another."""
    blocks = opened(dataset)
    assert blocks.job is not None
    job = {**blocks.job, 'places': 1}
    process = start(lambda: producer.work(job))
    until(lambda: place_taken(blocks.folder))
    # Nor is there a place for one per worker
    process.others = [take_place(blocks.folder, places) for places in range(2, workers + 1)]
    return process


def place_taken(folder: Path) -> bool:
    place = take_place(folder, 1)
    if place is not None:
        place.release()
    return place is None


def until(true: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, 'it took too long'
        time.sleep(0.01)


def joined(batches: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {key: torch.cat([batch[key] for batch in batches]) for key in batches[0]}


def uncached(checkpoint: Path, indices: Sequence[int], **settings: Any) -> dict[str, Tensor]:
    dataset = SpecDMSynthetic(checkpoint, cache=None, **SETTINGS | settings)
    return joined([{key: value[None] for key, value in dataset[index].items()} for index in indices])


def same(a: Any, b: Any) -> bool:
    return set(a) == set(b) and all(torch.equal(a[key], b[key]) for key in a)
