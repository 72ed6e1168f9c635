"""How fast pairs are sampled where image and mask are diffused as pixels, by a library that is made for that.

The library is denoising-diffusion-pytorch with its own U-Net, its own sampler and its own number of steps, on as many
channels as the bands and the classes make. Its weights are random, on which speed does not depend.
"""

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from loading_rows.measured import Row, Size, Times, one_thread
from loading_rows.sampling import another_block, warm
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.pipeline import SpecDMPipeline

LIBRARY = 'denoising_diffusion_pytorch'
# Pairs at a time: its thousand steps on more would take an hour of five repetitions
_BATCH = 2
# Largest difference between the numbers of parameters that pass for equal
_TOLERANCE = 0.05


def is_installed() -> bool:
    """Whether the library is there."""
    return find_spec(LIBRARY) is not None


@one_thread()
def over_joint_pixels(checkpoint: str, times: Times, size: Size, folder: Path) -> list[Row]:
    """Pairs per second over the library's sampler at its defaults; arguments as of the other rows of sampling."""
    from denoising_diffusion_pytorch import GaussianDiffusion

    dataset = warm(checkpoint, batch_size=_BATCH)
    pipeline = SpecDMPipeline.from_pretrained(dataset.checkpoint)
    ours = count_parameters(pipeline.autoencoder) + count_parameters(pipeline.denoiser)
    spec = dataset.spec
    network = equal_network(spec.num_dates * spec.num_bands + spec.num_classes, ours)
    # Its own default is a thousand
    diffusion = GaussianDiffusion(network, image_size=spec.patch_size, timesteps=min(1000, size.steps))
    times.measure(ours=another_block(dataset), pixels=lambda number: partial(_pairs, diffusion, spec.num_classes))
    ratio = times.median('pixels') / times.median('ours')
    note = (
        f'{times.median("pixels"):.3g} s for its {diffusion.num_timesteps} steps against {times.median("ours"):.3g} s '
        f'for {_BATCH} pairs, one core; {count_parameters(network) / 1e6:.2f} M parameters against {ours / 1e6:.2f} M'
    )
    return [Row('pairs/s over denoising-diffusion-pytorch on joint pixels', ratio, '>= 45', ratio >= 45, note)]


def equal_network(channels: int, parameters: int) -> nn.Module:
    """The library's U-Net of the width at which it has the nearest number of parameters.

    Raises:
        SpecDMError: No width comes near.
    """
    from denoising_diffusion_pytorch import Unet

    def count(dim: int) -> int:
        with torch.device('meta'):
            return count_parameters(Unet(dim, channels=channels))

    # Widths are even, as half of the embedding of the time are sines
    dim = 8
    while count(dim + 2) <= parameters:
        dim += 2
    dim = min(dim, dim + 2, key=lambda width: abs(count(width) - parameters))
    if abs(count(dim) / parameters - 1) > _TOLERANCE:
        raise SpecDMError(f'no width of its U-Net has about {parameters} parameters; width {dim} has {count(dim)}')
    found: nn.Module = Unet(dim, channels=channels).eval()
    return found


def count_parameters(network: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def _pairs(diffusion: Any, classes: int) -> tuple[Tensor, Tensor]:
    found = diffusion.sample(batch_size=_BATCH)
    return found[:, :-classes], found[:, -classes:].argmax(1)
