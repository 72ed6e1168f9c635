"""The rule against one written with ratios, pixel by pixel; the majority against a loop over windows."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.functional.landcover import (
    LAND_COVER_BANDS,
    LAND_COVER_CLASSES,
    land_cover,
    majority,
    pixel_land_cover,
)
from torchgeo_specdm.sensors import SPECDM_BANDS


def rule(pixel: dict[str, float]) -> str:
    """As the definition reads, for one pixel."""
    ndvi = (pixel['B08'] - pixel['B04']) / (pixel['B08'] + pixel['B04'])
    ndwi = (pixel['B03'] - pixel['B08']) / (pixel['B03'] + pixel['B08'])
    ndbi = (pixel['B11'] - pixel['B08']) / (pixel['B11'] + pixel['B08'])
    brightness = (pixel['B02'] + pixel['B03'] + pixel['B04']) / 3
    name = 'bare'
    if ndvi > 0.3:
        name = 'sparse vegetation'
    if ndvi > 0.5:
        name = 'dense vegetation'
    if ndvi <= 0.3 and ndbi > 0 and brightness < 0.22:
        name = 'built-up or dry'
    if ndvi <= 0.3 and brightness >= 0.22:
        name = 'bright surface'
    if ndwi > 0 and pixel['B08'] < 0.15:
        name = 'water'
    return name


def loop_majority(mask: NDArray[np.int64], window: int) -> NDArray[np.int64]:
    """The smallest of the most frequent values of each window, cut off at the border."""
    reach = window // 2
    found = np.empty_like(mask)
    for row, col in np.ndindex(mask.shape):
        part = mask[max(0, row - reach) : row + reach + 1, max(0, col - reach) : col + reach + 1]
        found[row, col] = np.bincount(part.ravel()).argmax()
    return found


@pytest.mark.parametrize('bands', [LAND_COVER_BANDS, SPECDM_BANDS, ('B11', 'B08', 'B04', 'B01', 'B03', 'B02')])
def test_the_rule_is_the_one_written_with_ratios(bands: tuple[str, ...]) -> None:
    image = 0.4 * torch.rand(len(bands), 40, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mask = pixel_land_cover(image, bands)
    expected = [
        [rule(dict(zip(bands, image[:, row, col].tolist(), strict=True))) for col in range(40)] for row in range(40)
    ]
    assert [[LAND_COVER_CLASSES[label] for label in row] for row in mask.tolist()] == expected
    assert set(mask.unique().tolist()) == set(range(6))


def test_black_and_negative_pixels_have_a_class() -> None:
    image = torch.zeros(5, 2, 2)
    image[:, 1] = -0.01
    assert pixel_land_cover(image, LAND_COVER_BANDS).tolist() == [[3, 3], [3, 3]]


@pytest.mark.parametrize('window', [1, 3, 7])
def test_the_majority_is_the_one_counted_window_by_window(window: int) -> None:
    mask = torch.randint(6, (2, 17, 23), generator=torch.Generator().manual_seed(0))
    # Regions, too, so that not every window is a tie
    mask[:, 4:12, 5:15] = 5
    found = majority(mask, 6, window)
    for source, result in zip(mask.numpy(), found.numpy(), strict=True):
        np.testing.assert_array_equal(result, loop_majority(source, window))


def test_a_window_larger_than_the_mask_counts_all_of_it() -> None:
    mask = torch.tensor([[0, 2, 2], [1, 1, 0]])
    assert (majority(mask, 3, 101) == 0).all()
    assert (majority(mask.clamp_min(1), 3, 101) == 1).all()


def test_a_batch_is_treated_image_by_image() -> None:
    images = 0.4 * torch.rand(2, 3, 5, 16, 16)
    together = land_cover(images, LAND_COVER_BANDS)
    assert together.shape == (2, 3, 16, 16)
    assert together.dtype == torch.int64
    assert torch.equal(together[1, 2], land_cover(images[1, 2], LAND_COVER_BANDS))


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(SpecDMError, match='needs B11, which is not among'):
        land_cover(torch.zeros(4, 8, 8), ('B02', 'B03', 'B04', 'B08'))
    with pytest.raises(SpecDMError, match='must be odd'):
        land_cover(torch.zeros(5, 8, 8), LAND_COVER_BANDS, window=4)
