import numpy as np
import pytest
import torch

from torchgeo_specdm.diffusion import NoiseSchedule
from torchgeo_specdm.errors import SpecDMError


def test_is_ldms_linear_schedule() -> None:
    """Linear in the root of beta, as in LDM's own code, computed here in numpy."""
    betas = np.linspace(0.0015**0.5, 0.0155**0.5, 1000) ** 2
    np.testing.assert_allclose(NoiseSchedule().alphas_cumprod.numpy(), np.cumprod(1 - betas), rtol=1e-4)


def test_snr_falls_at_every_step() -> None:
    assert (NoiseSchedule().snr.diff() < 0).all()


def test_forward_process_keeps_unit_variance() -> None:
    schedule = NoiseSchedule()
    z, noise = torch.randn(2, 20_000, 1, 1, 1)
    for t in (0, 300, 999):
        noisy = schedule.add_noise(z, noise, torch.full((20_000,), t))
        assert abs(noisy.std().item() - 1) < 0.02


def test_noise_and_velocity_say_the_same() -> None:
    """Clean latents follow from noisy ones and either target."""
    z, noise = torch.randn(2, 5, 2, 3, 3)
    t = torch.tensor([0, 100, 500, 900, 999])
    schedule = NoiseSchedule(prediction_type='v_prediction')
    alpha = schedule.alphas_cumprod[t].view(-1, 1, 1, 1)
    noisy = schedule.add_noise(z, noise, t)
    torch.testing.assert_close(NoiseSchedule().target(z, noise, t), noise)
    velocity = schedule.target(z, noise, t)
    torch.testing.assert_close(alpha.sqrt() * noisy - (1 - alpha).sqrt() * velocity, z, atol=1e-5, rtol=0)
    torch.testing.assert_close((1 - alpha).sqrt() * noisy + alpha.sqrt() * velocity, noise, atol=1e-5, rtol=0)


def test_an_unknown_prediction_is_refused() -> None:
    with pytest.raises(SpecDMError, match='v_prediction'):
        NoiseSchedule(prediction_type='noise')
