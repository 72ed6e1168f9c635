import pytest
import torch
from torch.nn import functional as F

from tests.conftest import tiny_spec
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.models import TwoStreamAutoencoder


def batch(task: str, classes: int, size: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    dates, lead = ((2,), (1,)) if task == 'change' else ((), ())
    image = 1000 + 300 * torch.randn(2, *dates, 3, size, size)
    return image, torch.randint(classes, (2, *lead, size, size))


@pytest.mark.parametrize('task', ['segmentation', 'change'])
@pytest.mark.parametrize('architecture', ['space_to_depth', 'kl'])
def test_shapes(task: str, architecture: str) -> None:
    model = TwoStreamAutoencoder(
        task,
        3,
        2,
        architecture=architecture,
        latent_channels=(4, 2),
        width=(32, 32),
        depth=1,  # type: ignore[arg-type]
    )
    image, mask = batch(task, 2)
    posterior = model.encode(image, mask)
    assert posterior.mean.shape == (2, 6, 4, 4)
    decoded, logits = model.decode(posterior.sample())
    assert decoded.shape == image.shape
    assert logits.shape == (2, 2, 16, 16)


def test_streams_share_nothing() -> None:
    """Neither stream's loss reaches a parameter of the other, and neither latent depends on the other's input."""
    model = TwoStreamAutoencoder('segmentation', 3, 4, latent_channels=(4, 2), width=(32, 32), depth=1)
    image, mask = batch('segmentation', 4)
    losses = model.losses(image, mask)
    losses['cross_entropy'].backward(retain_graph=True)
    assert not any(p.grad is not None and p.grad.any() for p in model.image_branch.parameters())
    model.zero_grad(set_to_none=True)
    (losses['l1'] + losses['spectral_angle']).backward()
    assert not any(p.grad is not None and p.grad.any() for p in model.mask_branch.parameters())
    other = model.encode(image, (mask + 1) % 4).mean
    torch.testing.assert_close(other[:, :4], model.encode(image, mask).mean[:, :4])


def test_scaling_is_undone() -> None:
    model = TwoStreamAutoencoder('change', 3, 2)
    model.set_scaling(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0, 20.0, 30.0]))
    image, _ = batch('change', 2)
    assert model.normalize(image).shape == (2, 6, 16, 16)
    torch.testing.assert_close(model.normalize(image)[:, 4], (image[:, 1, 1] - 2) / 20)
    torch.testing.assert_close(model.denormalize(model.normalize(image)), image)


def test_ignored_pixels_are_left_out_of_the_cross_entropy() -> None:
    model = TwoStreamAutoencoder('segmentation', 3, 4, 255, width=(32, 32), depth=1).eval()
    image, mask = batch('segmentation', 4)
    mask[:, :8] = 255
    torch.manual_seed(0)
    loss = model.losses(image, mask)['cross_entropy']
    torch.manual_seed(0)
    posterior = model.encode(image, mask)
    logits = model.decode(posterior.sample())[1]
    torch.testing.assert_close(loss, F.cross_entropy(logits, mask, ignore_index=255))
    with pytest.raises(SpecDMError, match='holds 7'):
        model.encode(image, torch.full_like(mask, 7))


def test_all_zero_and_wholly_unlabelled_batches_stay_finite() -> None:
    model = TwoStreamAutoencoder('segmentation', 3, 4, 255, width=(32, 32), depth=1)
    losses = model.losses(torch.zeros(1, 3, 16, 16), torch.full((1, 16, 16), 255))
    sum(losses.values()).backward()  # type: ignore[union-attr]
    assert all(value.isfinite() for value in losses.values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_patch_size_must_fold() -> None:
    import dataclasses

    spec = dataclasses.replace(tiny_spec('segmentation'), patch_size=18)
    with pytest.raises(SpecDMError, match='18 px is not divisible by the downsampling factor 4'):
        TwoStreamAutoencoder('segmentation', 3, 4).check_patch_size(spec)
