"""Shares of copies with their intervals, in pixels and features, and what is said about them."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conftest import tiny_spec
from tests.fake import FakePairs
from torchgeo_specdm.alignment.copies import TrainingIndex
from torchgeo_specdm.datasets.ground import ground, split_halves
from torchgeo_specdm.evaluation.copying import CopyObserver, OrientedObserver, measure_copying, share
from torchgeo_specdm.evaluation.faults import replayed
from torchgeo_specdm.evaluation.measure import Section
from torchgeo_specdm.evaluation.observation import Observer, Sides, observe

TRAIN = 30


class Corners(Observer):
    """Features that tell orientations apart: means of the quarters of each date."""

    name = 'features/corners'
    settings: dict[str, Any] = {}

    def observe(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        quarters = torch.nn.functional.adaptive_avg_pool2d(image.flatten(0, 1), 4).view(*image.shape[:2], -1)
        return {f'date{date + 1}': quarters[:, date] for date in range(image.shape[1])} | {'mask': mask[:, :1, :1]}


def evaluate(task: str, synthetic: Any, count: int) -> Section:
    spec = tiny_spec(task)
    train, held_out = FakePairs(spec, length=TRAIN), FakePairs(spec, 'val', length=20)
    places = ground(train)
    corners = Corners()
    observers = [CopyObserver(TrainingIndex.build(train, range(TRAIN), spec)), corners]
    sides = Sides(
        spec,
        train=observe(train, range(TRAIN), [OrientedObserver(corners)], batch_size=8),
        held_out=observe(held_out, range(20), observers),
        synthetic=observe(synthetic, range(count), observers),
        halves=split_halves(places, spec.patch_size),
    )
    return measure_copying(sides, places)


@pytest.mark.parametrize('task', ['segmentation', 'change'])
def test_a_generator_that_replays_training_patches_is_flagged_in_every_space(task: str) -> None:
    train = FakePairs(tiny_spec(task), length=TRAIN)
    section = evaluate(task, replayed(train, 40), 40)
    shares = {m.settings['space']: m for m in section.measures if 'below' in m.settings}
    assert set(shares) == {'pixels', 'features/corners'}
    for measure in shares.values():
        assert measure.value.value == 1
        assert measure.reference is not None
        # Squares of few sizes coincide now and then
        assert measure.reference.value <= 0.2
        assert measure.samples == 40
    assert len(section.flags) == 2
    assert '100.0% of the synthetic samples are copies' in section.flags[0]
    closest = section.details['closest']
    assert len(closest) == 10
    assert all(pair['train'] == pair['synthetic'] % TRAIN and pair['orientation'] == 0 for pair in closest)


def test_a_generator_of_new_samples_is_not_flagged() -> None:
    spec = tiny_spec('segmentation')
    section = evaluate('segmentation', FakePairs(spec, 'test', length=40), 40)
    assert not section.flags
    ratios = section.details['ratios']['pixels']
    assert ratios['synthetic'].shape == (40,)
    assert ratios['held_out'].shape == (20,)
    listed = [pair['ratio'] for pair in section.details['closest']]
    assert listed == sorted(listed)
    assert listed[0] == ratios['synthetic'].min()


def rows(ratio: Tensor) -> dict[str, dict[str, Tensor]]:
    zeros = torch.zeros(len(ratio), dtype=torch.long)
    return {'copies': {'ratio': ratio, 'distance': ratio, 'index': zeros, 'orientation': zeros}}


@pytest.mark.parametrize(('low', 'flagged'), [(0.4, [False, True]), (0.85, [False, False]), (0.1, [True, False])])
def test_samples_near_to_training_patches_are_flagged_though_few_are_copies(low: float, flagged: list[bool]) -> None:
    made, held = low + 0.2 * torch.rand(50), 0.9 + 0.1 * torch.rand(50)
    sides = Sides(tiny_spec('segmentation'), {}, rows(held), rows(made), torch.zeros(0))
    section = measure_copying(sides, torch.zeros(0, 3, dtype=torch.long))
    assert [bool(measure.flag) for measure in section.measures] == flagged


def test_rows_of_another_observer_in_eight_orientations() -> None:
    image, mask = torch.randn(3, 1, 2, 8, 8), torch.zeros(3, 8, 8, dtype=torch.long)
    found = OrientedObserver(Corners()).observe(image, mask)
    assert found['date1'].shape == (3, 8, 32)
    turned = Corners().observe(image.rot90(1, (-2, -1)), mask)
    assert torch.equal(found['date1'][:, 1], turned['date1'])
    assert OrientedObserver(Corners()).name == 'features/corners/oriented'


def test_equal_training_patches_equal_settings() -> None:
    spec = tiny_spec('segmentation')
    train = FakePairs(spec, length=6)
    observers = [CopyObserver(TrainingIndex.build(train, range(n), spec)) for n in (6, 6, 5)]
    assert observers[0].settings == observers[1].settings != observers[2].settings


@pytest.mark.parametrize(('flagged', 'count'), [(0, 20), (1, 20), (10, 40), (40, 40)])
def test_the_interval_of_a_share_holds_the_shares_that_the_score_test_accepts(flagged: int, count: int) -> None:
    interval = share(torch.arange(count) < flagged)
    value = flagged / count
    accepted = [
        p for p in (n / 10_000 for n in range(1, 10_000)) if abs(value - p) <= 1.96 * math.sqrt(p * (1 - p) / count)
    ]
    assert interval.value == pytest.approx(value)
    assert interval.low == pytest.approx(min(accepted) if flagged else 0, abs=2e-4)
    assert interval.high == pytest.approx(max(accepted) if flagged < count else 1, abs=2e-4)
