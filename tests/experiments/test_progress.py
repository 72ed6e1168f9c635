"""How many cells are left, and for how long."""

import pytest

from torchgeo_specdm.experiments.progress import Progress, duration


def test_cells_take_what_others_of_their_kind_took_for_the_same_work() -> None:
    progress = Progress({'a': ('slow', 100), 'b': ('slow', 50), 'c': ('fast', 100), 'd': ('slow', 100)})
    assert progress.seconds is None
    assert str(progress) == '0 of 4 cells'
    progress.done('a', 200.0)
    assert progress.seconds == pytest.approx(2 * (50 + 100 + 100))  # of a kind that is not known, like the others
    progress.done('c', 10.0)
    assert progress.seconds == pytest.approx(2 * (50 + 100))
    assert str(progress) == '2 of 4 cells, about 5 min left'
    progress.done('b', 50.0)
    assert progress.seconds == pytest.approx((2 + 1) / 2 * 100)
    # Once more, or one that was not planned
    progress.done('b', 1000.0)
    progress.done('e', 1000.0)
    assert progress.number == 3
    progress.done('d', 1000.0)
    assert str(progress) == '4 of 4 cells'
    assert progress.seconds == 0


@pytest.mark.parametrize(('seconds', 'words'), [(0.4, '0 s'), (119, '119 s'), (600, '10 min'), (9000, '2.5 h')])
def test_times_are_said_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words
