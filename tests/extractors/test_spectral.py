"""The features agree with a loop in numpy."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from tests.conftest import tiny_spec
from torchgeo_specdm.extractors import Spectral
from torchgeo_specdm.spec import DatasetSpec


def wide_spec(bands: int) -> DatasetSpec:
    names = tuple(f'b{band}' for band in range(bands))
    return dataclasses.replace(tiny_spec('segmentation'), bands=names, wavelengths=None, value_range=(100.0, 2100.0))


def by_hand(x: np.ndarray, weights: tuple[float, float, float]) -> list[float]:
    """Features of one image ``(C, H, W)`` in units of order 1."""
    bands = range(len(x))
    mean = [float(x[c].mean()) for c in bands]
    covariance = [[float(((x[a] - mean[a]) * (x[b] - mean[b])).mean()) for b in bands] for a in bands]
    root = np.real(sqrtm(np.array(covariance)))
    spread = [root[a, b] * (1 if a == b else np.sqrt(2)) for a in bands for b in bands if b >= a]
    rough = [np.abs(x[c][:, 1:] - x[c][:, :-1]).mean() + np.abs(x[c][1:] - x[c][:-1]).mean() for c in bands]
    return [weight * value for weight, block in zip(weights, (mean, spread, rough), strict=True) for value in block]


@pytest.mark.parametrize('bands', [3, 16])
def test_images_agree_with_a_loop(bands: int) -> None:
    extractor = Spectral(wide_spec(bands))
    image = 1500 + 300 * torch.randn(2, bands, 12, 12, generator=torch.Generator().manual_seed(0))
    expected = [by_hand((sample.double().numpy() - 100) / 2000, (1, 3, 6)) for sample in image]
    torch.testing.assert_close(extractor.images(image), torch.tensor(expected).float())


def test_masks_agree_with_a_loop() -> None:
    extractor = Spectral(tiny_spec('segmentation'))
    mask = torch.randint(-1, 6, (2, 12, 12), generator=torch.Generator().manual_seed(0))
    one_hot = [np.stack([(sample.numpy() == k).astype(float) for k in range(4)]) for sample in mask]
    expected = [by_hand(sample, (1, 1, 5)) for sample in one_hot]
    torch.testing.assert_close(extractor.masks(mask), torch.tensor(expected).float())


def test_many_bands_are_grouped() -> None:
    extractor = Spectral(wide_spec(200))
    assert extractor.dimensions == 2 * 16 + 16 * 17 // 2
    groups = extractor.settings['bands']
    assert [name for group in groups for name in group] == list(extractor.spec.bands)
    assert {len(group) for group in groups} == {12, 13}

    image = torch.rand(1, 200, 8, 8, generator=torch.Generator().manual_seed(0)) * 2000
    means = torch.stack([image[:, [int(name[1:]) for name in group]].mean(1) for group in groups], 1)
    torch.testing.assert_close(extractor.images(image), Spectral(wide_spec(16)).images(means))


def test_one_class_and_flat_images_have_finite_features() -> None:
    extractor = Spectral(tiny_spec('change'))
    assert extractor.images(torch.full((1, 3, 8, 8), 700.0)).isfinite().all()
    found = extractor.masks(torch.full((1, 8, 8), 255))
    assert torch.equal(found, torch.zeros_like(found))
