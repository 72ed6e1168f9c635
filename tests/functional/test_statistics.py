import torch

from torchgeo_specdm.functional.statistics import band_statistics


def test_batches_give_the_statistics_of_the_whole() -> None:
    images = 1000 + 50 * torch.randn(10, 2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    mean, std = band_statistics(images.split(3))
    torch.testing.assert_close(mean, images.mean((0, 1, 3, 4)))
    torch.testing.assert_close(std, images.std((0, 1, 3, 4), correction=0))
