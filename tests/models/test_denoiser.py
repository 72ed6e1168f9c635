import pytest
import torch

from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.models import JointDenoiser


def told_denoiser() -> JointDenoiser:
    torch.manual_seed(0)
    denoiser = JointDenoiser(5, 8, widths=(32, 32), depth=1, clocks=2, num_classes=3, orientations=True).eval()
    torch.nn.init.normal_(denoiser.orientation.weight)  # type: ignore[union-attr]
    return denoiser


def test_shape_is_kept() -> None:
    denoiser = JointDenoiser(5, 8, widths=(32, 64), depth=1)
    assert denoiser(torch.randn(2, 5, 8, 8), torch.tensor([3, 700])).shape == (2, 5, 8, 8)


def test_a_denoiser_that_is_told_nothing_is_diffusers_unet() -> None:
    denoiser = JointDenoiser(5, 8, widths=(32, 32), depth=1).eval()
    z, t = torch.randn(2, 5, 8, 8), torch.tensor([3, 700])
    torch.testing.assert_close(denoiser(z, t), denoiser.unet(z, t).sample)
    assert len(list(denoiser.parameters())) == len(list(denoiser.unet.parameters()))


@torch.no_grad()
def test_every_condition_matters_and_has_the_documented_default() -> None:
    denoiser, z, t = told_denoiser(), torch.randn(2, 5, 8, 8), torch.tensor([3, 700])
    plain = denoiser(z, t)
    free = torch.full((2, 3), torch.nan)
    torch.testing.assert_close(denoiser(z, t[:, None].expand(-1, 2), free, torch.zeros(2, dtype=torch.long)), plain)
    asked = free.clone()
    asked[:, 1] = 0.5
    for other in (
        denoiser(z, torch.stack([t, torch.zeros_like(t)], 1)),
        denoiser(z, t, asked),
        # Nothing of a class is not the same as nothing known of it
        denoiser(z, t, torch.zeros(2, 3)),
        denoiser(z, t, None, torch.tensor([1, 5])),
    ):
        assert (other - plain).abs().amax((1, 2, 3)).min() > 1e-4


@pytest.mark.parametrize(
    ('size', 'widths', 'message'), [(6, (32, 32, 32), 'halved 2 times'), (8, (30,), 'multiples of 32')]
)
def test_refusals(size: int, widths: tuple[int, ...], message: str) -> None:
    with pytest.raises(SpecDMError, match=message):
        JointDenoiser(5, size, widths=widths)
