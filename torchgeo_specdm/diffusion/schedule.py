r"""The forward process (equation 3 of the paper; Ho et al., 2020).

.. math:: z_t = \sqrt{\bar\alpha_t} z_0 + \sqrt{1 - \bar\alpha_t}\, \epsilon, \qquad
          \bar\alpha_t = \prod_{s \le t} (1 - \beta_s), \qquad
          \mathrm{SNR}_t = \bar\alpha_t / (1 - \bar\alpha_t)

LDM's "linear" schedule, which the paper cites, is linear in :math:`\sqrt\beta`: diffusers calls it ``scaled_linear``.

A denoiser predicts the noise :math:`\epsilon`, as in the paper, or the velocity (Salimans & Ho, 2022)

.. math:: v_t = \sqrt{\bar\alpha_t}\, \epsilon - \sqrt{1 - \bar\alpha_t}\, z_0.

In nearly pure noise, :math:`\epsilon` is known and teaches nothing about :math:`z_0`, while :math:`v_t` is
:math:`-z_0`: a short training learns the large structures, brightness above all, from the velocity.
"""

from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

import torch
from torch import Tensor

from torchgeo_specdm.errors import SpecDMError

Prediction = Literal['epsilon', 'v_prediction']
PREDICTIONS: tuple[Prediction, ...] = ('epsilon', 'v_prediction')
_SCHEDULES = ('scaled_linear', 'linear')
_MOST_STEPS = 100_000


@dataclass(frozen=True)
class NoiseSchedule:
    """The betas of the forward process, and what a denoiser predicts in it.

    Args:
        num_train_timesteps: Number of time steps, T.
        beta_start: First beta.
        beta_end: Last beta.
        beta_schedule: ``scaled_linear`` (linear in the root of beta) or ``linear``.
        prediction_type: ``epsilon`` or ``v_prediction``; the names are diffusers'.

    Raises:
        SpecDMError: There is no such prediction or schedule, or the betas are no rising shares of noise.
    """

    num_train_timesteps: int = 1000
    beta_start: float = 0.0015
    beta_end: float = 0.0155
    beta_schedule: str = 'scaled_linear'
    prediction_type: str = 'epsilon'

    def __post_init__(self) -> None:
        if self.prediction_type not in PREDICTIONS:
            raise SpecDMError(f'prediction is {self.prediction_type!r}; it must be one of {", ".join(PREDICTIONS)}')
        if self.beta_schedule not in _SCHEDULES:
            raise SpecDMError(f'beta_schedule is {self.beta_schedule!r}; it must be one of {", ".join(_SCHEDULES)}')
        if not (0 < self.beta_start <= self.beta_end < 1 and 1 <= self.num_train_timesteps <= _MOST_STEPS):
            raise SpecDMError(
                f'beta_start {self.beta_start} and beta_end {self.beta_end} must rise between 0 and 1, in 1 to '
                f'{_MOST_STEPS} steps, not {self.num_train_timesteps}'
            )

    def to_dict(self) -> dict[str, Any]:
        """Arguments that any scheduler of diffusers understands."""
        return asdict(self)

    @cached_property
    def _scheduler(self) -> Any:
        # Here, not above: it takes seconds, and who reads a checkpoint's description does without
        from diffusers import DDPMScheduler

        return DDPMScheduler(**self.to_dict(), clip_sample=False)

    @property
    def alphas_cumprod(self) -> Tensor:
        """The cumulative alphas, ``(T,)``, falling."""
        return self._scheduler.alphas_cumprod  # type: ignore[no-any-return]

    @property
    def snr(self) -> Tensor:
        """Signal-to-noise ratio at each step, ``(T,)``, falling."""
        return self.snr_on('cpu')

    def snr_on(self, device: torch.device | str) -> Tensor:
        """The same on a device, ``(T,)``."""
        alphas = _alphas_on(self, torch.device(device))
        return alphas / (1 - alphas)

    def add_noise(self, z: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Latents and noise ``(B, Z, h, w)`` at steps ``t``, ``(B,)`` or, each channel at its own, ``(B, Z)``."""
        signal, spread = self._scales(z, t)
        return signal * z + spread * noise

    def target(self, z: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What a denoiser of :meth:`add_noise`'s result should answer, shaped as ``z``."""
        if self.prediction_type == 'epsilon':
            return noise
        signal, spread = self._scales(z, t)
        return signal * noise - spread * z

    def clean(self, z: Tensor, prediction: Tensor, t: Tensor) -> Tensor:
        """The latents that a denoiser's answer means, shaped as ``z``: inverse of :meth:`answer`."""
        signal, spread = self._scales(z, t)
        return (
            (z - spread * prediction) / signal
            if self.prediction_type == 'epsilon'
            else signal * z - spread * prediction
        )

    def answer(self, z: Tensor, clean: Tensor, t: Tensor) -> Tensor:
        """What a denoiser answers that takes noisy ``z`` for ``clean``, shaped as ``z``."""
        signal, spread = self._scales(z, t)
        return self.target(clean, (z - signal * clean) / spread, t)

    def min_snr_weight(self, t: Tensor, gamma: float) -> Tensor:
        r"""Weight of the squared error at steps ``t`` (Hang et al., 2023), shaped as ``t``.

        It is :math:`\min(\mathrm{SNR}, \gamma)` on the error of :math:`z_0`, expressed for what is predicted.
        """
        snr = self.snr_on(t.device)[t]
        return snr.clamp(max=gamma) / (snr if self.prediction_type == 'epsilon' else snr + 1)

    def _scales(self, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha = _alphas_on(self, z.device)[t]
        alpha = alpha.view(len(z), -1, 1, 1)
        return alpha.sqrt().to(z), (1 - alpha).sqrt().to(z)


@lru_cache
def _alphas_on(schedule: NoiseSchedule, device: torch.device) -> Tensor:
    """Copied once: a GPU is waited for at each copy."""
    # Whoever asks first may be validating, and a training reads the same tensor later
    with torch.inference_mode(False):
        return schedule.alphas_cumprod.to(device)
