"""Labelled multi- and hyperspectral training data from a joint latent diffusion model.

::

    real NonGeoDataset ─► DataModule ─► TwoStreamAutoencoder ─► joint latents ─► denoiser
                                                                                    │ solver
    TorchGeo task ◄─ MixedDataset(real, synthetic, ratio) ◄─ SpecDMSynthetic ◄─ SpecDMPipeline

Public names load on first use: importing this package imports neither torch nor TorchGeo.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torchgeo_specdm.models import TwoStreamAutoencoder
    from torchgeo_specdm.pipeline import SpecDMPipeline
    from torchgeo_specdm.spec import DatasetSpec

__version__ = '0.1.0.dev0'

_HOME = {
    'DatasetSpec': 'torchgeo_specdm.spec',
    'SpecDMPipeline': 'torchgeo_specdm.pipeline',
    'TwoStreamAutoencoder': 'torchgeo_specdm.models',
}

__all__ = ['DatasetSpec', 'SpecDMPipeline', 'TwoStreamAutoencoder', '__version__']


def __getattr__(name: str) -> Any:
    """Load a public name from the module that defines it."""
    if name not in _HOME:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    """Public names."""
    return sorted(__all__)
