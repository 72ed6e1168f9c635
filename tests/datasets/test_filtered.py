"""SpecDMSynthetic with a filter: full blocks, the same whatever is asked for, and every decision on record."""

import dataclasses
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tests.conftest import strict_filter, tiny_pipeline, tiny_spec
from torchgeo_specdm.alignment.copies import TrainingIndex
from torchgeo_specdm.alignment.filter import PairFilter
from torchgeo_specdm.checkpoint import folder_hash
from torchgeo_specdm.datasets import synthetic as synthetic_module
from torchgeo_specdm.datasets.filtered import FilterSummary, fill_block
from torchgeo_specdm.datasets.synthetic import SpecDMSynthetic
from torchgeo_specdm.errors import SpecDMError, SpecMismatchError
from torchgeo_specdm.pipeline import SpecDMPipeline

SETTINGS: dict[str, Any] = {'steps': 2, 'batch_size': 4, 'device': 'cpu'}


def write_filtered(folder: Path, ignore_index: int | None) -> Path:
    """A generator with a filter."""
    spec = dataclasses.replace(tiny_spec('segmentation'), dtype='float32', ignore_index=ignore_index)
    tiny_pipeline(spec).save_pretrained(folder / 'checkpoint')
    strict_filter(spec, folder / 'checkpoint' / 'filter').save(folder / 'checkpoint' / 'filter')
    return folder / 'checkpoint'


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested here is generated, not read; ``test_cache.py`` has the rest."""
    monkeypatch.setattr(synthetic_module, 'default_home', lambda: None)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator with a filter, of a dataset with an ignore index."""
    return write_filtered(tmp_path_factory.mktemp('filtered'), 255)


def same(a: Any, b: Any) -> bool:
    return set(a) == set(b) and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize('ignore', [None, 255])
def test_a_block_holds_its_accepted_candidates_in_order_then_the_best_of_the_rest(
    ignore: int | None, tmp_path: Path
) -> None:
    checkpoint = write_filtered(tmp_path, ignore)
    dataset = SpecDMSynthetic(checkpoint, 12, keep='aligned', **SETTINGS)
    raw = SpecDMSynthetic(checkpoint, 24, **SETTINGS)
    found = list(dataset)
    pair_filter = PairFilter.from_pretrained(checkpoint / 'filter')
    filled = 0
    for block in range(3):
        verdicts = [dataset.verdict(4 * block + row) for row in range(4)]
        # In batches of the same size, which rounding depends on
        halves = [
            pair_filter.judge_pairs(_stacked(raw, range(first, first + 4))) for first in (8 * block, 8 * block + 4)
        ]
        accepted, score, rejected, mask = (
            torch.cat([getattr(half, name) for half in halves]) for name in ('accepted', 'score', 'rejected', 'mask')
        )
        fine = [8 * block + row for row in range(8) if accepted[row]][:4]
        rest = [
            8 * block + row for row in sorted(range(8), key=lambda row: (-float(score[row]), row)) if not accepted[row]
        ]
        assert [verdict.candidate for verdict in verdicts] == (fine + rest)[:4]
        assert [verdict.accepted for verdict in verdicts] == [True] * len(fine) + [False] * (4 - len(fine))
        filled += 4 - len(fine)
        for row, verdict in enumerate(verdicts):
            sample, place = found[4 * block + row], verdict.candidate - 8 * block
            assert torch.equal(sample['image'], raw[verdict.candidate]['image'])
            assert torch.equal(verdict.rejected, rejected[place])
            assert verdict.rejected.any()
            expected = mask[place] if ignore is None else mask[place].masked_fill(rejected[place], ignore)
            assert torch.equal(sample['mask'], expected)
            assert verdict.score == pytest.approx(float(score[place]))
    summary = dataset.filter_summary()
    assert summary.served == 12
    assert summary.filled == filled
    assert summary.candidates - summary.accepted == summary.misaligned
    assert 0 < summary.rejected_share < 1
    pixels = sum(int(dataset.verdict(index).rejected.sum()) for index in range(12))
    assert (summary.pixels_rejected, summary.pixels_ignored) == (pixels, 0 if ignore is None else pixels)
    assert summary.pixels_merged == sum(dataset.verdict(index).merged for index in range(12)) > 0


