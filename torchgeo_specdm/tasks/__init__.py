"""Lightning tasks; they see batches, and only the filter is calibrated on datasets. Imported on first use."""

from typing import TYPE_CHECKING

from torchgeo_specdm.lazy import loader

if TYPE_CHECKING:
    from torchgeo_specdm.tasks.autoencoder import AutoencoderTask
    from torchgeo_specdm.tasks.judge import JudgeTask, train_judge
    from torchgeo_specdm.tasks.latent_diffusion import LatentDiffusionTask
    from torchgeo_specdm.tasks.pixels import PixelSpaceTask

_HOMES = {
    'AutoencoderTask': 'autoencoder',
    'JudgeTask': 'judge',
    'LatentDiffusionTask': 'latent_diffusion',
    'PixelSpaceTask': 'pixels',
    'train_judge': 'judge',
}

__all__ = ['AutoencoderTask', 'JudgeTask', 'LatentDiffusionTask', 'PixelSpaceTask', 'train_judge']

__getattr__ = loader(__name__, _HOMES)
