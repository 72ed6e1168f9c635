"""A clock per stream: what is drawn, what counts, and what a solver makes of given streams."""

import pytest
import torch
from torch import Tensor

from torchgeo_specdm.diffusion import (
    Clocks,
    LogitNormalClocks,
    NoiseSchedule,
    apart,
    denoising_loss,
    guide,
    hold,
    solve,
    steer,
)
from torchgeo_specdm.diffusion.objective import GIVEN_STEP

CLOCKS = Clocks((2, 1, 1), together=0.5)
CORRELATION = 0.8


def exact(z: Tensor, t: Tensor) -> Tensor:
    """The best prediction of the noise in two Gaussians of variance 1 and that correlation, a clock each."""
    alpha = NoiseSchedule().alphas_cumprod[t.long()].expand(len(z), 2)
    covariance = torch.tensor([[1.0, CORRELATION], [CORRELATION, 1.0]])
    signal = alpha.sqrt()
    joint = signal[:, :, None] * covariance * signal[:, None] + torch.diag_embed(1 - alpha)
    flat = z.flatten(1)
    mean = (covariance @ (signal[..., None] * torch.linalg.solve(joint, flat[..., None])))[..., 0]
    return ((flat - signal * mean) / (1 - alpha).sqrt()).view_as(z)


def test_the_documented_share_is_together_and_every_set_of_streams_is_given() -> None:
    steps, wanted = CLOCKS.draw(8000, NoiseSchedule(), torch.Generator().manual_seed(0))
    together = wanted.all(1)
    assert abs(float(together.float().mean()) - 0.5) < 0.03
    assert wanted.any(1).all()
    assert (steps[~wanted] == GIVEN_STEP).all()
    # All that is to be generated has one time
    time = steps.amax(1, keepdim=True).expand_as(steps)
    assert torch.equal(steps[wanted], time[wanted])
    sets, counts = (~wanted[~together]).long().unique(dim=0, return_counts=True)
    assert len(sets) == 6
    assert counts.min() > 0.8 * counts.float().mean()


def test_an_absent_side_is_pure_noise_as_often_as_it_should() -> None:
    clocks = Clocks((2, 1, 1), together=0.4, absent=0.25)
    steps, wanted = clocks.draw(8000, NoiseSchedule(), torch.Generator().manual_seed(0))
    apart = ~wanted.all(1)
    absent = ((steps == 999) & ~wanted).any(1)
    assert abs(float(absent[apart].float().mean()) - 0.25) < 0.03
    # A side is absent or given as a whole
    assert (steps[~wanted & absent[:, None]] == 999).all()
    assert (steps[~wanted & ~absent[:, None]] == GIVEN_STEP).all()


def test_logit_normal_times_are_those_of_the_noise_over_the_signal() -> None:
    schedule = NoiseSchedule()
    times = LogitNormalClocks((2, 1), together=0.5).times(20_000, schedule, torch.Generator().manual_seed(0))
    # s / (1 - s) of a logit-normal s is log-normal
    levels = schedule.snr[times].rsqrt().log()
    torch.testing.assert_close(levels.mean(), torch.tensor(0.0), atol=0.05, rtol=0)
    torch.testing.assert_close(levels.std(), torch.tensor(1.0), atol=0.05, rtol=0)


