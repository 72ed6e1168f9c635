"""Scores agree with torchmetrics and intervals with scipy; trainings on different datasets differ in nothing else."""

import logging
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from scipy import stats
from torchmetrics.classification import MulticlassF1Score, MulticlassJaccardIndex

from tests.conftest import tiny_spec
from tests.fake import FakePairs
from torchgeo_specdm import compat
from torchgeo_specdm.comparison import (
    Counts,
    compare,
    count_pixels,
    f1,
    iou,
    mean_iou,
    normalising_collate,
    sum_groups,
    sum_samples,
    train_and_count,
)

COLLATE = normalising_collate(torch.full((3,), 1500.0), torch.full((3,), 500.0))


def random_counts(runs: int, groups: int, seed: int = 0) -> Counts:
    generator = torch.Generator().manual_seed(seed)
    prediction = torch.randint(3, (runs * groups, 20), generator=generator)
    mask = torch.randint(3, (groups, 20), generator=generator).repeat(runs, 1)
    counts = count_pixels(prediction.unsqueeze(1), mask.unsqueeze(1), 3)
    return Counts(*(values.unflatten(0, (runs, groups)) for values in counts))


@pytest.mark.parametrize('shape', [(4, 8, 8), (4, 1, 8, 8)])
def test_scores_agree_with_torchmetrics(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    prediction = torch.randint(5, (4, 8, 8), generator=generator)
    mask = torch.randint(4, shape, generator=generator)
    mask[torch.rand(shape, generator=generator) < 0.3] = 255
    total = Counts(*(values.sum(0) for values in count_pixels(prediction, mask, 5)))
    kwargs: dict[str, Any] = {'num_classes': 5, 'average': None, 'ignore_index': 255}
    for mine, theirs in ((iou, MulticlassJaccardIndex(**kwargs)), (f1, MulticlassF1Score(**kwargs))):
        torch.testing.assert_close(mine(total).float(), theirs(prediction, mask.view(4, 8, 8)))


def test_groups_are_summed() -> None:
    counts = random_counts(2, 5)
    grouped = sum_groups(counts, torch.tensor([1, 0, 1, 1, 0]))
    torch.testing.assert_close(grouped.hit[:, 0], counts.hit[:, [1, 4]].sum(1))
    torch.testing.assert_close(grouped.labelled[:, 1], counts.labelled[:, [0, 2, 3]].sum(1))


def test_mean_iou_leaves_out_what_is_nowhere_and_weights_are_repetitions() -> None:
    counts = Counts(*(torch.tensor(values, dtype=torch.float64) for values in ([[2, 0, 0], [1, 1, 0]],) * 3))
    assert mean_iou(sum_samples(counts)) == 1
    worse = counts._replace(hit=counts.hit / 2)
    assert float(mean_iou(sum_samples(worse))) == pytest.approx(1 / 3)
    weights = torch.tensor([[1, 1], [0, 2]], dtype=torch.float64)
    found = sum_samples(counts, weights)
    assert torch.equal(found.hit[0], sum_samples(counts).hit)
    assert torch.equal(found.hit[1], 2 * counts.hit[1])
    assert mean_iou(found).shape == (2,)


def test_interval_agrees_with_scipy() -> None:
    counts = random_counts(1, 40)

    def statistic(chosen: Any) -> float:
        return float(mean_iou(Counts(*(values[0, chosen].sum(0) for values in counts))))

    found = compare(counts, counts, mean_iou, resamples=4000).first
    expected = stats.bootstrap(
        (range(40),), statistic, n_resamples=4000, method='percentile', vectorized=False, rng=0
    ).confidence_interval
    assert found.value == pytest.approx(statistic(slice(None)))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.004)


def test_intervals_come_from_groups_and_runs() -> None:
    def width(counts: Counts) -> float:
        first = compare(counts, counts, mean_iou).first
        return first.high - first.low

    assert width(random_counts(1, 1)) == 0
    assert width(random_counts(3, 1)) > 0
    assert width(random_counts(1, 400)) < 0.5 * width(random_counts(1, 25))


def test_difference_is_of_pairs() -> None:
    first, second = random_counts(3, 10), random_counts(3, 10, seed=1)
    same = compare(first, first, mean_iou).difference
    assert same == (0, 0, 0)
    ahead, behind = compare(first, second, mean_iou), compare(second, first, mean_iou)
    assert ahead.difference.value == pytest.approx(ahead.second.value - ahead.first.value)
    assert ahead.difference.low == pytest.approx(-behind.difference.high)


def fcn(task: str) -> LightningModule:
    torch.manual_seed(0)
    if task == 'change':
        return compat.change_task()(model='fcn', in_channels=3, num_filters=4)
    return compat.segmentation_task()(model='fcn', in_channels=3, num_classes=4, num_filters=4)


@pytest.mark.parametrize('task', ['segmentation', 'change'])
def test_trainings_are_equally_long_and_repeatable(task: str) -> None:
    spec = tiny_spec(task)
    test = FakePairs(spec, 'test', 5)
    found = []
    for length in (2, 11, 11):
        steps: list[float] = []
        model = fcn(task)
        model.on_train_batch_end = lambda *_, m=model, s=steps: s.append(m.optimizers().param_groups[0]['lr'])
        train = FakePairs(spec, length=length)
        level = logging.getLogger('lightning.pytorch').level
        counts = train_and_count(
            model, train, test, COLLATE, spec.num_classes, steps=5, batch_size=4, seed=0, text='test'
        )
        assert steps == [1e-3] * 5
        assert logging.getLogger('lightning.pytorch').level == level, 'what Lightning says is the choice of others'
        found.append(counts)
    assert found[0].hit.shape == (5, spec.num_classes)
    assert all(torch.equal(a, b) for a, b in zip(found[1], found[2], strict=True))
    masks = torch.stack([test[i]['mask'].view(16, 16) for i in range(5)])
    assert found[0].labelled.sum(0).tolist() == [int((masks == k).sum()) for k in range(spec.num_classes)]
    assert (found[0].predicted.sum(1) == 16 * 16).all()
