"""Samplers: a permutation in every epoch, that of the ranks together, taken up where it was left, cheap in blocks."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.loops.progress import _Progress
from torch import Tensor
from torch.utils.data import DistributedSampler

from tests.conftest import tiny_spec
from tests.fake import FakePairs
from torchgeo_specdm.datasets import order as order_module
from torchgeo_specdm.datasets.epochs import EpochSampler, ResumableLoader, place_of
from torchgeo_specdm.datasets.mixed import MixedDataset
from torchgeo_specdm.datasets.order import MixedSampler

SIZE = 8


@pytest.fixture(scope='module')
def mixed() -> MixedDataset:
    spec = tiny_spec('segmentation')
    return MixedDataset(FakePairs(spec, length=40), FakePairs(spec, 'val', length=200), 5)


def synthetic(mixed: MixedDataset, order: Tensor) -> Tensor:
    """Indices of the synthetic samples in the order in which they are read."""
    index = torch.full((len(mixed),), -1)
    index[mixed.is_synthetic] = torch.arange(200)
    return index[order][mixed.is_synthetic[order]]


@pytest.mark.parametrize(('ranks', 'ascending'), [(1, False), (2, True), (7, False)])
def test_ranks_share_a_permutation_that_changes_with_the_epoch(
    ranks: int, ascending: bool, mixed: MixedDataset
) -> None:
    seen = []
    for epoch in range(3):
        samplers = [MixedSampler(mixed, SIZE, ranks, rank, ascending=ascending) for rank in range(ranks)]
        for sampler in samplers:
            sampler.set_epoch(epoch)
        parts = [list(sampler) for sampler in samplers]
        assert {len(part) for part in parts} == {len(samplers[0])} == {-(-240 // ranks)}
        together = [index for step in zip(*parts, strict=True) for index in step]
        assert sorted(together[:240]) == list(range(240))
        assert together[240:] == together[: len(together) - 240]
        assert together == [index for step in zip(*map(list, samplers), strict=True) for index in step]
        seen.append(together)
    assert all(a != b for a, b in itertools.combinations(seen, 2))
    assert list(MixedSampler(mixed, SIZE, seed=1)) != list(MixedSampler(mixed, SIZE))


@pytest.mark.parametrize('workers', [0, 2])
def test_an_epoch_is_taken_up_where_it_was_left(workers: int) -> None:
    """What two ranks have read before and read after an interruption in epoch 3 is the whole epoch, in its order."""
    data = list(range(23))
    for rank in range(2):
        place: list[tuple[int, int]] = []
        sampler = EpochSampler(data, 2, rank, 5, place.pop)
        loader = ResumableLoader(data, 4, sampler=sampler, num_workers=workers, drop_last=True)
        batches = iter(loader)
        sampler.set_epoch(2)
        # Lightning knows better after it has made the iterator
        place.append((3, 4))
        rest = [batch.tolist() for batch in batches]
        whole = [batch.tolist() for batch in loader]
        assert whole[1:] == rest, 'and whoever reads once more reads all of it'
        assert len(whole) == len(loader) == 3
        twin = EpochSampler(data, 2, rank, 5)
        twin.set_epoch(3)
        read = list(itertools.chain.from_iterable(whole))
        assert list(twin)[:12] == read
        twin.set_epoch(2)
        assert list(twin)[:12] != read


def test_the_place_follows_from_the_steps() -> None:
    """Four steps in an epoch of seven batches, two to a step, the last of them with one."""
    loop = SimpleNamespace(epoch_progress=_Progress())
    trainer = SimpleNamespace(accumulate_grad_batches=2, num_training_batches=7, fit_loop=loop)
    found = []
    for step in range(6):
        trainer.global_step = step
        found.append(place_of(trainer, 10))
    assert found == [(0, 0), (0, 20), (0, 40), (0, 60), (1, 0), (1, 20)]
    # The epoch that is read is counted, once
    assert (loop.epoch_progress.current.started, loop.epoch_progress.current.processed) == (1, 0)


def test_more_ranks_than_samples() -> None:
    """Padded as by PyTorch's own sampler."""
    spec = tiny_spec('segmentation')
    few = MixedDataset(FakePairs(spec, length=1), FakePairs(spec, 'val', length=2), 2)
    parts = [list(MixedSampler(few, SIZE, 7, rank)) for rank in range(7)]
    assert [len(part) for part in parts] == [len(list(DistributedSampler(few, 7, rank))) for rank in range(7)]
    assert {index for part in parts for index in part} == {0, 1, 2}


def test_blocks_ascend_in_the_first_epoch_and_are_shuffled_in_windows_later(
    mixed: MixedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_module, 'WINDOW', 3)
    sampler = MixedSampler(mixed, SIZE)
    assert synthetic(mixed, sampler.order()).equal(torch.arange(200))
    sampler.set_epoch(1)
    read = synthetic(mixed, sampler.order())
    windows = [set((part // SIZE).tolist()) for part in read.split(3 * SIZE)]
    assert all(len(blocks) <= 3 for blocks in windows)
    assert sum(len(blocks) for blocks in windows) == 25, 'a block is read in one window'
    assert sorted(read.tolist()) == list(range(200))
    assert not read[: 3 * SIZE].equal(read[: 3 * SIZE].sort().values)
    fresh = MixedSampler(mixed, SIZE, ascending=True)
    fresh.set_epoch(4)
    assert synthetic(mixed, fresh.order()).equal(torch.arange(200))


def test_reals_are_shuffled_over_the_whole_epoch(mixed: MixedDataset) -> None:
    """In the mean over epochs, a real sample stands in the middle: no part of the epoch is without them."""
    sampler = MixedSampler(mixed, SIZE)
    places = []
    for epoch in range(50):
        sampler.set_epoch(epoch)
        place = sampler.order().argsort()
        places.append(place[~mixed.is_synthetic])
    found = torch.stack(places).double()
    # Standard error of a mean of 50 places out of 240: 240 / sqrt(12 * 50) = 9.8
    assert float((found.mean(0) - 119.5).abs().max()) < 4 * 9.8
    quarters = (found // 60).long()
    assert all(40 * 50 * 0.2 < int((quarters == quarter).sum()) < 40 * 50 * 0.3 for quarter in range(4))


def test_the_epoch_reaches_the_dataset(mixed: MixedDataset, tiny_segmentation_checkpoint: Path) -> None:
    from torchgeo_specdm.datasets.synthetic import SpecDMSynthetic

    made = SpecDMSynthetic(tiny_segmentation_checkpoint, 8, fresh=True, steps=1, batch_size=4, device='cpu')
    sampler = MixedSampler(MixedDataset(FakePairs(tiny_spec('segmentation')), made, 1), 4)
    before = made[0]
    sampler.set_epoch(2)
    assert not torch.equal(made[0]['image'], before['image'])
    endless = SpecDMSynthetic(tiny_segmentation_checkpoint, steps=1, batch_size=4, device='cpu')
    assert torch.equal(made[0]['image'], endless[16]['image'])
    corrected = MixedSampler(sampler.mixed, 4, place=lambda: (3, 0))
    corrected.set_epoch(1)
    order = list(corrected)
    assert torch.equal(made[0]['image'], endless[24]['image']), 'the samples are those of the epoch that is read'
    corrected.place = None
    corrected.set_epoch(3)
    assert order == list(corrected)
    MixedSampler(mixed, SIZE).set_epoch(1)  # a dataset that knows of no epoch
