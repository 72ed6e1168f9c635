import pytest
import torch
from prdc import compute_prdc

from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.functional.coverage import density_coverage


@pytest.mark.parametrize(('n', 'm', 'd', 'k'), [(60, 50, 4, 5), (30, 80, 100, 3), (7, 7, 2, 5)])
def test_equal_to_prdc(n: int, m: int, d: int, k: int) -> None:
    generator = torch.Generator().manual_seed(n)
    real = torch.randn(n, d, generator=generator, dtype=torch.float64)
    synthetic = 0.8 * torch.randn(m, d, generator=generator, dtype=torch.float64) + 0.3
    assert density_coverage(real, synthetic, k)._asdict() == pytest.approx(
        compute_prdc(real.numpy(), synthetic.numpy(), k)
    )


def test_of_identical_sets() -> None:
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    found = density_coverage(x, x)
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)
    # Each sample and its k - 1 nearest lie inside its own open ball
    assert found.density == pytest.approx(1)


def test_of_one_repeated_sample() -> None:
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    found = density_coverage(x, x[:1].expand(40, 3))
    assert found.precision == 1
    assert found.recall == 0
    assert found.coverage < 0.3


def test_of_distant_sets() -> None:
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    assert density_coverage(x, x + 100) == (0, 0, 0, 0)


def test_too_few_samples() -> None:
    with pytest.raises(SpecDMError, match='5 real and 9 synthetic'):
        density_coverage(torch.zeros(5, 2), torch.zeros(9, 2))
