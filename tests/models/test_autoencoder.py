import pytest
import torch
from torch.nn import functional as F

from tests.conftest import tiny_spec
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.models import (
    PixelAutoencoder,
    Posterior,
    SingleStreamAutoencoder,
    TwoStreamAutoencoder,
    build_autoencoder,
)
from torchgeo_specdm.spec import class_index


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


def test_the_divergence_of_the_mask_is_that_of_its_stream() -> None:
    image, mask = batch('segmentation', 4)
    two = TwoStreamAutoencoder('segmentation', 3, 4, latent_channels=(4, 2), width=(32, 32), depth=1)
    first, second = two.losses(image, mask), two.losses(image, (mask + 1) % 4)
    assert first['kl'] == second['kl']
    assert first['mask_kl'] != second['mask_kl']
    found = two.encode(image, mask)
    normal = torch.distributions.Normal(found.mean, (0.5 * found.log_variance).exp())
    total = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum()
    torch.testing.assert_close((first['kl'] + first['mask_kl']) * image.numel(), total)
    one = SingleStreamAutoencoder('segmentation', 3, 4, latent_channels=(4, 2), width=(32, 32), depth=1)
    assert one.losses(image, mask)['mask_kl'] == 0


def test_a_mask_that_sees_the_image_does_not_train_it() -> None:
    model = TwoStreamAutoencoder(
        'change', 3, 2, latent_channels=(4, 2), width=(32, 32), depth=1, separate_dates=True, mask_sees_image=True
    )
    image, mask = batch('change', 2)
    model.losses(image, mask)['cross_entropy'].backward()
    assert not any(p.grad is not None and p.grad.any() for p in model.image_branch.parameters())
    z = model.encode(image, mask).mean.detach()
    other = z.clone()
    other[:, 5] += 1
    # Date 2 decides over the mask too, and the mask over no image
    assert (model.decode(other)[1] - model.decode(z)[1]).abs().max() > 1e-6
    other = z.clone()
    other[:, -1] += 1
    torch.testing.assert_close(model.decode(other)[0], model.decode(z)[0])
    with pytest.raises(SpecDMError, match='space_to_depth'):
        TwoStreamAutoencoder('change', 3, 2, architecture='kl', mask_sees_image=True)


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


def change_autoencoder() -> TwoStreamAutoencoder:
    return TwoStreamAutoencoder('change', 3, 2, latent_channels=(4, 2), width=(32, 32), depth=1, separate_dates=True)


def test_separate_dates_share_an_encoder_and_do_not_see_each_other() -> None:
    model = change_autoencoder()
    image, mask = batch('change', 2)
    z = model.encode(image, mask).mean
    assert [stream.name for stream in model.streams] == ['image1', 'image2', 'mask']
    swapped = model.encode(image.flip(1), mask).mean
    torch.testing.assert_close(swapped, torch.cat([z[:, 4:8], z[:, :4], z[:, 8:]], 1))
    torch.testing.assert_close(model.decode(swapped)[0], model.decode(z)[0].flip(1))


@pytest.mark.parametrize(
    ('names', 'channels'),
    [(('mask',), [8, 9]), (('image',), range(8)), (('image1', 'mask'), [0, 1, 2, 3, 8, 9]), (('image2',), range(4, 8))],
)
def test_given_streams_are_encoded_as_in_the_whole(names: tuple[str, ...], channels: list[int]) -> None:
    model = change_autoencoder()
    model.set_scaling(torch.tensor(1000.0), torch.tensor(300.0))
    image, mask = batch('change', 2)
    parts = {'mask': mask, 'image': image, 'image1': image[:, 0], 'image2': image[:, 1]}
    z, known = model.encode_given({name: parts[name] for name in names})
    expected = torch.zeros_like(z)
    expected[:, channels] = model.encode(image, mask).mean[:, channels]
    torch.testing.assert_close(z, expected)
    assert sum(s.channels for s, given in zip(model.streams, known, strict=True) if given) == len(channels)


