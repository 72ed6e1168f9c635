import math

import pytest
import torch

from torchgeo_specdm.functional.statistics import band_statistics, images_at_once


def test_batches_give_the_statistics_of_the_whole() -> None:
    images = 1000 + 50 * torch.randn(10, 2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    mean, std = band_statistics(images.split(3))
    torch.testing.assert_close(mean, images.mean((0, 1, 3, 4)))
    torch.testing.assert_close(std, images.std((0, 1, 3, 4), correction=0))


@pytest.mark.parametrize('bands', [1, 10, 250, 2000])
def test_more_bands_are_read_in_smaller_batches(bands: int) -> None:
    shape = (bands, 64, 64)
    count = images_at_once(shape, 64)
    assert 1 <= count <= 64
    # 64 MB of float32, in full where more images were wanted
    assert count == 1 or 4 * count * math.prod(shape) <= 2**26
    assert count == 64 or 4 * (count + 1) * math.prod(shape) > 2**26


@pytest.mark.parametrize(('shape', 'batch'), [((2, 10, 128, 128), 32), ((10, 128, 128), 32), ((200, 32, 32), 64)])
def test_batches_of_images_of_the_presets_are_as_they_are(shape: tuple[int, ...], batch: int) -> None:
    assert images_at_once(shape, batch) == batch