def test_order_repetition_and_workers_never_change_a_bit(checkpoint: Path) -> None:
    reference = list(SpecDMSynthetic(checkpoint, 10, keep='aligned', **SETTINGS))
    dataset = SpecDMSynthetic(checkpoint, 10, keep='aligned', **SETTINGS)
    for index in (9, 2, 2, 7, -1, 0):
        assert same(dataset[index], reference[index])
    again = pickle.loads(pickle.dumps(dataset))  # noqa: S301
    assert again.filter_summary() == FilterSummary()
    assert same(again[3], reference[3])
    batches = list(DataLoader(SpecDMSynthetic(checkpoint, 10, keep='aligned', **SETTINGS), 5, num_workers=2))
    for key in ('image', 'mask'):
        assert torch.equal(torch.cat([b[key] for b in batches]), torch.stack([s[key] for s in reference]))


def test_nothing_of_the_networks_is_pickled(checkpoint: Path) -> None:
    dataset = SpecDMSynthetic(checkpoint, 4, keep='aligned', **SETTINGS)
    before = len(pickle.dumps(dataset))
    dataset[0]
    assert len(pickle.dumps(dataset)) < before + 2000, 'no more than the settings'


def test_candidates_are_generated_until_a_block_is_full(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    sample = SpecDMPipeline.sample

    def record(self: SpecDMPipeline, indices: Sequence[int], **kwargs: Any) -> dict[str, Tensor]:
        seen.append(tuple(indices))
        return sample(self, indices, **kwargs)

    monkeypatch.setattr(SpecDMPipeline, 'sample', record)
    SpecDMSynthetic(checkpoint, keep='aligned', candidates=3, **SETTINGS)[4]
    assert seen == [(12, 13, 14, 15), (16, 17, 18, 19), (20, 21, 22, 23)][: len(seen)]
    pair_filter = PairFilter.from_pretrained(checkpoint / 'filter')
    lenient = dataclasses.replace(pair_filter, sample_threshold=1.0)
    seen.clear()
    lenient.save(checkpoint.parent / 'lenient')
    dataset = SpecDMSynthetic(checkpoint, keep=checkpoint.parent / 'lenient', **SETTINGS)
    assert [dataset.verdict(index).candidate for index in range(4)] == [0, 1, 2, 3]
    assert seen == [(0, 1, 2, 3)]
    assert dataset.filter_summary().rejected_share == 0


def test_one_other_verdict_shifts_no_other_block(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the judge computes on another device, and a candidate stands at its threshold."""
    reference = SpecDMSynthetic(checkpoint, 12, keep='aligned', **SETTINGS)
    before = list(reference)
    first = next(index for index in range(4, 8) if reference.verdict(index).accepted)
    flipped = before[first]['image']
    judge = PairFilter.judge_pairs

    def other(self: PairFilter, batch: dict[str, Tensor]) -> Any:
        verdicts = judge(self, batch)
        hit = torch.tensor([torch.equal(image, flipped) for image in batch['image']])
        return dataclasses.replace(verdicts, misaligned=verdicts.misaligned | hit)

    monkeypatch.setattr(PairFilter, 'judge_pairs', other)
    found = list(SpecDMSynthetic(checkpoint, 12, keep='aligned', **SETTINGS))
    changed = [not same(a, b) for a, b in zip(before, found, strict=True)]
    assert any(changed[4:8])
    assert not any(changed[:4] + changed[8:])


def test_copies_are_served_last(checkpoint: Path) -> None:
    """With the first two samples among the training patches, others take their place."""
    raw = SpecDMSynthetic(checkpoint, 8, **SETTINGS)
    pair_filter = PairFilter.from_pretrained(checkpoint / 'filter')
    copies = TrainingIndex.build(raw, range(2), raw.spec)
    picky = dataclasses.replace(pair_filter, copies=copies, sample_threshold=1.0)
    batches = [(range(4 * n, 4 * n + 4), _stacked(raw, range(4 * n, 4 * n + 4))) for n in range(2)]
    block, summary = fill_block(iter(batches), picky, 4)
    assert block['candidate'].tolist() == [2, 3, 4, 5]
    assert (summary.candidates, summary.accepted, summary.copies, summary.filled) == (8, 6, 2, 0)
    block, summary = fill_block(iter(batches[:1]), picky, 4)
    assert sorted(block['candidate'].tolist()[2:]) == [0, 1]
    assert (summary.filled, summary.copies) == (2, 2)
    nothing = dataclasses.replace(picky, sample_threshold=-1.0)
    block, summary = fill_block(iter(batches[:1]), nothing, 4)
    assert set(block['candidate'].tolist()[:2]) == {2, 3}, 'misaligned rather than copied'
    assert (summary.accepted, summary.misaligned, summary.copies, summary.filled) == (0, 4, 2, 4)


def _stacked(dataset: Any, indices: Sequence[int]) -> dict[str, Tensor]:
    return {key: torch.stack([dataset[index][key] for index in indices]) for key in ('image', 'mask')}


def test_a_filter_is_no_part_of_the_generator(checkpoint: Path) -> None:
    before = folder_hash(checkpoint), folder_hash(checkpoint / 'filter')
    pair_filter = PairFilter.from_pretrained(checkpoint / 'filter')
    dataclasses.replace(pair_filter, smallest_region=5).save(checkpoint / 'filter')
    assert folder_hash(checkpoint) == before[0]
    assert folder_hash(checkpoint / 'filter') != before[1]
    pair_filter.save(checkpoint / 'filter')
    assert folder_hash(checkpoint / 'filter') == before[1]


def test_change_pairs(tmp_path: Path) -> None:
    spec = tiny_spec('change')
    tiny_pipeline(spec).save_pretrained(tmp_path / 'checkpoint')
    strict_filter(spec, tmp_path / 'checkpoint' / 'filter').save(tmp_path / 'checkpoint' / 'filter')
    dataset = SpecDMSynthetic(tmp_path / 'checkpoint', 4, keep='aligned', **SETTINGS)
    sample = dataset[0]
    assert sample['image'].shape == spec.image_shape
    assert sample['mask'].shape == spec.mask_shape
    assert dataset.verdict(0).rejected.shape == (16, 16)


def test_a_negative_ignore_index_survives(tmp_path: Path) -> None:
    spec = dataclasses.replace(tiny_spec('segmentation'), ignore_index=-1)
    tiny_pipeline(spec).save_pretrained(tmp_path / 'checkpoint')
    strict_filter(spec, tmp_path / 'checkpoint' / 'filter').save(tmp_path / 'checkpoint' / 'filter')
    assert -1 in SpecDMSynthetic(tmp_path / 'checkpoint', 4, keep='aligned', **SETTINGS)[0]['mask']


def test_refusals(
    checkpoint: Path, tiny_segmentation_checkpoint: Path, tiny_change_checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(SpecDMError, match='specdm fit --config CONFIG --stage JudgeTask'):
        SpecDMSynthetic(tiny_segmentation_checkpoint, keep='aligned')
    with pytest.raises(SpecDMError, match='no filter at'):
        SpecDMSynthetic(checkpoint, keep=tmp_path / 'none')
    with pytest.raises(SpecMismatchError, match=r'the generator .* the filter'):
        SpecDMSynthetic(tiny_change_checkpoint, keep=checkpoint / 'filter')
    with pytest.raises(SpecDMError, match='candidates is 0'):
        SpecDMSynthetic(checkpoint, keep='aligned', candidates=0)
    with pytest.raises(SpecDMError, match="keep='aligned'"):
        SpecDMSynthetic(checkpoint).verdict(0)
