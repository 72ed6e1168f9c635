import math

from torchgeo_specdm.evaluation.compared import Compared
from torchgeo_specdm.evaluation.measure import Interval

NONE = Interval(math.nan, math.nan, math.nan)


def test_only_what_is_beyond_all_real_intervals_is_flagged() -> None:
    real = Interval(1.0, 0.8, 1.2), Interval(1.5, 1.0, 2.0)
    assert Compared(Interval(4.0, 3.1, 5.0), *real).exceeds(1.5)
    assert not Compared(Interval(4.0, 2.9, 5.0), *real).exceeds(1.5)
    assert not Compared(Interval(4.0, 3.1, 5.0), *real).exceeds(1.5, least=3.5)
    assert Compared(Interval(0.2, 0.1, 0.3), *real).falls_short(0.5)
    assert not Compared(Interval(0.2, 0.1, 0.5), *real).falls_short(0.5)


def test_ratios_are_judged_in_both_directions() -> None:
    real = Interval(0.9, 0.8, 1.1), Interval(1.0, 0.9, 1.1)
    for value, flagged in ((2.0, True), (1.4, False), (1.0, False), (0.7, False), (0.5, True)):
        assert Compared(Interval(value, value, value), *real).off_by(1.2) == flagged


def test_without_real_figures_nothing_is_flagged() -> None:
    for found in (Compared(Interval(9.0, 8.0, 10.0), NONE, NONE), Compared(NONE, *[Interval(1.0, 0.9, 1.1)] * 2)):
        assert not found.exceeds(1)
        assert not found.falls_short(1)
        assert not found.off_by(1)
    assert Compared(Interval(9.0, 8.0, 10.0), NONE, Interval(1.0, 0.9, 1.1)).exceeds(2)


def test_the_measure_has_both_references() -> None:
    found = Compared(Interval(3.0, 2.0, 4.0), Interval(1.0, 0.9, 1.1), Interval(2.0, 1.0, 3.0)).measure('x', unit='rad')
    assert found.value.value == 3
    assert found.reference == (1.0, 0.9, 1.1)
    assert found.settings == {'held-out real': 2.0}
