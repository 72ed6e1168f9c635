from dataclasses import replace
from pkgutil import resolve_name

import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler
from torch import Tensor

from torchgeo_specdm.diffusion import SOLVERS, NoiseSchedule, denoising_loss, solve
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.models import JointDenoiser

SCHEDULE = NoiseSchedule()
MEAN = torch.tensor([0.8, -0.5])
COVARIANCE = torch.tensor([[0.5, 0.3], [0.3, 0.4]])


def gaussian_denoiser(z: Tensor, t: Tensor, covariance: Tensor = COVARIANCE) -> Tensor:
    """The exact noise predictor of data from N(MEAN, covariance)."""
    time = float(t[0])  # solvers that space their steps in log sigma ask between two steps of the schedule
    low, high = int(time), min(int(time) + 1, 999)
    alpha = torch.lerp(*SCHEDULE.alphas_cumprod.log()[[low, high]], time - low).exp()
    marginal = alpha * covariance + (1 - alpha) * torch.eye(2)
    centred = z[:, :, 0, 0] - alpha.sqrt() * MEAN
    return ((1 - alpha).sqrt() * torch.linalg.solve(marginal, centred.T).T)[:, :, None, None]


def velocity(z: Tensor, t: Tensor) -> Tensor:
    """The exact velocity predictor of the same data: v = sqrt(alpha) noise - sqrt(1 - alpha) clean."""
    time = float(t[0])
    low, high = int(time), min(int(time) + 1, 999)
    alpha = torch.lerp(*SCHEDULE.alphas_cumprod.log()[[low, high]], time - low).exp()
    noise = gaussian_denoiser(z, t)
    clean = (z - (1 - alpha).sqrt() * noise) / alpha.sqrt()
    return alpha.sqrt() * noise - (1 - alpha).sqrt() * clean


def generators(count: int, seed: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed + i) for i in range(count)]


@pytest.mark.parametrize('solver', list(SOLVERS))
def test_recovers_an_analytic_gaussian(solver: str) -> None:
    steps = {'ddim': 100, 'ddpm': 200}.get(solver, 20)
    z = solve(gaussian_denoiser, (2, 1, 1), generators(3000), SCHEDULE, solver=solver, steps=steps)[:, :, 0, 0]
    torch.testing.assert_close(z.mean(0), MEAN, atol=0.06, rtol=0)
    torch.testing.assert_close(z.T.cov(), COVARIANCE, atol=0.06, rtol=0)


@pytest.mark.parametrize('solver', [name for name in SOLVERS if name != 'ddpm'])
def test_the_prediction_does_not_change_the_samples(solver: str) -> None:
    by_velocity = replace(SCHEDULE, prediction_type='v_prediction')
    noise, v = (
        solve(denoiser, (2, 1, 1), generators(20), schedule, solver=solver, steps=10)
        for denoiser, schedule in ((gaussian_denoiser, SCHEDULE), (velocity, by_velocity))
    )
    # Solvers that ask between two time steps know alpha there a little better than the interpolation above
    torch.testing.assert_close(v, noise, atol=6e-3, rtol=0)


@pytest.mark.parametrize('solver', ['dpmsolver++', 'unipc'])
def test_default_steps_keep_the_width_of_a_narrow_gaussian(solver: str) -> None:
    """Evenly spaced time steps would return a quarter of the standard deviation: blurred, over-confident samples."""

    def narrow(z: Tensor, t: Tensor) -> Tensor:
        return gaussian_denoiser(z, t, 0.01 * torch.eye(2))

    z = solve(narrow, (2, 1, 1), generators(2000), SCHEDULE, solver=solver, steps=20)[:, :, 0, 0]
    torch.testing.assert_close(z.std(0), torch.full((2,), 0.1), rtol=0.15, atol=0)


def test_exact_predictor_beats_its_neighbours() -> None:
    """The objective is least at the conditional mean of the noise."""
    z = torch.distributions.MultivariateNormal(MEAN, COVARIANCE).sample((512,))[:, :, None, None]

    def loss(scale: float) -> float:
        draws = torch.Generator().manual_seed(1)
        one_by_one = [
            denoising_loss(lambda z, t: scale * gaussian_denoiser(z, t), row[None], SCHEDULE, generator=draws)
            for row in z
        ]
        return float(torch.stack(one_by_one).mean())

    assert loss(1.0) < min(loss(0.9), loss(1.1))


@pytest.mark.parametrize(('solver', 'steps'), [('ddpm', 10), ('ddim', 10)])
def test_agrees_with_diffusers_pipeline_on_the_same_weights(solver: str, steps: int) -> None:
    torch.manual_seed(0)
    unet = JointDenoiser(3, 8, widths=(32, 32), depth=1).eval().unet
    kind, settings = SOLVERS[solver]
    scheduler = resolve_name(kind)(**SCHEDULE.to_dict(), **settings)
    assert isinstance(scheduler, DDPMScheduler | DDIMScheduler)
    pipeline = (DDPMPipeline if solver == 'ddpm' else DDIMPipeline)(unet, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(batch_size=1, generator=generators(1)[0], num_inference_steps=steps, output_type='np').images
    ours = solve(lambda z, t: unet(z, t).sample, (3, 8, 8), generators(1), SCHEDULE, solver=solver, steps=steps)
    ours = (ours / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    torch.testing.assert_close(ours, torch.as_tensor(theirs), atol=1e-4, rtol=0)


@pytest.mark.parametrize('solver', list(SOLVERS))
def test_a_sample_does_not_depend_on_its_companions(solver: str) -> None:
    def run(seeds: list[int]) -> Tensor:
        draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        return solve(gaussian_denoiser, (2, 1, 1), draws, SCHEDULE, solver=solver, steps=8)

    torch.testing.assert_close(run([5, 6, 7])[1], run([9, 6, 1])[1], atol=1e-6, rtol=0)


def test_refusals() -> None:
    with pytest.raises(SpecDMError, match="solver is 'euler'"):
        solve(gaussian_denoiser, (2, 1, 1), generators(1), SCHEDULE, solver='euler')
    with pytest.raises(SpecDMError, match='steps is 0'):
        solve(gaussian_denoiser, (2, 1, 1), generators(1), SCHEDULE, steps=0)
