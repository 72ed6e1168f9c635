"""No tensor of the CPU meets one of a GPU: PyTorch knows devices of results that it only imagines, without a GPU.

Forward alone: what runs backwards is on the device of what ran forwards.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.conftest import tiny_spec
from torchgeo_specdm.diffusion import Clocks, LogitNormalClocks, NoiseSchedule, denoising_loss
from torchgeo_specdm.experiments import grid
from torchgeo_specdm.experiments.named import MODELS
from torchgeo_specdm.models import JointDenoiser, build_autoencoder

GPU = torch.device('cuda')


class Imagined(FakeTensorMode):
    """Numbers that a program asks a tensor for are 0."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return False
        return super().__torch_dispatch__(func, types, args, kwargs)


@contextmanager
def imagined_gpu() -> Iterator[None]:
    # What is computed once and kept must be real
    _ = NoiseSchedule().alphas_cumprod
    with Imagined(allow_non_fake_inputs=True):
        yield


def batch(task: Any) -> tuple[torch.Tensor, torch.Tensor]:
    spec = tiny_spec(task)
    image = torch.rand(2, *spec.image_shape, device=GPU)
    return image, torch.zeros(2, *spec.mask_shape, dtype=torch.long, device=GPU)


def test_imagined_devices_are_told_apart() -> None:
    with imagined_gpu(), pytest.raises(RuntimeError, match='cuda:0'):
        torch.ones(3, device=GPU) + torch.ones(3)


@pytest.mark.parametrize('task', ['segmentation', 'change'])
@pytest.mark.parametrize('kind', ['two_stream', 'single_stream', 'pixels'])
def test_an_autoencoder(kind: str, task: str) -> None:
    spec = tiny_spec(task)
    data = {'kind': kind, 'task': task, 'num_bands': spec.num_bands, 'num_classes': spec.num_classes}
    with imagined_gpu():
        with GPU:
            model = build_autoencoder(data)
        if kind == 'pixels':
            assert model.encode(*batch(task)).mean.device.type == 'cuda'
        else:
            losses = model.losses(*batch(task), halved=True)
            assert {loss.device.type for loss in losses.values()} == {'cuda'}


@pytest.mark.parametrize('clocks', [Clocks((6,)), Clocks((4, 2), 0.5, 0.5), LogitNormalClocks((4, 2), 0.5)])
@pytest.mark.parametrize('gamma', [None, 5.0])
def test_the_denoiser(clocks: Clocks, gamma: float | None) -> None:
    told: Any = {'num_classes': 3, 'orientations': True, 'clocks': len(clocks.channels)}
    with imagined_gpu():
        with GPU:
            denoiser = JointDenoiser(6, 4, widths=(32,), depth=1, **told)
            z, shares, orientation = torch.rand(2, 6, 4, 4), torch.rand(2, 3), torch.zeros(2, dtype=torch.long)
        loss = denoising_loss(
            lambda z, t: denoiser(z, t, shares, orientation), z, NoiseSchedule(), clocks=clocks, min_snr_gamma=gamma
        )
        assert loss.device.type == 'cuda'


@pytest.mark.parametrize(('task', 'model'), [(task, model) for task, names in MODELS.items() for model in names])
def test_a_model_of_an_experiment(task: str, model: str) -> None:
    spec = tiny_spec(task)
    with imagined_gpu():
        with GPU:
            network = grid.build(model, spec, 0)
        # The patches of that spec are smaller than a stride of these
        image = torch.rand(2, *spec.image_shape[:-2], 64, 64, device=GPU)
        assert network.logits(image).device.type == 'cuda'
