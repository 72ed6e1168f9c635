"""Scores fall with the size of planted faults, and only what is surely low is flagged."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.conftest import tiny_spec
from torchgeo_specdm.datasets import OSCD
from torchgeo_specdm.evaluation.alignment import (
    BoundaryObserver,
    JudgeObserver,
    class_losses,
    judge_rows,
    measure_alignment,
    sample_scores,
    worst,
)
from torchgeo_specdm.evaluation.faults import Remasked, flip_regions, shift_masks, stack_masks, swap_masks
from torchgeo_specdm.evaluation.measure import Measure, Section
from torchgeo_specdm.evaluation.observation import Sides, observe

TASKS = ('segmentation', 'change')
SHIFTS, SHARES = (0, 1, 2, 4, 8), (0.0, 0.1, 0.25, 0.5)


class Blocks:
    """Blocks of 8 px of random classes; a class raises one band, at the second date where there are two."""

    def __init__(self, task: str, length: int = 24) -> None:
        self.spec, self.length = tiny_spec(task), length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(index)
        classes = self.spec.num_classes
        mask = torch.randint(0, classes, (4, 4), generator=generator).repeat_interleave(8, 0).repeat_interleave(8, 1)
        image = 1500 + 200 * torch.randn(self.spec.num_dates, 3, 32, 32, generator=generator)
        image[-1] += 600 * F.one_hot(mask, 4)[..., 1:].movedim(-1, 0)
        shape = (1, 32, 32) if self.spec.task == 'change' else (32, 32)
        return {'image': image.squeeze(0), 'mask': mask.view(shape)}


class Oracle(nn.Module):
    """The posterior of :class:`Blocks`, pixel by pixel."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def log_probabilities(self, image: Tensor) -> Tensor:
        difference = image[:, -1] - (1500 if image.shape[1] == 1 else image[:, 0])
        expected = 600 * torch.eye(4)[: self.classes, 1:]
        distance = (difference.unsqueeze(1) - expected.view(1, -1, 3, 1, 1)).square().sum(2)
        return (-distance / (2 * 200**2 * image.shape[1])).log_softmax(1)


def measure(real: Any, synthetic: Any) -> Section:
    observers = [
        JudgeObserver(Oracle(real.spec.num_classes)),
        BoundaryObserver.calibrate((real[index] for index in range(len(real))), real.spec),
    ]
    rows = [observe(dataset, range(len(dataset)), observers) for dataset in (real, synthetic)]
    return measure_alignment(Sides(real.spec, {}, *rows, torch.zeros(0)))


def values(section: Section, word: str) -> Measure:
    return next(measure for measure in section.measures if word in measure.name)


@pytest.mark.parametrize('task', TASKS)
@pytest.mark.parametrize('fault', ['shift', 'flip', 'swap'])
def test_every_score_falls_with_the_fault(task: str, fault: str) -> None:
    real = Blocks(task)
    masks, classes = stack_masks(real), real.spec.num_classes
    planted = {
        'shift': [shift_masks(masks, pixels) for pixels in SHIFTS],
        'flip': [flip_regions(masks, share, classes, task == 'change') for share in SHARES],
        'swap': [swap_masks(masks, share) for share in (*SHARES, 1.0)],
    }[fault]
    found = [measure(real, Remasked(real, wrong)) for wrong in planted]
    agreement = [values(section, 'agreement with').value.value for section in found]
    loss = [values(section, 'loss').value.value for section in found]
    assert all(late < early for early, late in pairwise(agreement))
    assert all(late > early for early, late in pairwise(loss))
    shown = [values(section, 'above chance').value.value for section in found]
    assert agreement[0] == shown[0] == 1.0
    # From 4 px on, an edge of these blocks has no contrast left
    shown = shown[:4] if fault == 'shift' else shown
    assert all(late < early for early, late in pairwise(shown))
    assert not found[0].flags
    assert len(found[-1].flags) == 2


@pytest.mark.parametrize('task', TASKS)
def test_shuffled_masks_are_flagged_and_other_real_pairs_are_not(task: str) -> None:
    real = Blocks(task)
    wrong = Remasked(real, swap_masks(stack_masks(real), 1.0))
    section = measure(real, wrong)
    assert section.title == 'Alignment'
    assert len(section.flags) == 2
    others = torch.utils.data.Subset(Blocks(task, 60), range(24, 60))
    section = measure(real, others)
    assert not section.flags
    assert 0.9 < values(section, 'agreement with').value.value < 1.1