def test_one_clock_is_the_plain_objective() -> None:
    schedule, z = NoiseSchedule(), torch.randn(6, 4, 3, 3)
    seen: list[Tensor] = []

    def denoiser(noisy: Tensor, t: Tensor) -> Tensor:
        seen.append(t)
        return torch.zeros_like(noisy)

    loss = denoising_loss(denoiser, z, schedule, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(loss, noise.square().mean())
    assert seen[0].shape == (6, 1)


def test_what_is_given_has_no_part_in_the_loss() -> None:
    """A denoiser that is right where it is asked has no loss, whatever it answers for given streams."""
    schedule, z = NoiseSchedule(), torch.randn(64, 4, 3, 3)

    def knows(noisy: Tensor, t: Tensor) -> Tensor:
        channel = CLOCKS.per_channel(t)
        alpha = schedule.alphas_cumprod[channel][:, :, None, None]
        noise = (noisy - alpha.sqrt() * z) / (1 - alpha).sqrt()
        given = (channel == GIVEN_STEP)[:, :, None, None]
        return torch.where(given, 1e3, noise)

    generator = torch.Generator().manual_seed(0)
    assert denoising_loss(knows, z, schedule, generator=generator, clocks=CLOCKS) < 1e-6


@pytest.mark.parametrize('prediction', ['epsilon', 'v_prediction'])
def test_min_snr_weighs_the_error_of_clean_latents(prediction: str) -> None:
    """Both predictions stand for an estimate of the clean latents, whose error counts min(SNR, gamma) times."""
    schedule = NoiseSchedule(prediction_type=prediction)
    t = torch.tensor([5, 200, 600, 990])
    z, noise, wrong = torch.randn(3, 4, 1, 1, 1)
    answer = schedule.target(z, noise, t) + wrong
    alpha = schedule.alphas_cumprod[t].view(-1, 1, 1, 1)
    noisy = schedule.add_noise(z, noise, t)
    if prediction == 'epsilon':
        clean = (noisy - (1 - alpha).sqrt() * answer) / alpha.sqrt()
    else:
        clean = alpha.sqrt() * noisy - (1 - alpha).sqrt() * answer
    expected = schedule.snr[t].clamp(max=5.0) * (clean - z).square().flatten()
    found = schedule.min_snr_weight(t, 5.0) * wrong.square().flatten()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize('solver', ['dpmsolver++', 'sde-dpmsolver++', 'unipc', 'ddim'])
def test_given_streams_pull_the_others_along(solver: str) -> None:
    """Two correlated Gaussians: generated from one of them, the other has its conditional mean and spread."""
    schedule, count, clocks = NoiseSchedule(), 2000, Clocks((1, 1))
    given = torch.zeros(count, 2, 1, 1)
    given[:, 0] = 1.5
    noise = torch.randn(given.shape, generator=torch.Generator().manual_seed(7))
    held = hold(exact, given, (True, False), clocks, schedule, noise)
    generators = [torch.Generator().manual_seed(i) for i in range(count)]
    other = solve(held, (2, 1, 1), generators, schedule, solver=solver, steps=40)[:, 1]
    assert abs(float(other.mean()) - CORRELATION * 1.5) < 0.06
    assert abs(float(other.std()) - (1 - CORRELATION**2) ** 0.5) < 0.06


def test_guidance_moves_away_from_the_weak_denoiser() -> None:
    def main(z: Tensor, t: Tensor) -> Tensor:
        return torch.full_like(z, 2.0)

    def weak(z: Tensor, t: Tensor) -> Tensor:
        return torch.full_like(z, 1.0)

    assert float(guide(main, weak, 3.0)(torch.zeros(1, 1, 1, 1), torch.tensor([50]))) == 4.0
    assert guide(main, weak, 1.0) is main


@pytest.mark.parametrize('prediction', ['epsilon', 'v_prediction'])
def test_what_a_denoiser_answers_is_what_it_takes_for_clean(prediction: str) -> None:
    schedule, t = NoiseSchedule(prediction_type=prediction), torch.tensor([0, 300, 900])
    z, noise, other = torch.randn(3, 3, 2, 4, 4)
    noisy = schedule.add_noise(z, noise, t)
    torch.testing.assert_close(schedule.clean(noisy, schedule.target(z, noise, t), t), z, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(schedule.clean(noisy, schedule.answer(noisy, other, t), t), other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('solver', ['dpmsolver++', 'sde-dpmsolver++', 'ddim', 'unipc'])
def test_a_steered_denoiser_meets_a_request(solver: str) -> None:
    """Of two correlated Gaussians one is asked to be 1.2, and the other one follows it."""
    schedule, count = NoiseSchedule(), 1000

    def joint(z: Tensor, t: Tensor) -> Tensor:
        return exact(z, t[:, None])

    steered = steer(joint, schedule, lambda z: (z[:, 0, 0, 0] - 1.2).abs())
    generators = [torch.Generator().manual_seed(i) for i in range(count)]
    with torch.inference_mode():
        one, other = solve(steered, (2, 1, 1), generators, schedule, solver=solver, steps=40)[:, :, 0, 0].T
    assert abs(float(one.mean()) - 1.2) < 0.01
    assert float((one - 1.2).abs().quantile(0.95)) < 0.2
    assert float(other.mean()) > 0.25


def test_steering_changes_nothing_where_the_request_is_met() -> None:
    z, steps = torch.randn(4, 2, 1, 1), torch.full((4,), 300)
    for distance in (
        lambda z: 0 * z.flatten(1).norm(dim=1),
        lambda z: torch.where(z == 7, z, 0).flatten(1).norm(dim=1),
    ):
        steered = steer(lambda z, t: z, NoiseSchedule(), distance)
        torch.testing.assert_close(steered(z, steps), z, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('scale', [1.0, 2.0])
def test_agreement_draws_the_sides_closer_together(scale: float) -> None:
    """Of correlated Gaussians the sampled correlation grows with the scale, and each side keeps its mean."""
    schedule, clocks = NoiseSchedule(), Clocks((1, 1))
    noise = torch.randn(2000, 2, 1, 1, generator=torch.Generator().manual_seed(7))

    def joint(z: Tensor, t: Tensor) -> Tensor:
        return exact(z, t if t.ndim == 2 else t[:, None])

    denoiser = guide(joint, apart(joint, clocks, noise, 999), scale)
    generators = [torch.Generator().manual_seed(i) for i in range(len(noise))]
    pairs = solve(denoiser, (2, 1, 1), generators, schedule, steps=40).flatten(1)
    assert pairs.mean(0).abs().max() < 0.08
    correlation = float(torch.corrcoef(pairs.T)[0, 1])
    assert abs(correlation - CORRELATION) < 0.03 if scale == 1 else correlation > CORRELATION + 0.08


def test_agreement_changes_nothing_where_the_sides_are_independent() -> None:
    def independent(z: Tensor, t: Tensor) -> Tensor:
        return z * t[:, :, None, None]

    z, steps = torch.randn(4, 2, 1, 1), torch.full((4, 2), 300)
    found = guide(independent, apart(independent, Clocks((1, 1)), torch.randn(4, 2, 1, 1), 999), 3.0)(z, steps)
    torch.testing.assert_close(found, z * 300)
