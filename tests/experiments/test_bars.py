"""Bars: verdicts by the figures of the tables, and none where they are of other trainings than the bars ask for."""

import math
from dataclasses import replace
from typing import Any

import pytest

from torchgeo_specdm.experiments import grid
from torchgeo_specdm.experiments.bars import Gained, judge
from torchgeo_specdm.experiments.named import EXPERIMENTS, LDM, MIX, REAL
from torchgeo_specdm.experiments.plan import DownstreamExperiment
from torchgeo_specdm.experiments.results import Gain
from torchgeo_specdm.experiments.table import Spread
from torchgeo_specdm.experiments.toy import toy_data

FULL = {'seeds': 5, 'scenes': 10}


def tables(level: float, gain: Gain, over_ldm: Gain, pairs: int = 100) -> tuple[list[Any], list[Any]]:
    """Of one model: the control's F1 of change, and both gains in every score."""
    scores = ('mIoU', 'mF1', 'F1 of change')
    means = [
        {'model': 'm', 'data': arm, 'real': pairs, 'F1 of change': Spread(level, 0.01)} for arm in (REAL, LDM, MIX)
    ]
    gains = [
        {'model': 'm', 'data': MIX, 'against': other, **dict.fromkeys(scores, value)}
        for other, value in ((REAL, gain), (LDM, over_ldm))
    ]
    return means, gains


def verdicts(name: str, *figures: Any, pairs: int = 100, **of: int) -> list[str]:
    experiment = EXPERIMENTS[name]
    assert isinstance(experiment, DownstreamExperiment)
    return [row['verdict'] for row in judge(experiment.bars['OSCD'], *tables(*figures, pairs), **{**FULL, **of})]


GOOD = 0.5, Gain(0.031, 0.001, 0.05, 5, 5), Gain(0.01, -0.01, 0.03, 5, 5)


@pytest.mark.parametrize(
    ('figures', 'expected'),
    [
        (GOOD, ['met', 'met', 'met', 'met']),
        ((0.499, *GOOD[1:]), ['not met', 'met', 'met', 'met']),
        # 0.02 is asked of mIoU, 0.03 of mF1
        ((0.6, Gain(0.025, 0.001, 0.05, 5, 5), GOOD[2]), ['met', 'met', 'not met', 'met']),
        ((0.6, Gain(0.04, -0.001, 0.09, 5, 5), GOOD[2]), ['met', 'not met', 'not met', 'met']),
        ((0.6, GOOD[1], Gain(0.2, 0.1, 0.3, 4, 5)), ['met', 'met', 'met', 'not met']),
        ((math.nan, *GOOD[1:]), ['not measured', 'met', 'met', 'met']),
        ((0.6, Gain(math.nan, math.nan, math.nan, 0, 5), GOOD[2]), ['met', 'not measured', 'not measured', 'met']),
    ],
)
def test_a_verdict_follows_from_the_figure(figures: tuple[Any, ...], expected: list[str]) -> None:
    assert verdicts('against-ldm', *figures) == expected
    assert verdicts('augmentation', *figures) == expected[:3]
    assert verdicts('equal-steps', *figures) == expected[:1]


@pytest.mark.parametrize('of', [{'seeds': 4}, {'scenes': 9}, {'pairs': 99}])
def test_other_trainings_have_no_verdict(of: dict[str, int]) -> None:
    assert verdicts('against-ldm', *GOOD, **of) == ['not measured'] * 4


def test_a_row_holds_bar_paper_and_figure() -> None:
    bar = Gained('gain', '+0.1', 'mIoU', MIX, REAL, 0.02)
    (row,) = judge([bar], *tables(*GOOD), **FULL)
    assert row == {
        'model': 'm',
        'what must hold': 'gain',
        'bar': '≥ +0.02, 95 % interval above 0',
        'paper': '+0.1',
        'measured': GOOD[1],
        'verdict': 'met',
    }


def test_bars_are_of_arms_that_are_compared_on_change_of_oscd_alone() -> None:
    held = {name: each for name, each in EXPERIMENTS.items() if isinstance(each, DownstreamExperiment) and each.bars}
    assert set(held) == {'augmentation', 'against-ldm', 'equal-steps'}
    for experiment in held.values():
        assert set(experiment.bars) == {'OSCD'}
        for bar in experiment.bars['OSCD']:
            assert bar.arms in experiment.compared if len(bar.arms) == 2 else bar.arms == (REAL,)


def test_random_scenes_and_other_protocols_have_none() -> None:
    experiment, fast = EXPERIMENTS['augmentation'], toy_data('change')
    assert isinstance(experiment, DownstreamExperiment)
    assert grid._bars(experiment, fast) == ()
    oscd = replace(fast, spec=replace(fast.spec, name='OSCD'), protocol='scenes')
    assert grid._bars(experiment, oscd) == ()
    assert len(grid._bars(experiment, replace(oscd, protocol='paper'))) == 3
    assert grid._bars(experiment, replace(fast, protocol='paper')) == ()
