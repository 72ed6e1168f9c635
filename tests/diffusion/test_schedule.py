import numpy as np
import torch

from torchgeo_specdm.diffusion import NoiseSchedule


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
