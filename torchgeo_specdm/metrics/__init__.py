"""Metrics in the form of torchmetrics: updated batch by batch, computed once, reduced over processes."""

from torchgeo_specdm.metrics.features import DensityCoverage, FrechetDistance, KernelDistance
from torchgeo_specdm.metrics.spectra import ClassSpectralAngle

__all__ = ['ClassSpectralAngle', 'DensityCoverage', 'FrechetDistance', 'KernelDistance']
