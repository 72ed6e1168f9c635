"""Good synthetic samples teach the task, samples with wrong masks harm it, and nothing else makes a difference."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tests.conftest import tiny_spec
from tests.fake import FakeDataModule, FakePairs
from torchgeo_specdm.comparison import Counts, iou
from torchgeo_specdm.evaluation.real_data import RealData, open_real
from torchgeo_specdm.evaluation.usefulness import (
    Budget,
    RandomCrops,
    Source,
    make_task,
    measure_usefulness,
    train_counts,
)
from torchgeo_specdm.spec import DatasetSpec

BUDGET = Budget(steps=30, batch_size=8, crop=16, runs=1, real=16, test=12)


def real_data(task: str, length: int = 16) -> RealData:
    return open_real(FakeDataModule(task, length), tiny_spec(task))


class Shuffled(Dataset[dict[str, Any]]):
    """Images with the masks of other samples."""

    def __init__(self, pairs: FakePairs) -> None:
        self.pairs, self.spec = pairs, pairs.spec

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.pairs[index] | {'mask': self.pairs[(index + 1) % len(self)]['mask']}


def score(counts: Counts) -> float:
    return float(iou(Counts(*(values.sum((0, 1)) for values in counts))).nanmean())


@pytest.mark.parametrize('task', ['segmentation', 'change'])
def test_learnable_samples_teach(task: str) -> None:
    real, synthetic = real_data(task), FakePairs(tiny_spec(task), 'val', 16)
    alone = train_counts(real, Source.SYNTHETIC, synthetic, dataclasses.replace(BUDGET, steps=50))
    untrained = train_counts(real, Source.SYNTHETIC, synthetic, dataclasses.replace(BUDGET, steps=1))
    assert alone.hit.shape == (1, 12, tiny_spec(task).num_classes)
    assert score(alone) > score(untrained) + 0.1


def test_good_samples_are_not_flagged_and_wrong_masks_are() -> None:
    real, good = real_data('segmentation'), FakePairs(tiny_spec('segmentation'), 'val', 64)
    budget = dataclasses.replace(BUDGET, ratio=4)
    counts = train_counts(real, Source.REAL, None, budget)
    section = measure_usefulness(real, good, counts, budget)
    gain, mix, alone = section.measures
    assert section.title == 'Usefulness'
    assert not section.flags
    assert (gain.samples, gain.settings['synthetic']) == (64, 64)
    assert (mix.name, alone.name) == (
        'mIoU, trained on real and synthetic samples',
        'mIoU, trained on synthetic samples alone',
    )
    assert mix.reference is not None
    assert mix.reference.value == pytest.approx(score(counts), abs=0.05)
    assert gain.value.value == pytest.approx(mix.value.value - mix.reference.value)
    assert mix.settings['difference'] == gain.value._asdict()
    assert mix.reference == alone.reference

    bad = measure_usefulness(real, Shuffled(good), counts, budget)
    assert bad.measures[0].value.high < 0
    assert bad.measures[1].value.value < mix.value.value
    assert bad.measures[2].value.value < alone.value.value
    (flag,) = bad.flags
    assert 'worse on real ones' in flag


def test_change_has_scores_of_change() -> None:
    real, budget = real_data('change'), dataclasses.replace(BUDGET, steps=5)
    section = measure_usefulness(
        real, FakePairs(tiny_spec('change'), 'val', 16), train_counts(real, Source.REAL, None, budget), budget
    )
    names = {measure.name.split(',')[0] for measure in section.measures}
    assert names == {'Gain in IoU of change from adding synthetic samples', 'IoU of change', 'F1 of change', 'mIoU'}
    assert section.details['iou'].keys() == {source.value for source in Source}


def test_the_same_samples_have_no_effect_that_is_shown() -> None:
    real, budget = real_data('segmentation'), dataclasses.replace(BUDGET, steps=10, runs=2)
    section = measure_usefulness(real, real.train, train_counts(real, Source.REAL, None, budget), budget)
    assert not section.flags
    assert any('holds 0' in note for note in section.notes)


def test_trainings_are_repeatable_and_leave_the_random_state_alone() -> None:
    real, budget = real_data('segmentation'), dataclasses.replace(BUDGET, steps=3, crop=8, runs=2)
    state = torch.get_rng_state()
    first, second = (train_counts(real, Source.REAL, synthetic, budget) for synthetic in (None, real.train))
    assert torch.equal(first.hit, second.hit)
    assert torch.equal(first.predicted, second.predicted)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(first.predicted[0], first.predicted[1])


def test_tests_are_on_whole_samples() -> None:
    real, budget = real_data('segmentation'), dataclasses.replace(BUDGET, steps=1, crop=8, runs=2, test=99)
    counts = train_counts(real, Source.REAL, None, budget)
    assert (counts.labelled.sum(-1) == 16 * 16).all()
    assert counts.labelled.shape[1] == len(real.test)


def test_fewer_synthetic_samples_than_asked_for_are_all_used() -> None:
    real, budget = real_data('segmentation'), dataclasses.replace(BUDGET, steps=1, ratio=3)
    section = measure_usefulness(
        real, FakePairs(tiny_spec('segmentation'), 'val', 7), train_counts(real, Source.REAL, None, budget), budget
    )
    assert section.measures[0].samples == 7
    assert '16 real and 7 synthetic samples' in section.notes[0]


def test_classes_without_a_test_label_are_listed_and_left_out() -> None:
    spec = tiny_spec('segmentation')
    real = dataclasses.replace(
        real_data('segmentation'), test=[s for s in FakePairs(spec, 'test', 16) if not (s['mask'] == 2).any()]
    )
    budget = dataclasses.replace(BUDGET, steps=1)
    counts = train_counts(real, Source.REAL, None, budget)
    section = measure_usefulness(real, real.train, counts, budget)
    assert 'Without a label in the test samples, and left out: town.' in section.notes
    expected = iou(Counts(*(values.sum((0, 1)) for values in counts)))[[0, 1, 3]].mean()
    reference = section.measures[1].reference
    assert reference is not None
    assert reference.value == pytest.approx(float(expected))


class Scenes(list[dict[str, Tensor]]):
    """Samples that know where they lie."""

    windows: list[tuple[int, int, int]]


@pytest.mark.parametrize(('scenes', 'unit'), [(6, 'test scenes'), (2, 'test samples')])
def test_samples_of_a_scene_are_resampled_together(scenes: int, unit: str) -> None:
    test = Scenes(FakePairs(tiny_spec('segmentation'), 'test', 12))
    test.windows = [(index % scenes, 0, 16 * index) for index in range(12)]
    real = dataclasses.replace(real_data('segmentation'), test=test)
    budget = dataclasses.replace(BUDGET, steps=1)
    section = measure_usefulness(real, real.train, train_counts(real, Source.REAL, None, budget), budget)
    assert section.measures[0].settings['resampled'] == unit


@pytest.mark.parametrize('task', ['segmentation', 'change'])
def test_crops_keep_image_and_mask_together(task: str) -> None:
    spec = dataclasses.replace(tiny_spec(task), patch_size=24)
    pairs = FakePairs(spec, length=4)

    def crops(seed: int) -> list[dict[str, Tensor]]:
        cropped = RandomCrops(pairs, spec, 8, seed)
        assert len(cropped) == 4
        return [cropped[index] for index in (0, 1, 2, 3, 0)]

    first, again, other = crops(0), crops(0), crops(1)
    assert first[0]['image'].shape == (*spec.image_shape[:-2], 8, 8)
    assert first[0]['mask'].shape == (*spec.mask_shape[:-2], 8, 8)
    assert all(torch.equal(a['image'], b['image']) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a['image'], b['image']) for a, b in zip(first, other, strict=True))
    assert not torch.equal(first[0]['image'], first[4]['image'])
    for index, crop in zip((0, 1, 2, 3, 0), first, strict=True):
        image, mask = pairs[index]['image'], pairs[index]['mask']
        places = [
            (top, left)
            for top in range(17)
            for left in range(17)
            if torch.equal(image[..., top : top + 8, left : left + 8], crop['image'])
        ]
        ((top, left),) = places
        assert torch.equal(mask[..., top : top + 8, left : left + 8], crop['mask'])


def test_crops_of_small_samples_are_whole_and_change_ignores_nothing() -> None:
    spec = tiny_spec('change')
    sample = FakePairs(spec)[0]
    sample['mask'][..., :3, :] = 255
    crop = RandomCrops([sample], spec, 64, 0)[0]
    assert torch.equal(crop['image'], sample['image'])
    assert torch.equal(crop['mask'], sample['mask'].where(sample['mask'] == 1, 0))


def test_tasks_have_the_shape_of_the_data() -> None:
    spec: DatasetSpec = dataclasses.replace(tiny_spec('segmentation'), ignore_index=255)
    assert make_task(spec).hparams['ignore_index'] == 255
    assert float(make_task(tiny_spec('change')).hparams['pos_weight']) == 10
