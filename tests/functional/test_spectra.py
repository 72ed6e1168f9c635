import numpy as np
import pytest
import torch
from scipy.stats import norm, wasserstein_distance
from torch import Tensor
from torch.nn.functional import avg_pool2d

from torchgeo_specdm.functional.spectra import (
    band_correlation,
    band_wasserstein,
    class_sums,
    correlation_matrix_distance,
    matching_bands,
    roughness,
)


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_class_spectra_are_those_of_a_numpy_loop() -> None:
    image = (1000 * rand(3, 2, 4, 6, 5)).float()
    mask = torch.randint(0, 4, (3, 6, 5), generator=torch.Generator().manual_seed(1))
    mask[0, 0, 0], mask[1, 2, :2] = 255, -1
    # No data at one date; and class 3 stays without pixels
    image[2, 1, :, 3, 3] = 0
    mask[mask == 3] = 2
    found = class_sums(image, mask, 4)
    assert found.pixels.shape == (3, 4)
    assert found.sums.shape == (3, 2, 4, 4)
    total = type(found)(*(values.sum(0) for values in found))
    for label in range(3):
        for date in range(2):
            spectra = [
                image[b, date, :, i, j].double().numpy()
                for b in range(3)
                for i in range(6)
                for j in range(5)
                if mask[b, i, j] == label and image[b, :, :, i, j].abs().sum(1).min() > 0
            ]
            assert total.pixels[label] == len(spectra)
            np.testing.assert_allclose(total.mean[date, label], np.mean(spectra, 0))
            np.testing.assert_allclose(total.std[date, label], np.std(spectra, 0))
    assert total.mean[:, 3].isnan().all()


def test_correlation_of_bands_is_that_of_numpy() -> None:
    spectra = rand(50, 5) @ rand(5, 5, seed=1)
    torch.testing.assert_close(band_correlation(spectra), torch.from_numpy(np.corrcoef(spectra.T.numpy())))


def test_a_constant_band_correlates_with_nothing() -> None:
    spectra = rand(50, 3)
    spectra[:, 1] = 1234.5
    found = band_correlation(spectra)
    assert found.isfinite().all()
    assert found[1].tolist() == [0, 1, 0]


def test_correlation_matrix_distance() -> None:
    correlation = band_correlation(rand(50, 4) @ rand(4, 4, seed=1))
    assert float(correlation_matrix_distance(correlation, 3 * correlation)) == pytest.approx(0, abs=1e-12)
    first, second = torch.diag(torch.tensor([1.0, 0, 0])), torch.diag(torch.tensor([0.0, 1, 1]))
    assert correlation_matrix_distance(first, second) == 1
    ones, identity = torch.ones(2, 2), torch.eye(2)
    found = correlation_matrix_distance(torch.stack([ones, ones]), torch.stack([ones, identity]))
    torch.testing.assert_close(found, torch.tensor([0, 1 - 2 / (2 * 2**0.5)]))


def test_wasserstein_distance_of_each_band() -> None:
    first = rand(200, 3)
    torch.testing.assert_close(
        band_wasserstein(first, first + torch.tensor([0, 0.1, -0.3])), torch.tensor([0, 0.1, 0.3]).double()
    )
    # Two Gaussians of one width are as far apart as their means, whatever the samples' number
    quantiles = torch.from_numpy(norm.ppf((np.arange(1000) + 0.5) / 1000))
    found = band_wasserstein(quantiles[:, None], 2 + quantiles[::2, None])
    assert float(found) == pytest.approx(2, abs=0.01)
    assert float(found) == wasserstein_distance(quantiles, 2 + quantiles[::2])


def test_roughness_of_known_images() -> None:
    ramp = 10 + torch.arange(6.0).expand(1, 2, 4, 6)
    # 20 pairs in rows differ by 1, 18 in columns by 0
    torch.testing.assert_close(roughness(ramp), torch.full((1, 2), 20 / 38).double())
    assert roughness(torch.full((2, 1, 3, 3, 3), 7.0)).eq(0).all()
    assert roughness(torch.zeros(1, 3, 4, 4)).eq(0).all()


def test_roughness_knows_blur_noise_and_missing_data() -> None:
    image = 1000 + 100 * rand(2, 3, 16, 16)
    original = roughness(image)
    assert (roughness(avg_pool2d(image, 3, 1, 1, count_include_pad=False)) < 0.5 * original).all()
    assert (roughness(image + 300 * rand(2, 3, 16, 16, seed=1)) > 1.5 * original).all()
    image[..., :4] = 0
    torch.testing.assert_close(roughness(image), roughness(image[..., 4:]))


def test_bands_in_another_order_are_found() -> None:
    bands = rand(12, 6).log()
    order = torch.tensor([3, 0, 1, 2, 5, 4])
    for noise, share in ((0.0, 0.0), (0.1, 0.1)):
        found, left = matching_bands(bands[:, order] + 0.3 + noise * rand(12, 6, seed=1), bands)
        assert found.equal(order)
        assert left < share + 0.2
    found, left = matching_bands(bands + noise * rand(12, 6, seed=1), bands)
    assert found.tolist() == list(range(6))
    assert left == 1
