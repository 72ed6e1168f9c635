r"""The forward process (equation 3 of the paper; Ho et al., 2020).

.. math:: z_t = \sqrt{\bar\alpha_t} z_0 + \sqrt{1 - \bar\alpha_t}\, \epsilon, \qquad
          \bar\alpha_t = \prod_{s \le t} (1 - \beta_s), \qquad
          \mathrm{SNR}_t = \bar\alpha_t / (1 - \bar\alpha_t)

LDM's "linear" schedule, which the paper cites, is linear in :math:`\sqrt\beta`: diffusers calls it ``scaled_linear``.
"""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from diffusers import DDPMScheduler
from torch import Tensor


@dataclass(frozen=True)
class NoiseSchedule:
    """The betas of the forward process.

    Args:
        num_train_timesteps: T.
        beta_start: First beta.
        beta_end: Last beta.
        beta_schedule: ``scaled_linear`` (linear in the root of beta) or ``linear``.
    """

    num_train_timesteps: int = 1000
    beta_start: float = 0.0015
    beta_end: float = 0.0155
    beta_schedule: str = 'scaled_linear'

    def to_dict(self) -> dict[str, Any]:
        """Arguments that any scheduler of diffusers understands."""
        return asdict(self) | {'prediction_type': 'epsilon'}

    @cached_property
    def _scheduler(self) -> DDPMScheduler:
        return DDPMScheduler(**self.to_dict(), clip_sample=False)

    @property
    def alphas_cumprod(self) -> Tensor:
        """The cumulative alphas, ``(T,)``, falling."""
        return self._scheduler.alphas_cumprod  # type: ignore[no-any-return]

    @property
    def snr(self) -> Tensor:
        """Signal-to-noise ratio at each step, ``(T,)``, falling."""
        return self.alphas_cumprod / (1 - self.alphas_cumprod)

    def add_noise(self, z: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Latents ``(B, Z, h, w)`` at time steps ``t (B,)``."""
        return self._scheduler.add_noise(z, noise, t)  # type: ignore[no-any-return]
