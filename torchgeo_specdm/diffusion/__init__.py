"""Noise schedule, training objective and solver; they see tensors and are handed their network."""

from torchgeo_specdm.diffusion.objective import noise_prediction_loss
from torchgeo_specdm.diffusion.schedule import NoiseSchedule
from torchgeo_specdm.diffusion.solver import SOLVERS, solve

__all__ = ['SOLVERS', 'NoiseSchedule', 'noise_prediction_loss', 'solve']
