"""Denoisers made of denoisers: guided by a weaker one, steered, with streams held as given, or with sides apart.

Each function takes denoisers and returns one, so that a solver needs to know nothing of it.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from torchgeo_specdm.diffusion.objective import GIVEN_STEP, Clocks, Denoiser
from torchgeo_specdm.diffusion.schedule import NoiseSchedule


def guide(main: Denoiser, weak: Denoiser, scale: float) -> Denoiser:
    """Move the answer of ``main`` away from that of ``weak``.

    With an unconditional ``weak`` this is classifier-free guidance (Ho & Salimans, 2022), with a worse network it is
    autoguidance (Karras et al., 2024), and with :func:`apart` it makes images and masks agree.

    Args:
        main: The denoiser.
        weak: The one to move away from.
        scale: 1 is ``main`` alone.
    """
    if scale == 1:
        return main

    def guided(z: Tensor, clocks: Tensor) -> Tensor:
        poor = weak(z, clocks)
        return poor + scale * (main(z, clocks) - poor)

    return guided


def steer(denoiser: Denoiser, schedule: NoiseSchedule, distance: Callable[[Tensor], Tensor]) -> Denoiser:
    """Move the clean latents that ``denoiser`` means to where ``distance`` is zero, at each of its evaluations.

    The gradient is that of the distance alone, not of the denoiser, so it costs no further evaluation of it (backward
    guidance of Bansal et al., 2023). The step is Polyak's (1969), exact where the distance is linear; no latent
    moves by more than its standard deviation at once.

    Args:
        denoiser: Maps noisy latents and steps to what ``schedule`` says it predicts.
        schedule: The forward process.
        distance: Of clean latents ``(B, Z, h, w)`` to a request, ``(B,)``; differentiable, zero where it is met.
    """

    def steered(z: Tensor, t: Tensor) -> Tensor:
        clean = schedule.clean(z, denoiser(z, t), t)
        # Lightning evaluates in inference mode, where nothing has a gradient
        with torch.inference_mode(False), torch.enable_grad():
            start = clean.clone().requires_grad_()
            missed = distance(start)
            (slope,) = torch.autograd.grad(missed.sum(), start)
        steepness = slope.square().sum((1, 2, 3)).clamp_min(torch.finfo(slope.dtype).tiny)
        step = (missed.detach() / steepness).view(-1, 1, 1, 1) * slope
        return schedule.answer(z, clean - step.clamp(-1, 1), t)

    return steered


def hold(
    denoiser: Denoiser,
    given: Tensor,
    known: Sequence[bool],
    clocks: Clocks,
    schedule: NoiseSchedule,
    noise: Tensor,
) -> Denoiser:
    """Show ``denoiser`` the given streams instead of what the solver has in their place.

    Args:
        denoiser: Maps noisy latents and steps ``(B, S)`` to its prediction.
        given: Clean, normalised latents ``(B, Z, h, w)``, read where ``known``.
        known: Which streams are given, S of them.
        clocks: Of the streams.
        schedule: The forward process.
        noise: ``(B, Z, h, w)``, that of the given streams' time step.
    """
    held = torch.tensor([list(known)], device=given.device)
    channels = clocks.per_channel(held)[:, :, None, None]
    first = torch.full((len(given),), GIVEN_STEP, dtype=torch.long, device=given.device)
    shown = schedule.add_noise(given, noise, first)

    def holding(z: Tensor, t: Tensor) -> Tensor:
        steps = t.to(given.device)[:, None].expand(-1, held.shape[1]).masked_fill(held, GIVEN_STEP)
        return denoiser(torch.where(channels, shown, z), steps)

    return holding


def apart(denoiser: Denoiser, clocks: Clocks, noise: Tensor, last: int) -> Denoiser:
    """Answer for the images and for the mask without sight of the other, as if the two were independent.

    To :func:`guide` away from it draws samples where the joint distribution exceeds the product of its two sides, as
    UniDiffuser does (Bao et al., 2023). It takes two evaluations.

    Args:
        denoiser: Maps noisy latents and steps ``(B, S)`` to its prediction.
        clocks: Of the streams; the mask is the last one.
        noise: ``(B, Z, h, w)``, shown for the side that is out of sight.
        last: The time step of pure noise.
    """
    mask = torch.arange(len(clocks.channels)) == len(clocks.channels) - 1

    def parted(z: Tensor, t: Tensor) -> Tensor:
        steps = t.to(z.device)[:, None].expand(-1, len(mask)) if t.ndim == 1 else t
        alone = torch.zeros_like(z)
        for side in (mask, ~mask):
            seen = side.to(z.device)[None]
            channels = clocks.per_channel(seen)[:, :, None, None]
            answer = denoiser(torch.where(channels, z, noise.to(z)), steps.masked_fill(~seen, last))
            alone = torch.where(channels, answer, alone)
        return alone

    return parted
