"""Lightning tasks; they see batches, and only the filter is calibrated on datasets."""

from torchgeo_specdm.tasks.autoencoder import AutoencoderTask
from torchgeo_specdm.tasks.judge import JudgeTask, train_judge
from torchgeo_specdm.tasks.latent_diffusion import LatentDiffusionTask
from torchgeo_specdm.tasks.pixels import PixelSpaceTask

__all__ = ['AutoencoderTask', 'JudgeTask', 'LatentDiffusionTask', 'PixelSpaceTask', 'train_judge']
