"""The filter: its thresholds are those of held-out real pairs, and what they reject is what does not fit."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Subset

from tests.conftest import tiny_spec
from tests.fake import FakePairs
from torchgeo_specdm.alignment.calibration import TOLERANCE, pixel_thresholds, smallest_region
from torchgeo_specdm.alignment.filter import PairFilter
from torchgeo_specdm.alignment.judge import Judge
from torchgeo_specdm.checkpoint import folder_hash
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.functional import dihedral

SPEC = dataclasses.replace(tiny_spec('segmentation'), ignore_index=255)
TRAIN, HELD_OUT = FakePairs(SPEC, 'train', 40), FakePairs(SPEC, 'val', 60)


def pairs(dataset: Any, count: int) -> dict[str, torch.Tensor]:
    samples = [dataset[index] for index in range(count)]
    return {key: torch.stack([sample[key] for sample in samples]) for key in ('image', 'mask')}


@pytest.fixture(scope='module')
def judge() -> Judge:
    """Trained on the fakes, in which the brightness of a square says its class."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        judge = Judge.for_spec(SPEC).train()
        judge.set_scaling(torch.full((3,), 1700.0), torch.full((3,), 400.0))
        optimizer = torch.optim.AdamW(judge.parameters(), 3e-3)
        batch = pairs(TRAIN, 40)
        for _ in range(60):
            chosen = torch.randint(40, (8,))
            loss = torch.nn.functional.cross_entropy(judge(batch['image'][chosen]), batch['mask'][chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return judge.eval().requires_grad_(False)


@pytest.fixture(scope='module')
def pair_filter(judge: Judge) -> PairFilter:
    return PairFilter.calibrate(judge, TRAIN, HELD_OUT, SPEC)


def test_thresholds_are_those_of_a_loop(judge: Judge, pair_filter: PairFilter) -> None:
    losses: list[list[float]] = [[] for _ in range(4)]
    for index in range(60):
        sample = HELD_OUT[index]
        loss = judge.pixel_loss(sample['image'][None], sample['mask'][None])[0]
        for k in range(4):
            losses[k] += loss[sample['mask'] == k].tolist()
    for k, values in enumerate(losses):
        assert float(pair_filter.pixel_thresholds[k]) == pytest.approx(TOLERANCE * sum(values) / len(values), rel=1e-3)


def test_five_percent_of_held_out_pairs_are_rejected_and_most_shuffled_ones(pair_filter: PairFilter) -> None:
    real = pairs(HELD_OUT, 60)
    verdicts = pair_filter.judge_pairs(real)
    assert float(verdicts.misaligned.float().mean()) <= 0.05
    fresh = pair_filter.judge_pairs(pairs(FakePairs(SPEC, 'test', 60), 60))
    assert float(fresh.misaligned.float().mean()) < 0.2
    shuffled = pair_filter.judge_pairs(real | {'mask': real['mask'].roll(1, 0)})
    assert float(shuffled.misaligned.float().mean()) > 0.5
    assert shuffled.score.mean() < verdicts.score.mean() - 0.1
    for mask, rejected, score in zip(real['mask'], verdicts.rejected, verdicts.score, strict=True):
        shares = [float(rejected[mask == label].float().mean()) for label in mask.unique()]
        assert float(score) == pytest.approx(1 - sum(shares) / len(shares), abs=1e-6)


def test_copies_of_train_patches_alone_are_refused(pair_filter: PairFilter) -> None:
    train, held_out = pairs(TRAIN, 10), pairs(HELD_OUT, 10)
    noise = 10 * torch.randn(train['image'].shape, generator=torch.Generator().manual_seed(0))
    copies = {key: dihedral(value, 5) for key, value in (train | {'image': train['image'] + noise}).items()}
    verdicts = pair_filter.judge_pairs(copies)
    assert verdicts.copy.all()
    assert not verdicts.accepted.any()
    assert pair_filter.judge_pairs(held_out).copy.sum() <= 1


def test_ignored_pixels_are_neither_rejected_nor_counted(pair_filter: PairFilter) -> None:
    real = pairs(HELD_OUT, 8)
    ignored = torch.zeros_like(real['mask'], dtype=torch.bool)
    ignored[:, :4] = True
    verdicts = pair_filter.judge_pairs(real | {'mask': real['mask'].masked_fill(ignored, 255)})
    assert not verdicts.rejected[ignored].any()
    cut = pair_filter.judge_pairs({'image': real['image'], 'mask': real['mask'].masked_fill(ignored, -7)})
    assert torch.equal(cut.score, verdicts.score)
    nothing = pair_filter.judge_pairs(real | {'mask': torch.full_like(real['mask'], 255)})
    assert (nothing.score == 1).all()


def test_a_class_without_held_out_pixels_is_not_rejected(judge: Judge) -> None:
    chosen = [index for index in range(60) if 3 not in HELD_OUT[index]['mask']]
    thresholds = pixel_thresholds(judge, Subset(HELD_OUT, chosen), 1, SPEC)
    assert thresholds.isinf().tolist() == [False, False, False, True]


class Masks:
    """Samples of given masks."""

    def __init__(self, masks: list[torch.Tensor]) -> None:
        self.masks = masks

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {'image': torch.zeros(3, 16, 16), 'mask': self.masks[index]}


def test_the_smallest_region_follows_the_data() -> None:
    """Of a class, one pixel in 385 may lie in a dot that goes, but not one in nine."""
    plain = torch.zeros(16, 16, dtype=torch.long)
    full = torch.full_like(plain, 2)
    dotted, striped = full.clone(), plain.clone()
    dotted[:, 8:] = 0
    dotted[3, 12] = 2
    striped[0, :8] = 1
    assert smallest_region(Masks([plain, striped]), SPEC) == 8
    assert smallest_region(Masks([plain, striped, dotted, full]), SPEC) == 8
    striped[5, 5] = 1
    assert smallest_region(Masks([plain, striped, dotted, full]), SPEC) == 1
    assert smallest_region(Masks([dotted, full]), SPEC) == 127
    checkered = torch.arange(16)[:, None].add(torch.arange(16)) % 2
    assert smallest_region(Masks([checkered]), SPEC) == 1
    assert smallest_region(Masks([torch.full((16, 16), 255), plain]), SPEC) == 256


def test_small_regions_are_merged_before_the_pair_is_judged(pair_filter: PairFilter) -> None:
    assert pair_filter.smallest_region == 64, 'the squares'
    real = pairs(HELD_OUT, 4)
    dotted = real['mask'].clone()
    dotted[:, 0, 0] = (dotted[:, 0, 0] + 1) % 4
    verdicts, reference = pair_filter.judge_pairs(real | {'mask': dotted}), pair_filter.judge_pairs(real)
    assert torch.equal(verdicts.mask, real['mask'])
    assert verdicts.merged.tolist() == [1] * 4
    assert torch.equal(verdicts.score, reference.score)


def test_files_and_their_hash(pair_filter: PairFilter, tmp_path: Path) -> None:
    pair_filter.save(tmp_path / 'a')
    loaded = PairFilter.from_pretrained(tmp_path / 'a')
    real = pairs(HELD_OUT, 8)
    for name, value in vars(pair_filter.judge_pairs(real)).items():
        assert torch.equal(getattr(loaded.judge_pairs(real), name), value)
    assert loaded.spec == SPEC
    assert PairFilter.read_spec(tmp_path / 'a') == SPEC
    loaded.save(tmp_path / 'b')
    assert folder_hash(tmp_path / 'b') == folder_hash(tmp_path / 'a')
    dataclasses.replace(loaded, sample_threshold=0.5).save(tmp_path / 'b')
    assert folder_hash(tmp_path / 'b') != folder_hash(tmp_path / 'a')
    unknown = dataclasses.replace(pair_filter, pixel_thresholds=torch.tensor([1.0, torch.inf, 0.1, 2.0]), copies=None)
    unknown.save(tmp_path / 'c')
    found = PairFilter.from_pretrained(tmp_path / 'c')
    assert torch.equal(found.pixel_thresholds, unknown.pixel_thresholds)
    assert found.copies is None


@pytest.mark.parametrize(
    ('damage', 'words'),
    [
        ({'pixel_thresholds': [1.0]}, 'different classes'),
        ({'pixel_thresholds': 'x'}, 'is damaged'),
        ({'sample_threshold': None}, 'is damaged'),
        ({'spec': {}}, 'is damaged|malformed'),
        ({'format': 99}, 'filter format 99'),
    ],
)
def test_a_damaged_filter_is_refused(
    pair_filter: PairFilter, damage: dict[str, Any], words: str, tmp_path: Path
) -> None:
    pair_filter.save(tmp_path / 'f')
    path = tmp_path / 'f' / 'filter.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    with pytest.raises(SpecDMError, match=words):
        PairFilter.from_pretrained(tmp_path / 'f')


@pytest.mark.parametrize('name', ['filter.json', 'copies.safetensors', 'judge/config.json'])
def test_a_filter_that_lacks_a_file_is_refused(pair_filter: PairFilter, name: str, tmp_path: Path) -> None:
    pair_filter.save(tmp_path / 'f')
    (tmp_path / 'f' / name).unlink()
    with pytest.raises(SpecDMError, match=Path(name).name):
        PairFilter.from_pretrained(tmp_path / 'f')
    with pytest.raises(SpecDMError, match='specdm fit --config CONFIG --stage JudgeTask'):
        PairFilter.from_pretrained(tmp_path / 'none')


def test_unlabelled_held_out_pairs_calibrate_nothing(judge: Judge) -> None:
    with pytest.raises(SpecDMError, match='no held-out pixel'):
        PairFilter.calibrate(judge, TRAIN, Masks([torch.full((16, 16), 255)]), SPEC)
