"""Noise schedule, training objective and solver; they see tensors and are handed their network."""

from torchgeo_specdm.diffusion.objective import denoising_loss
from torchgeo_specdm.diffusion.schedule import NoiseSchedule
from torchgeo_specdm.diffusion.solver import SOLVERS, solve

__all__ = ['SOLVERS', 'NoiseSchedule', 'denoising_loss', 'solve']
