r"""The training objective (equation 4 of the paper): predict the noise that was added, or the velocity.

.. math:: L = \mathbb{E}_{z_0, \epsilon, t} \| \epsilon - \epsilon_\theta(z_t, t) \|

With a clock per stream, :math:`t` is a vector: some streams are given and only the others are noisy, as in UniDiffuser
(Bao et al., 2023).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from torchgeo_specdm.diffusion.schedule import NoiseSchedule

Denoiser = Callable[[Tensor, Tensor], Tensor]
Distance = Callable[..., Tensor]

GIVEN_STEP = 0
"""The time step of a given stream: it carries the little noise of the first step, in training and in sampling."""


@dataclass(frozen=True)
class Clocks:
    """How the time steps of the streams are drawn.

    Args:
        channels: Latent channels of each stream that has a clock; one entry for a clock of all.
        together: Share of the draws in which all streams have the same time step. In the others a random part of the
            streams is given, and the rest have one time step.
        absent: Share of the latter draws in which that part is absent, pure noise, instead of given.
    """

    channels: tuple[int, ...]
    together: float = 1.0
    absent: float = 0.0

    def draw(
        self,
        count: int,
        schedule: NoiseSchedule,
        generator: torch.Generator | None = None,
        device: torch.device | str = 'cpu',
    ) -> tuple[Tensor, Tensor]:
        """Time steps of ``count`` samples, drawn on a device: a GPU would be waited for to copy them there.

        Returns:
            Steps ``(count, S)`` int64 and whether a stream is to be generated, ``(count, S)`` bool.
        """
        streams = len(self.channels)
        t = self.times(count, schedule, generator, device)[:, None].expand(-1, streams)
        if streams == 1 or self.together >= 1:
            return t, torch.ones_like(t, dtype=torch.bool)
        apart = torch.rand(count, generator=generator, device=device) >= self.together
        # The numbers 1 ... 2^S - 2 are the proper, non-empty sets of streams
        sets = torch.randint(1, 2**streams - 1, (count, 1), generator=generator, device=device)
        given = (sets >> torch.arange(streams, device=device)) % 2 == 1
        given &= apart[:, None]
        t = t.masked_fill(given, GIVEN_STEP)
        if self.absent:
            absent = torch.rand((count, 1), generator=generator, device=device) < self.absent
            t = t.masked_fill(given & absent, schedule.num_train_timesteps - 1)
        return t, ~given

    def times(
        self,
        count: int,
        schedule: NoiseSchedule,
        generator: torch.Generator | None = None,
        device: torch.device | str = 'cpu',
    ) -> Tensor:
        """Time steps of the noisy streams, ``(count,)`` int64: all equally often."""
        return torch.randint(schedule.num_train_timesteps, (count,), generator=generator, device=device)

    def per_channel(self, values: Tensor) -> Tensor:
        """``(B, S)`` repeated over the channels of each stream, ``(B, Z)``."""
        streams = zip(torch.split(values, 1, 1), self.channels, strict=True)
        return torch.cat([value.expand(-1, channels) for value, channels in streams], 1)


class LogitNormalClocks(Clocks):
    """Middle noise levels more often: places s on flow matching's path are logit-normal (Esser et al., 2024).

    The path (1 - s) z + s e (Lipman et al., 2023), scaled to unit variance, passes through the latents of this schedule
    where noise over signal is s / (1 - s). Arguments are those of :class:`Clocks`.
    """

    def times(
        self,
        count: int,
        schedule: NoiseSchedule,
        generator: torch.Generator | None = None,
        device: torch.device | str = 'cpu',
    ) -> Tensor:
        """The time steps nearest to those places, ``(count,)`` int64."""
        place, levels = self.places(count, generator, device), schedule.snr_on(device).rsqrt()
        return torch.searchsorted(levels, place / (1 - place)).clamp(max=schedule.num_train_timesteps - 1)

    def places(
        self, count: int, generator: torch.Generator | None = None, device: torch.device | str = 'cpu'
    ) -> Tensor:
        """Places s, ``(count,)`` in (0, 1)."""
        return torch.randn(count, generator=generator, device=device).sigmoid()


def denoising_loss(
    denoiser: Denoiser,
    z: Tensor,
    schedule: NoiseSchedule,
    distance: Distance = torch.nn.functional.mse_loss,
    generator: torch.Generator | None = None,
    *,
    clocks: Clocks | None = None,
    min_snr_gamma: float | None = None,
) -> Tensor:
    """One draw of the objective.

    Args:
        denoiser: Maps noisy latents ``(B, Z, h, w)`` and steps ``(B, S)`` to what ``schedule`` says it predicts.
        z: Clean, normalised joint latents ``(B, Z, h, w)``.
        schedule: The forward process.
        distance: ``mse_loss`` or ``l1_loss``.
        generator: A CPU generator, for a repeatable draw.
        clocks: Of the streams; one clock for all by default.
        min_snr_gamma: Weigh time steps by their signal-to-noise ratio, cut at this value; by default all weigh 1.

    Returns:
        The mean distance over what is not given, a scalar.
    """
    clocks = clocks or Clocks((z.shape[1],))
    device = z.device if generator is None else 'cpu'
    noise = torch.randn(z.shape, generator=generator, device=device).to(z)
    steps, wanted = (x.to(z.device) for x in clocks.draw(len(z), schedule, generator, device))
    t = clocks.per_channel(steps)
    weight = clocks.per_channel(wanted).to(z)
    total = weight.sum()
    if min_snr_gamma is not None:
        weight = weight * schedule.min_snr_weight(t, min_snr_gamma)
    prediction = denoiser(schedule.add_noise(z, noise, t), steps)
    error = distance(prediction, schedule.target(z, noise, t), reduction='none').mean((2, 3))
    return (weight * error).sum() / total
