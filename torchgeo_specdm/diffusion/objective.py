r"""The training objective (equation 4 of the paper): predict the noise that was added, or the velocity.

.. math:: L = \mathbb{E}_{z_0, \epsilon, t} \| \epsilon - \epsilon_\theta(z_t, t) \|
"""

from collections.abc import Callable

import torch
from torch import Tensor

from torchgeo_specdm.diffusion.schedule import NoiseSchedule

Denoiser = Callable[[Tensor, Tensor], Tensor]
Distance = Callable[[Tensor, Tensor], Tensor]


def denoising_loss(
    denoiser: Denoiser,
    z: Tensor,
    schedule: NoiseSchedule,
    distance: Distance = torch.nn.functional.mse_loss,
    generator: torch.Generator | None = None,
) -> Tensor:
    """One draw of the objective.

    Args:
        denoiser: Maps noisy latents ``(B, Z, h, w)`` and steps ``(B,)`` to what ``schedule`` says it predicts.
        z: Clean, normalised joint latents ``(B, Z, h, w)``.
        schedule: The forward process.
        distance: ``mse_loss`` or ``l1_loss``.
        generator: A CPU generator, for a repeatable draw.

    Returns:
        The mean distance, a scalar.
    """
    device = z.device if generator is None else 'cpu'
    noise = torch.randn(z.shape, generator=generator, device=device).to(z)
    t = torch.randint(schedule.num_train_timesteps, (len(z),), generator=generator, device=device).to(z.device)
    return distance(denoiser(schedule.add_noise(z, noise, t), t), schedule.target(z, noise, t))
