"""Networks; they know neither Lightning nor the disk nor TorchGeo."""

from collections.abc import Mapping
from typing import Any

from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.models.autoencoder import PairAutoencoder, Posterior, Stream
from torchgeo_specdm.models.denoiser import JointDenoiser
from torchgeo_specdm.models.pixels import PixelAutoencoder
from torchgeo_specdm.models.single_stream import SingleStreamAutoencoder
from torchgeo_specdm.models.two_stream import TwoStreamAutoencoder
from torchgeo_specdm.typed import construct

AUTOENCODERS: dict[str, type[PairAutoencoder]] = {
    kind.kind: kind for kind in (TwoStreamAutoencoder, SingleStreamAutoencoder, PixelAutoencoder)
}


def build_autoencoder(config: Mapping[str, Any]) -> PairAutoencoder:
    """The autoencoder that ``config``, as of :attr:`PairAutoencoder.config`, describes.

    Raises:
        SpecDMError: There is no such kind, or it has other arguments.
    """
    values = dict(config)
    kind = values.pop('kind', TwoStreamAutoencoder.kind)
    if not isinstance(kind, str) or kind not in AUTOENCODERS:
        raise SpecDMError(f'autoencoder is {kind!r}; it must be one of {", ".join(AUTOENCODERS)}')
    return construct(AUTOENCODERS[kind], values, 'config.json')


__all__ = [
    'AUTOENCODERS',
    'JointDenoiser',
    'PairAutoencoder',
    'PixelAutoencoder',
    'Posterior',
    'SingleStreamAutoencoder',
    'Stream',
    'TwoStreamAutoencoder',
    'build_autoencoder',
]
