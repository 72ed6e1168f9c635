"""Stage 1 of the baseline without an autoencoder: the scaling of pixels, and nothing to train."""

from typing import Any

from torch import Tensor

from torchgeo_specdm.models import PixelAutoencoder
from torchgeo_specdm.tasks.generator import EncodingTask


class PixelSpaceTask(EncodingTask):
    """Writes a :class:`~torchgeo_specdm.models.PixelAutoencoder` to ``<root>/autoencoder``; it ends after one batch.

    The denoiser of the next stage then works on pixels, and must be as much larger as these are more than latents.
    """

    model: PixelAutoencoder

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def configure_model(self) -> None:
        """Standardise each band by its train statistics."""
        if hasattr(self, 'model'):
            return
        spec = self.spec
        self.model = PixelAutoencoder(spec.task, spec.num_bands, spec.num_classes, spec.ignore_index)
        self.model.set_scaling(*self.data.band_statistics())

    def configure_optimizers(self) -> Any:
        """None: there is no parameter."""
        return None

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Nothing to learn: end at once. Without an optimizer, Lightning never counts a step."""
        self.trainer.should_stop = True
