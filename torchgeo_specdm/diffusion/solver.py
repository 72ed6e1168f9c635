"""From noise to latents: diffusers' solvers, driven by one generator per sample.

A sample is a function of its own generator alone: its first noise and, for stochastic solvers, the noise of each step
are drawn from that generator, whatever else is in the batch.
"""

from collections.abc import Sequence
from pkgutil import resolve_name
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from torchgeo_specdm.diffusion.objective import Denoiser
from torchgeo_specdm.diffusion.schedule import NoiseSchedule
from torchgeo_specdm.draws import mixed_generator
from torchgeo_specdm.errors import SpecDMError

# Steps evenly spaced in log sigma. Evenly spaced time steps leave the last one so long that, at 20 steps, a Gaussian
# of standard deviation 0.1 comes out at 0.027; this spacing gives 0.09 (tests/diffusion/test_solver.py).
_SPACING = {'use_exponential_sigmas': True}

_DPM = 'diffusers:DPMSolverMultistepScheduler'

# Where the class of each is, and its arguments. By name: diffusers takes seconds to import, and who reads samples does
# without
SOLVERS: dict[str, tuple[str, dict[str, Any]]] = {
    'ddpm': ('diffusers:DDPMScheduler', {'clip_sample': False}),
    'ddim': (
        'diffusers:DDIMScheduler',
        {'clip_sample': False, 'set_alpha_to_one': True, 'timestep_spacing': 'trailing'},
    ),
    'dpmsolver++': (_DPM, {'algorithm_type': 'dpmsolver++', 'solver_order': 2, **_SPACING}),
    'sde-dpmsolver++': (_DPM, {'algorithm_type': 'sde-dpmsolver++', 'solver_order': 2, **_SPACING}),
    'unipc': ('diffusers:UniPCMultistepScheduler', {'solver_order': 2, **_SPACING}),
    'heun': ('diffusers:HeunDiscreteScheduler', dict(_SPACING)),
}
# Solvers whose step draws noise
_STOCHASTIC = frozenset({'ddpm', 'sde-dpmsolver++'})


def index_generator(seed: int, index: int, purpose: int = 0) -> torch.Generator:
    """The CPU generator of sample ``index``: its draws depend on ``seed``, ``index`` and their ``purpose`` alone."""
    words = (seed, index, purpose) if purpose else (seed, index)
    return mixed_generator(*words)


def make_solver(name: str, schedule: NoiseSchedule) -> Any:
    """A fresh scheduler of diffusers.

    Raises:
        SpecDMError: There is no solver of that name.
    """
    if name not in SOLVERS:
        raise SpecDMError(f'solver is {name!r}; it must be one of {", ".join(SOLVERS)}')
    kind, settings = SOLVERS[name]
    return resolve_name(kind)(**schedule.to_dict(), **settings)


@torch.no_grad()
def solve(
    denoiser: Denoiser,
    shape: Sequence[int],
    generators: Sequence[torch.Generator],
    schedule: NoiseSchedule,
    *,
    solver: str = 'dpmsolver++',
    steps: int = 20,
    device: torch.device | str = 'cpu',
    progress: bool = False,
) -> Tensor:
    """Draw normalised latents.

    Args:
        denoiser: Maps noisy latents ``(B, Z, h, w)`` and steps ``(B,)`` to what ``schedule`` says it predicts.
        shape: ``(Z, h, w)``.
        generators: One CPU generator per sample; B of them.
        schedule: The forward process that the denoiser was trained on.
        solver: A name in :data:`SOLVERS`.
        steps: Time steps; each is one evaluation of the denoiser, two for ``heun``.
        device: Where the denoiser is.
        progress: Show a progress bar.

    Returns:
        ``(B, Z, h, w)`` on ``device``.

    Raises:
        SpecDMError: Unknown solver, or a number of steps outside 1 ... T.
    """
    if not 1 <= steps <= schedule.num_train_timesteps:
        raise SpecDMError(f'steps is {steps}; it must be between 1 and {schedule.num_train_timesteps}')
    scheduler = make_solver(solver, schedule)
    scheduler.set_timesteps(steps, device=device)
    noise = [torch.randn(tuple(shape), generator=generator) for generator in generators]
    z: Tensor = torch.stack(noise).to(device)
    z = z * scheduler.init_noise_sigma
    draws = {'generator': list(generators)} if solver in _STOCHASTIC else {}
    times = scheduler.timesteps
    # A bar that is not shown would take the lock of all bars too, which processes share: one that is killed keeps it
    for t in tqdm(times, desc='sampling', leave=False) if progress else times:
        prediction = denoiser(scheduler.scale_model_input(z, t), t.expand(len(z)))
        z = scheduler.step(prediction, t, z, **draws).prev_sample
    return z
