"""Rows say what was measured and against which bar; figures are those of the package, at equal sizes."""

import json
import math
from pathlib import Path

import pytest
import torch
from quality_table.autoencoders import sad_rows
from quality_table.figures import distances, over_seeds, ratio
from quality_table.labelling import score_rows, vote
from quality_table.rows import Report, Row, degenerate_table
from quality_table.seeds import seed_rows
from quality_table.table import RealSides, Side

from tests.conftest import tiny_spec
from torchgeo_specdm.comparison import Counts
from torchgeo_specdm.evaluation.measure import Interval
from torchgeo_specdm.evaluation.observation import Rows
from torchgeo_specdm.functional.distances import frechet_distance, kernel_distance


def test_a_bar_says_what_was_measured() -> None:
    row = Row('figure', Interval(0.5, 0.4, 0.6))
    assert row.at_most(0.5).met is True
    assert row.at_most(0.4).met is False
    assert row.at_least(0.5).met is True
    assert row.at_least(0.6).met is False
    assert row.near_real(0.2).met is False
    assert row.near_real(0.5).met is True
    assert Row('figure').at_most(1).met is None
    assert str(row.at_most(0.4)).endswith('| ≤ 0.4 | not met |')
    assert str(Row('figure', bar='≤ 1', note='why')).endswith('| ≤ 1 | not measured: why |')
    assert str(row.beats(Interval(0.4, 0.3, 0.5), 'U-Net')).endswith('| > 0.4 [0.3, 0.5] of U-Net | won |')
    assert str(row.beats(Interval(0.7, 0.3, 0.9), 'U-Net')).endswith('| lost |')


def test_a_report_is_json_without_what_json_does_not_know(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(tmp_path / 'q.json', {'checkpoint': 'hash'})
    report.add([Row('none'), Row('no end', Interval(math.inf, 2.0, math.inf), bar='lower', met=True)])
    report.add_degenerate({'good': [Row('figure', met=True)], 'bad': [Row('figure', met=False)]})
    found = json.loads((tmp_path / 'q.json').read_text(), parse_constant=pytest.fail)
    assert [row['value'] for row in found['rows']] == [[None] * 3, [None, 2.0, None]]
    assert list(found['degenerate']) == ['good', 'bad']
    assert '| no end | inf [2, inf] |' in capsys.readouterr().out
    assert degenerate_table({'good': [Row('figure', met=True)]}).endswith('| good | NONE: the bars are wrong |')


def test_distances_are_those_of_the_package_at_equal_sizes() -> None:
    generator = torch.Generator().manual_seed(0)
    base, near, far = (torch.randn(60, 4, generator=generator) + shift for shift in (0, 0, 1))
    count, found = distances(base, near, far)
    assert count == 60
    assert found['FD'][0].tolist() == pytest.approx([frechet_distance(base, x) for x in (near, far)], rel=1e-4)
    assert found['KID'][0].tolist() == pytest.approx([kernel_distance(base, x) for x in (near, far)], rel=1e-4)
    assert distances(base, near[:40], far)[0] == 40


def test_a_ratio_over_nothing_has_no_end() -> None:
    ones = torch.ones(101)
    assert ratio(3 * ones, ones) == (3, 3, 3)
    assert ratio(ones, -ones) == (math.inf, math.inf, math.inf)
    assert ratio(-ones, -ones) == (1, 1, 1)
    assert math.isnan(ratio(ones, math.nan * ones).value)
    # In one draw out of ten, the second is not larger than 0
    some = torch.where(torch.arange(101) % 10 == 5, -1.0, 0.5)
    assert ratio(ones, some) == (2, 2, math.inf)
    assert ratio(ones, torch.where(torch.arange(101) == 5, -1.0, 0.5)) == (2, 2, 2)


def test_seeds_widen_an_interval() -> None:
    same, apart = torch.ones(3, 101), torch.tensor([0.5, 1.0, 1.5]).view(-1, 1).expand(-1, 101)
    assert torch.equal(over_seeds(same), torch.ones(101).double())
    assert over_seeds(apart)[0] == 1
    assert over_seeds(apart)[1:].std() == pytest.approx(math.sqrt(1 / 6 / 3), rel=0.3)


def features(seed: int, shift: float) -> Side:
    drawn = torch.randn(60, 4, generator=torch.Generator().manual_seed(seed))
    return {'features/spectral': {'date1': drawn + shift}}


def test_a_generator_must_be_better_in_every_seed() -> None:
    real = RealSides(tiny_spec('segmentation'), features(0, 0), features(1, 0.1), {})
    better = [(features(10 + seed, 0.3), features(20 + seed, 2)) for seed in range(3)]
    mixed = [*better[:2], better[2][::-1]]
    for pairs, verdict in ((better, True), (mixed, False)):
        rows = {row.figure: row for row in seed_rows(pairs, real)}
        for figure in ('FD minus floor', 'KID'):
            assert rows[f'images, date1: {figure} in 3 training seeds, baseline over this'].met is verdict
            assert rows[f'images, date1: {figure} in seed 1, baseline over this'].met is True
    assert all(row.met is None and row.bar for row in seed_rows([], real))


def angles(mean: float) -> Rows:
    spectra = torch.full((20,), 100)
    return {'angle': spectra * (mean + 0.01 * torch.arange(20)).double(), 'spectra': spectra}


def test_the_loss_of_angles_must_help_in_every_seed() -> None:
    helps, hurts = (angles(0.1), angles(0.2)), (angles(0.2), angles(0.1))
    *each, last = sad_rows([helps, helps])
    assert len(each) == 4
    assert last.met is True
    assert last.value.value == pytest.approx(0.195 / 0.295)
    assert sad_rows([helps, hurts])[-1].met is False
    assert sad_rows([])[0].met is None


def test_most_masks_win_and_of_equals_the_first_class() -> None:
    masks = torch.tensor([[0, 2, 1, 1], [0, 2, 2, 1], [1, 0, 2, 0], [2, 1, 1, 0]])
    assert vote(masks, 3).tolist() == [0, 2, 1, 0]


def test_masks_are_scored_against_the_unet() -> None:
    def answer(share: float) -> Counts:
        labelled = torch.full((10, 2), 50.0)
        return Counts(share * labelled, labelled, labelled)

    answers = {'one draw': answer(0.5), 'vote of 8': answer(0.9), 'U-Net': answer(0.7)}
    rows = score_rows(answers, tiny_spec('change'), 'budget')
    verdicts = {row.figure.split(', ')[-1]: row.met for row in rows if row.bar}
    assert verdicts == {'one draw': False, 'vote of 8': True}
    assert [row.note for row in rows if row.figure.endswith('mIoU, U-Net')] == ['budget']
    assert sum('IoU of change' in row.figure for row in rows) == 3
    alone = score_rows({'one draw': answer(0.5)}, tiny_spec('segmentation'), 'no budget')
    assert [(row.met, row.note) for row in alone] == [(None, 'no budget')]
