import numpy as np
import torch
from torchmetrics.functional.image import spectral_angle_mapper

from torchgeo_specdm.functional import spectral_angle


def test_agrees_with_numpy_and_torchmetrics() -> None:
    u, v = torch.rand(2, 5, 6, 6) + 0.1, torch.rand(2, 5, 6, 6) + 0.1
    a, b = u.double().numpy(), v.double().numpy()
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(spectral_angle(u, v).numpy(), np.arccos(cosine), atol=1e-5)
    torch.testing.assert_close(spectral_angle(u, v).mean(), spectral_angle_mapper(u, v), atol=1e-5, rtol=0)


def test_ignores_scale_and_resolves_small_angles() -> None:
    u = torch.rand(1, 10, 4, 4) + 0.5
    assert spectral_angle(u, 3 * u).max() < 1e-5
    v = torch.tensor([1.0, 1e-4]).view(1, 2, 1, 1)
    w = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    # arccos in float32 would answer 0 here
    torch.testing.assert_close(spectral_angle(v, w).squeeze(), torch.tensor(1e-4), rtol=0.02, atol=0)


def test_finite_at_zero_equal_and_saturated_spectra() -> None:
    for value in (0.0, 1e-9, 1.0, 65535.0):
        for target in (0.0, value):
            u = torch.full((1, 4, 2, 2), value, requires_grad=True)
            angle = spectral_angle(u, torch.full((1, 4, 2, 2), target))
            angle.sum().backward()
            assert angle.isfinite().all()
            assert angle.max() < 1e-5
            assert u.grad is not None
            assert u.grad.isfinite().all()
