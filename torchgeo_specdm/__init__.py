"""Labelled multi- and hyperspectral training data from a joint latent diffusion model.

::

    real NonGeoDataset ─► DataModule ─► TwoStreamAutoencoder ─► joint latents ─► denoiser
                                                                                    │ solver
    TorchGeo task ◄─ MixedDataset(real, synthetic, ratio) ◄─ SpecDMSynthetic ◄─ SpecDMPipeline

Public names load on first use: importing this package imports neither torch nor TorchGeo.
"""

from typing import TYPE_CHECKING

from torchgeo_specdm.lazy import loader

if TYPE_CHECKING:
    from torchgeo_specdm.models import TwoStreamAutoencoder
    from torchgeo_specdm.pipeline import SpecDMPipeline
    from torchgeo_specdm.spec import DatasetSpec

__version__ = '0.1.0.dev0'

_HOMES = {'DatasetSpec': 'spec', 'SpecDMPipeline': 'pipeline', 'TwoStreamAutoencoder': 'models'}

__all__ = ['DatasetSpec', 'SpecDMPipeline', 'TwoStreamAutoencoder', '__version__']

__getattr__ = loader(__name__, _HOMES)


def __dir__() -> list[str]:
    """Public names."""
    return sorted(__all__)