def test_everything_or_nothing_or_a_strange_thing_cannot_be_given() -> None:
    model = TwoStreamAutoencoder('segmentation', 3, 4, width=(32, 32), depth=1)
    image, mask = batch('segmentation', 4)
    for given in ({}, {'image': image, 'mask': mask}):
        with pytest.raises(SpecDMError, match='leave at least one'):
            model.encode_given(given)
    with pytest.raises(SpecDMError, match='image, mask'):
        model.encode_given({'image1': image})
    with pytest.raises(SpecDMError, match='cannot encode mask alone'):
        SingleStreamAutoencoder('segmentation', 3, 4).encode_given({'mask': mask})


@pytest.mark.parametrize('task', ['segmentation', 'change'])
def test_the_baselines_follow_the_same_contract(task: str) -> None:
    image, mask = batch(task, 2)
    single = SingleStreamAutoencoder(task, 3, 2, latent_channels=(4, 2), width=(32, 32))  # type: ignore[arg-type]
    decoded, logits = single.decode(single.encode(image, mask).mean)
    assert single.channels == 6
    assert decoded.shape == image.shape
    assert logits.shape == (2, 2, 16, 16)
    # One network: the image's loss reaches what the mask's loss reaches
    single.losses(image, mask)['l1'].backward()
    assert all(p.grad is not None for p in single.parameters())


@pytest.mark.parametrize('classes', [2, 5, 8])
def test_pixels_lose_nothing(classes: int) -> None:
    model = PixelAutoencoder('segmentation', 3, classes, 255)
    model.set_scaling(torch.tensor(1000.0), torch.tensor(300.0))
    image, mask = batch('segmentation', classes)
    z = model.encode(image, mask).mean
    assert model.channels == z.shape[1] == 3 + {2: 1, 5: 3, 8: 3}[classes]
    # Half of a bit of noise changes no class that uses all codes
    made, logits = model.decode(
        z + 0.4 * torch.rand_like(z) * torch.tensor([0.0] * 3 + [1.0] * (z.shape[1] - 3))[:, None, None]
    )
    torch.testing.assert_close(made, image)
    assert torch.equal(class_index(logits, 'segmentation'), mask)
    mask[:, :4] = 255
    assert not model.encode(image, mask).mean[:, 3:, :4].any()
    given, known = model.encode_given({'mask': mask})
    torch.testing.assert_close(given[:, 3:], model.encode(image, mask).mean[:, 3:])
    assert known == (False, True)


@pytest.mark.parametrize('kind', [TwoStreamAutoencoder, SingleStreamAutoencoder, PixelAutoencoder])
def test_a_config_builds_the_same_network(kind: type) -> None:
    model = kind('change', 3, 2)
    copy = build_autoencoder(model.config)
    assert type(copy) is kind
    assert copy.config == model.config
    copy.load_state_dict(model.state_dict())


def test_a_config_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(SpecDMError, match='two_stream, single_stream, pixels'):
        build_autoencoder({'kind': 'triple'})


def test_the_halved_loss_is_small_for_latents_that_are_block_means() -> None:
    """An autoencoder that keeps the means of its blocks commutes with halving; one that keeps corners does not."""

    class Blocks(PixelAutoencoder):
        corner = False

        def _posterior(self, x: torch.Tensor, y: torch.Tensor) -> Posterior:
            posterior = super()._posterior(x, y)
            mean = posterior.mean[..., ::2, ::2] if self.corner else F.avg_pool2d(posterior.mean, 2)
            return Posterior(mean, torch.full_like(mean, -30.0))

        def _decode(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            x, logits = super()._decode(z.repeat_interleave(2, -1).repeat_interleave(2, -2))
            return x, logits

    model = Blocks('segmentation', 3, 2)
    image = 1000 + 300 * torch.randn(2, 3, 4, 4).repeat_interleave(4, -1).repeat_interleave(4, -2)
    mask = torch.zeros(2, 16, 16, dtype=torch.long)
    assert 'halved' not in model.losses(image, mask)
    smooth = model.losses(image, mask, halved=True)['halved']
    torch.testing.assert_close(smooth, torch.tensor(0.0), atol=1e-3, rtol=0)
    model.corner = True
    noisy = image + 300 * torch.randn_like(image)
    assert model.losses(noisy, mask, halved=True)['halved'] > 100
