"""The training loop: its loss, its order, and that an interruption leaves no trace."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.conftest import tiny_spec
from tests.fake import FakePairs
from torchgeo_specdm.comparison import mean_iou, sum_samples
from torchgeo_specdm.downstream.base import DenseModel
from torchgeo_specdm.downstream.scenes import count_scenes
from torchgeo_specdm.errors import DivergedError, SpecDMError
from torchgeo_specdm.experiments import batches, training
from torchgeo_specdm.experiments.training import Budget, dense_loss, train

MEAN, STD = torch.full((3,), 1500.0), torch.full((3,), 500.0)


class Tiny(DenseModel):
    """Two convolutions, with dropout and batch statistics between them."""

    multiple = 1

    def __init__(self) -> None:
        super().__init__(3, 4)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.encoder = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.1))
            self.decoder = nn.Conv2d(16, 4, 1)

    def logits(self, image: Tensor) -> Tensor:
        return self.decoder(self.encoder(image))  # type: ignore[no-any-return]


def fit(budget: Budget, validate: Callable[[Any], float], **options: Any) -> tuple[Tiny, list[tuple[int, float]]]:
    model = Tiny()
    return model, train(model, FakePairs(tiny_spec('segmentation')), budget, MEAN, STD, validate, seed=3, **options)


def test_the_loss_is_cross_entropy_and_dice_of_the_labelled_pixels() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 5, 4, generator=generator)
    mask = torch.randint(2, (2, 5, 4), generator=generator)  # class 2 is absent
    mask[0, 0], mask[1, 1] = 255, -1
    labelled = (mask == 0) | (mask == 1)
    p = logits.softmax(1)
    dice = []
    for label in (0, 1):
        truth = (mask == label)[labelled].float()
        found = p[:, label][labelled]
        dice.append(2 * (found * truth).sum() / (found.sum() + truth.sum()))
    entropy = F.cross_entropy(logits, mask.where(labelled, 255), ignore_index=255)
    torch.testing.assert_close(dense_loss(logits, mask), entropy + 1 - (dice[0] + dice[1]) / 2)


def test_pixels_without_a_label_teach_nothing() -> None:
    logits = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    dense_loss(logits, torch.full((1, 4, 4), 255)).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_the_rate_rises_and_falls() -> None:
    budget = Budget(200, lr=0.5)
    rates = [budget.rate(step) for step in range(200)]
    top = rates.index(max(rates))
    assert 0.49 < max(rates) <= 0.5
    assert top < 11
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] < 1e-3


@pytest.mark.parametrize('steps', [1, 3, 10, 37])
def test_the_last_validation_is_at_the_end(steps: int) -> None:
    validated = Budget(steps, validations=5).validated
    assert validated[-1] == steps
    assert len(validated) == min(steps, 5)


def test_the_weights_are_those_that_validated_best() -> None:
    scores, seen = iter([0.2, math.nan, 0.7, 0.7, 0.1]), []

    def validate(model: Tiny) -> float:
        seen.append(model.decoder.weight.detach().clone())  # type: ignore[union-attr,operator]
        return next(scores)

    model, history = fit(Budget(5, 2, validations=5), validate)
    assert [step for step, _ in history] == [1, 2, 3, 4, 5]
    assert torch.equal(model.decoder.weight, seen[2])  # type: ignore[arg-type]


def test_a_training_without_a_score_is_refused() -> None:
    with pytest.raises(SpecDMError, match='do they hold labels'):
        fit(Budget(2, 2), lambda model: math.nan)


def test_an_interruption_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, '_SAVE_EVERY', 0.0)
    state = tmp_path / 'state'

    def score(model: Tiny) -> float:
        return float(model.decoder.weight.detach().sum())  # type: ignore[union-attr,operator]

    budget = Budget(8, 3, validations=4)
    whole, history = fit(budget, score)
    calls = 0

    def interrupted(model: Tiny) -> float:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return score(model)

    with pytest.raises(KeyboardInterrupt):
        fit(budget, interrupted, state=state)
    assert state.is_file()
    torch.manual_seed(99)  # the state of the process is of no account
    resumed, again = fit(budget, score, state=state)
    assert again == history
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_loss_that_is_no_number_ends_it_and_leaves_the_last_good_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, '_SAVE_EVERY', 0.0)
    steps, sound, state = iter(range(100)), training.dense_loss, tmp_path / 'state'

    def spoilt(logits: Tensor, mask: Tensor) -> Tensor:
        return sound(logits, mask) * (math.nan if next(steps) == 3 else 1)

    with monkeypatch.context() as patch:
        patch.setattr(training, 'dense_loss', spoilt)
        with pytest.raises(DivergedError, match=r'the loss is nan in step 3: .* or lower the learning rate \(--lr\)'):
            fit(Budget(8, 3), lambda model: 1.0, state=state)
    kept = torch.load(state, weights_only=True)
    assert kept['step'] == 3
    assert all(value.isfinite().all() for value in kept['model'].values())
    resumed, _ = fit(Budget(8, 3), lambda model: 1.0, state=state)
    whole, _ = fit(Budget(8, 3), lambda model: 1.0)
    assert all(torch.equal(a, b) for a, b in zip(resumed.parameters(), whole.parameters(), strict=True))


def test_the_state_of_the_process_is_left_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    fit(Budget(2, 2), lambda model: 1.0)
    assert torch.equal(torch.get_rng_state(), before)


def test_it_learns() -> None:
    """Classes of other samples that their brightness tells."""
    held_out = FakePairs(tiny_spec('segmentation'), 'test')

    def score(model: DenseModel) -> float:
        return float(mean_iou(sum_samples(count_scenes(model, (held_out[i] for i in range(8)), MEAN, STD, 4, tile=16))))

    _, history = fit(Budget(80, 8, lr=0.03, validations=4), score)
    assert history[-1][1] > 0.8


def test_pairs_that_are_not_kept_train_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    states = []
    for limit in (2**20, 0):
        monkeypatch.setattr(batches, '_KEPT', limit)
        states.append(fit(Budget(6, 3), lambda model: 1.0)[0].state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