def test_rows_are_those_of_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    log_probabilities = torch.randn(2, 3, 4, 4, generator=generator).log_softmax(1)
    mask = torch.randint(0, 3, (2, 4, 4), generator=generator)
    mask[0, 0] = 255
    rows = judge_rows(log_probabilities, mask)
    for n in range(2):
        expected, loss = 0.0, torch.zeros(3)
        hit, predicted, labelled = torch.zeros(3), torch.zeros(3), torch.zeros(3)
        for y in range(4):
            for x in range(4):
                label, said = int(mask[n, y, x]), log_probabilities[n, :, y, x]
                if label == 255:
                    continue
                loss[label] -= said[label]
                expected += float(torch.distributions.Categorical(logits=said).entropy())
                labelled[label] += 1
                predicted[said.argmax()] += 1
                hit[label] += said.argmax() == label
        assert rows['expected'][n] == pytest.approx(expected, rel=1e-5)
        for name, value in {'hit': hit, 'predicted': predicted, 'labelled': labelled, 'loss': loss}.items():
            torch.testing.assert_close(rows[name][n], value.double(), rtol=1e-5, atol=1e-5)
    together = rows['loss'].sum(0) / rows['labelled'].sum(0)
    assert torch.equal(class_losses(rows), together)


def test_the_worst_samples_are_those_with_wrong_masks() -> None:
    real = Blocks('segmentation')
    masks = stack_masks(real)
    wrong = masks.clone()
    wrong[[3, 17]] = masks[[4, 18]]
    wrong[5] = 255
    observer = JudgeObserver(Oracle(4))
    true, rows = (observe(Remasked(real, m), range(24), [observer])['judge'] for m in (masks, wrong))
    scores = sample_scores(rows, true)
    assert sorted(worst(scores, 2)) == [3, 17]
    assert scores[5].isnan()
    assert 5 not in worst(scores, 24)
    assert sample_scores(true, true).mean() == pytest.approx(1.0, abs=0.05)


def test_classes_that_one_side_lacks_are_listed_and_not_averaged() -> None:
    real = Blocks('segmentation')
    masks = stack_masks(real)
    section = measure(real, Remasked(real, masks.where(masks != 3, 255)))
    agreement = values(section, 'mean IoU')
    assert agreement.settings['absent from synthetic'] == ['field']
    assert agreement.settings['classes'] == ['water', 'forest', 'town']
    assert values(section, 'agreement with').value.value > 0.95


def test_masks_without_any_change_are_flagged() -> None:
    real = Blocks('change')
    section = measure(real, Remasked(real, torch.zeros(24, 32, 32, dtype=torch.long)))
    assert len(section.flags) == 2
    assert all('nothing to measure' in flag for flag in section.flags)


def test_a_judge_that_knows_nothing_grades_nothing() -> None:
    class Blind(Oracle):
        def log_probabilities(self, image: Tensor) -> Tensor:
            random = torch.rand(len(image), 2, *image.shape[-2:], generator=torch.Generator().manual_seed(0))
            return (random - torch.tensor([0.0, 0.95]).view(1, 2, 1, 1)).mul(9).log_softmax(1)

    real = Blocks('change')
    observers = [JudgeObserver(Blind(2)), BoundaryObserver(torch.zeros(2, 3).double())]
    rows = observe(real, range(24), observers)
    flags = measure_alignment(Sides(real.spec, {}, rows, rows, torch.zeros(0))).flags
    assert all('says nothing' in flag for flag in flags)
    assert len(flags) == 2


def test_equal_settings_mean_equal_observers() -> None:
    weights = torch.rand(2, 3).double()
    assert BoundaryObserver(weights).settings == BoundaryObserver(weights.clone()).settings
    # The last bits are those of the processor
    assert BoundaryObserver(weights).settings == BoundaryObserver(weights * (1 + 1e-7)).settings
    assert BoundaryObserver(weights).settings != BoundaryObserver(weights + 1).settings
    layers = [nn.Linear(2, 2) for _ in range(2)]
    for layer in layers:
        layer.log_probabilities = lambda image: image  # type: ignore[assignment]
    assert JudgeObserver(layers[0]).settings != JudgeObserver(layers[1]).settings  # type: ignore[arg-type]


def test_edges_of_real_masks_fade_with_a_shift(shared_data: Path) -> None:
    real = OSCD(shared_data / 'oscd', split='val', patch_size=64, val_cities=('pisa',))
    changed = torch.utils.data.Subset(real, [i for i in range(len(real)) if real[i]['mask'].any()])
    observer = BoundaryObserver.calibrate((real[i] for i in range(len(real))), real.spec)
    shares = []
    for pixels in (0, 1, 2, 4):
        wrong = Remasked(changed, shift_masks(stack_masks(changed), pixels))
        rows = observe(wrong, range(len(wrong)), [observer])['boundary']
        shares.append(float(rows['agreeing'].sum() / rows['edges'].sum()))
    assert shares[0] > 0.75
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 0.6
