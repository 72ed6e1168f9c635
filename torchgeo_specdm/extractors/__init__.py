"""Features of images and masks, by name; each extractor states its preprocessing in its ``settings``.

=========== ========== ================ ==========================================================
name        dimensions sees             needs
=========== ========== ================ ==========================================================
spectral    2C+C(C+1)/2 all C bands     nothing
lite0       1280       red, green, blue extra ``evaluate``
inception   2048       red, green, blue extra ``evaluate`` and, once, a download of 91 MB
dofa        768        all bands        wavelengths and, once, a download of 445 MB; better with a GPU
=========== ========== ================ ==========================================================
"""

import torch

from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.extractors.base import Extractor
from torchgeo_specdm.extractors.dofa import DOFA
from torchgeo_specdm.extractors.inception import Inception
from torchgeo_specdm.extractors.lite0 import Lite0
from torchgeo_specdm.extractors.spectral import Spectral
from torchgeo_specdm.spec import DatasetSpec

EXTRACTORS: dict[str, type[Extractor]] = {kind.name: kind for kind in (Spectral, Lite0, Inception, DOFA)}

__all__ = ['DOFA', 'EXTRACTORS', 'Extractor', 'Inception', 'Lite0', 'Spectral', 'make_extractor']


def make_extractor(name: str, spec: DatasetSpec, device: str | torch.device = 'cpu') -> Extractor:
    """The extractor of that name.

    Args:
        name: A key of :data:`EXTRACTORS`.
        spec: Describes the samples.
        device: Where features are computed.

    Raises:
        SpecDMError: There is no such extractor, or what it needs is not there.
    """
    if name not in EXTRACTORS:
        raise SpecDMError(f'there is no extractor {name!r}; there are {", ".join(EXTRACTORS)}')
    return EXTRACTORS[name](spec, device)
