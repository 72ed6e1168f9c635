"""Laws of the windows that cover a scene."""

import numpy as np
import pytest

from torchgeo_specdm.datasets.patches import patch_origins
from torchgeo_specdm.errors import SpecDMError


@pytest.mark.parametrize('overlap', [0.0, 0.25, 0.5, 0.6, 0.99])
@pytest.mark.parametrize(('height', 'width', 'size'), [(64, 64, 64), (65, 130, 32), (37, 41, 5), (9, 7, 1)])
def test_windows_cover_every_pixel_and_stay_inside(height: int, width: int, size: int, overlap: float) -> None:
    origins = patch_origins(height, width, size, overlap)
    count = np.zeros((height, width), int)
    for row, col in origins:
        assert row >= 0
        assert col >= 0
        assert count[row : row + size, col : col + size].shape == (size, size)
        count[row : row + size, col : col + size] += 1
    assert count.min() >= 1
    assert origins == sorted(set(origins))


def test_windows_that_fit_exactly_do_not_overlap() -> None:
    assert patch_origins(64, 96, 32) == [(r, c) for r in (0, 32) for c in (0, 32, 64)]


def test_overlap_is_the_shared_share_of_a_window() -> None:
    columns = [col for _, col in patch_origins(100, 300, 100, overlap=0.6)]
    assert columns == list(range(0, 201, 40))


def test_last_window_is_shifted_to_the_border() -> None:
    assert [row for row, _ in patch_origins(70, 32, 32)] == [0, 32, 38]


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ((31, 64, 32, 0.0), 'larger than the scene of 31 x 64 px'),
        ((64, 64, 0, 0.0), 'patch_size is 0'),
        ((64, 64, 32, 1.0), 'overlap is 1.0'),
        ((64, 64, 32, -0.1), 'overlap is -0.1'),
        ((64, 64, 32, float('nan')), 'overlap is nan'),
    ],
)
def test_impossible_windows_are_refused(arguments: tuple[int, int, int, float], words: str) -> None:
    with pytest.raises(SpecDMError, match=words):
        patch_origins(*arguments)
