import pytest
import torch
from torch.nn.functional import pixel_unshuffle

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
def test_folding_is_a_matter_of_the_network_alone() -> None:
    torch.manual_seed(0)
    denoiser = JointDenoiser(5, 8, widths=(32, 64), depth=1, fold=2).eval()
    z, t = torch.randn(2, 5, 8, 8), torch.tensor([3, 700])
    answer = denoiser(z, t)
    assert answer.shape == z.shape
    torch.testing.assert_close(pixel_unshuffle(answer, 2), denoiser.unet(pixel_unshuffle(z, 2), t).sample)


def test_a_cpu_trains_with_the_gradients_of_fused_attention() -> None:
    denoiser, z, t = told_denoiser(), torch.randn(2, 5, 8, 8), torch.tensor([3, 700])
    with torch.no_grad():
        fused = denoiser(z, t)
    torch.testing.assert_close(denoiser(z, t), fused, atol=1e-5, rtol=1e-4)


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
    ('size', 'widths', 'fold', 'message'),
    [
        (6, (32, 32, 32), 1, 'cannot be halved 2 times'),
        (12, (32, 32, 32), 2, 'cannot be folded 2 x 2 and halved 2 times'),
        (8, (30,), 1, 'multiples of 32'),
    ],
)
def test_refusals(size: int, widths: tuple[int, ...], fold: int, message: str) -> None:
    with pytest.raises(SpecDMError, match=message):
        JointDenoiser(5, size, widths=widths, fold=fold)
