"""Noise schedule, training objective, guidance and solver; they see tensors and are handed their network."""

from torchgeo_specdm.diffusion.guidance import apart, guide, hold, steer
from torchgeo_specdm.diffusion.objective import Clocks, Denoiser, LogitNormalClocks, denoising_loss
from torchgeo_specdm.diffusion.schedule import NoiseSchedule
from torchgeo_specdm.diffusion.solver import SOLVERS, index_generator, solve

__all__ = [
    'SOLVERS',
    'Clocks',
    'Denoiser',
    'LogitNormalClocks',
    'NoiseSchedule',
    'apart',
    'denoising_loss',
    'guide',
    'hold',
    'index_generator',
    'solve',
    'steer',
]
