import doctest
import importlib
import pkgutil

import pytest
import torch

from torchgeo_specdm import metrics as package
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.functional.coverage import density_coverage
from torchgeo_specdm.functional.distances import frechet_distance, kernel_distance
from torchgeo_specdm.metrics import ClassSpectralAngle, DensityCoverage, FrechetDistance, KernelDistance
from torchgeo_specdm.metrics.features import FeatureMetric


@pytest.mark.parametrize('module', [module.name for module in pkgutil.iter_modules(package.__path__)])
def test_examples(module: str) -> None:
    found = doctest.testmod(importlib.import_module(f'torchgeo_specdm.metrics.{module}'))
    assert found.attempted
    assert not found.failed


def test_metrics_of_batches_are_those_of_all_features() -> None:
    generator = torch.Generator().manual_seed(0)
    real, synthetic = torch.randn(2, 24, 6, generator=generator)
    metrics: list[FeatureMetric] = [FrechetDistance(), KernelDistance(), DensityCoverage(k=3)]
    for metric in metrics:
        for batch in real.split(10):
            metric.update(batch, real=True)
        for batch in synthetic.split(7):
            metric.update(batch, real=False)
    frechet, kernel, coverage = (metric.compute() for metric in metrics)
    assert float(frechet) == pytest.approx(frechet_distance(real, synthetic))
    assert float(kernel) == pytest.approx(kernel_distance(real, synthetic))
    expected = density_coverage(real, synthetic, 3)._asdict()
    assert {name: float(value) for name, value in coverage.items()} == pytest.approx(expected)


def test_a_metric_without_samples_says_so() -> None:
    metric = FrechetDistance()
    metric.update(torch.rand(4, 2), real=True)
    with pytest.warns(UserWarning, match='compute'), pytest.raises(SpecDMError, match='must be'):
        FrechetDistance().compute()
    with pytest.raises(SpecDMError, match='must be'):
        metric.compute()
    metric.reset()
    assert metric.real == []


def test_class_spectral_angle_of_batches_with_dates() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(4, 2, 3, 5, 5, generator=generator) + 0.1
    mask = torch.randint(0, 2, (4, 1, 5, 5), generator=generator)
    metric = ClassSpectralAngle(2, 3, num_dates=2)
    metric.update(image, mask, real=True)
    for part in (slice(0, 1), slice(1, 4)):
        # Twice as bright is the same direction; the second date has its bands in another order
        metric.update(torch.stack([2 * image[part, 0], image[part, 1].flip(1)], 1), mask[part], real=False)
    found = metric.compute()
    assert found.shape == (2, 2)
    assert found[0].max() < 2e-6
    for label in range(2):
        mean = image[:, 1].movedim(1, -1)[mask[:, 0] == label].double().mean(0)
        expected = torch.arccos(mean @ mean.flip(0) / mean.square().sum())
        torch.testing.assert_close(found[1, label], expected, atol=1e-5, rtol=0)
