import pytest
import torch

from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.models import joint_unet


def test_shape_is_kept() -> None:
    unet = joint_unet(5, 8, widths=(32, 64), depth=1)
    assert unet(torch.randn(2, 5, 8, 8), torch.tensor([3, 700])).sample.shape == (2, 5, 8, 8)


@pytest.mark.parametrize(
    ('size', 'widths', 'message'), [(6, (32, 32, 32), 'halved 2 times'), (8, (30,), 'multiples of 32')]
)
def test_refusals(size: int, widths: tuple[int, ...], message: str) -> None:
    with pytest.raises(SpecDMError, match=message):
        joint_unet(5, size, widths=widths)
