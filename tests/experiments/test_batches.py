"""Batches: the same bits from memory, from workers, and made pair by pair; and what is kept, and how."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.conftest import tiny_spec
from tests.fake import FakePairs
from torchgeo_specdm.draws import mixed_generator
from torchgeo_specdm.experiments import batches as module
from torchgeo_specdm.experiments.batches import KeptPairs, batches, order, turned

CPU = torch.device('cpu')
SIZE, SEED, BATCH = 8, 3, 5
Transform = Callable[[dict[str, Tensor]], dict[str, Tensor]]


class Counted(FakePairs):
    """Counts what is read; with ``halves``, the last values are no integers."""

    def __init__(self, *args: Any, halves: bool = False, **options: Any) -> None:
        super().__init__(*args, **options)
        self.halves = halves
        self.read: list[int] = []

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = super().__getitem__(index)
        return sample | {'image': sample['image'] + 0.5} if self.halves and index > 4 else sample

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        self.read += indices
        return [self[index] for index in indices]


def extremes(sample: dict[str, Tensor]) -> dict[str, Tensor]:
    """All that 16 bits hold, and labels that are no class."""
    image, mask = sample['image'].clone(), sample['mask'].clone()
    image[..., 0, :3] = torch.tensor([0.0, 40_000.0, 65_535.0])
    mask[..., 0, :2] = torch.tensor([-1, 255])
    return {'image': image, 'mask': mask}


def out_of_range(sample: dict[str, Tensor]) -> dict[str, Tensor]:
    return sample | {'image': sample['image'] - 1500}


KINDS: dict[str, Transform | None] = {
    'integers': None,
    'halves': None,
    'extremes': extremes,
    'out of range': out_of_range,
}


def make(task: str, kind: str) -> Counted:
    return Counted(tiny_spec(task), length=SIZE, transforms=KINDS[kind], halves=kind == 'halves')


def made_alone(pairs: FakePairs, step: int, augment: bool) -> tuple[Tensor, Tensor]:
    """One pair after the other, turned by NumPy."""
    state = np.random.SeedSequence((SEED, step)).generate_state(1, np.uint64)
    draw = torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
    turns = torch.randint(8, (BATCH,), generator=draw).tolist() if augment else [0] * BATCH
    images, masks = [], []
    for index, turn in zip(order(SIZE, step, BATCH, SEED), turns, strict=True):
        for key, found in (('image', images), ('mask', masks)):
            values = np.rot90(pairs[index][key].numpy(), turn % 4, (-2, -1))
            found.append(np.flip(values, -1) if turn >= 4 else values)
    mask = torch.from_numpy(np.stack(masks))
    return torch.from_numpy(np.stack(images)), mask.view(BATCH, *mask.shape[-2:])


@pytest.mark.parametrize('augment', [True, False])
@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('task', ['change', 'segmentation'])
@pytest.mark.parametrize('way', ['kept', 'loader'])
def test_a_batch_has_the_same_bits_whatever_it_comes_from(
    way: str, task: str, kind: str, augment: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, '_READ_TOGETHER', 3)
    if way == 'loader':
        monkeypatch.setattr(module, '_KEPT', 0)
    require_same(make(task, kind), augment)


def require_same(pairs: FakePairs, augment: bool) -> None:
    orders = [order(SIZE, step, BATCH, SEED) for step in range(4)]
    found = list(batches(pairs, orders, CPU))
    assert len(found) == 4
    for step, (image, mask) in enumerate(found):
        assert (image.dtype, mask.dtype) == (torch.float32, torch.int64)
        batch = turned(image, mask, mixed_generator(SEED, step)) if augment else (image, mask)
        assert all(torch.equal(one, other) for one, other in zip(batch, made_alone(pairs, step, augment), strict=True))


def test_workers_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, '_KEPT', 0)
    monkeypatch.setattr(module, '_workers', lambda device: 2)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    require_same(make('change', 'halves'), augment=True)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ('kind', 'dtype'), [('integers', torch.int16), ('extremes', torch.int16), ('halves', torch.float32)]
)
def test_kept_pairs_are_read_once_and_take_two_bytes_a_value_if_they_can(
    kind: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, '_READ_TOGETHER', 3)
    pairs = make('change', kind)
    kept = KeptPairs(pairs, CPU)
    assert kept.images.dtype == dtype
    for _ in range(3):
        kept.batch([1, 7, 1])
    assert pairs.read == list(range(SIZE))


def test_the_limit_is_of_integers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two dates of three bands in two bytes, and a mask in four: 16 bytes a pixel."""
    pairs, orders = make('change', 'integers'), [[0]]
    monkeypatch.setattr(module, '_KEPT', SIZE * 16 * 16**2)
    assert module._kept_bytes(pairs) == module._KEPT
    with monkeypatch.context() as patch:
        patch.setattr(module, 'DataLoader', None)
        assert len(list(batches(pairs, orders, CPU))) == 1
    monkeypatch.setattr(module, '_KEPT', module._KEPT - 1)
    monkeypatch.setattr(module, 'KeptPairs', None)
    assert len(list(batches(pairs, orders, CPU))) == 1


def test_every_epoch_sees_each_pair_once() -> None:
    places = [place for step in range(15) for place in order(10, step, 4, seed=1)]
    epochs = [places[start : start + 10] for start in range(0, 60, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1]
