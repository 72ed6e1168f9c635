"""Networks; they know neither Lightning nor the disk nor TorchGeo."""

from torchgeo_specdm.models.autoencoder import Posterior, TwoStreamAutoencoder
from torchgeo_specdm.models.denoiser import joint_unet

__all__ = ['Posterior', 'TwoStreamAutoencoder', 'joint_unet']
