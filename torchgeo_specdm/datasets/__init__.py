"""Datasets of image-mask pairs, real and synthetic, imported on first use."""

from typing import TYPE_CHECKING

from torchgeo_specdm.lazy import loader

if TYPE_CHECKING:
    from torchgeo_specdm.datasets.declared import Declared
    from torchgeo_specdm.datasets.described import DescribedDataset
    from torchgeo_specdm.datasets.folder import FolderDataset
    from torchgeo_specdm.datasets.indian_pines import IndianPines
    from torchgeo_specdm.datasets.landcover import OSCDLandCover
    from torchgeo_specdm.datasets.mixed import MixedDataset
    from torchgeo_specdm.datasets.oscd import OSCD
    from torchgeo_specdm.datasets.scene import SceneDataset
    from torchgeo_specdm.datasets.segmunich import SegMunich
    from torchgeo_specdm.datasets.synthetic import SpecDMSynthetic

_HOMES = {
    'SceneDataset': 'scene',
    'DescribedDataset': 'described',
    'Declared': 'declared',
    'FolderDataset': 'folder',
    'OSCD': 'oscd',
    'IndianPines': 'indian_pines',
    'MixedDataset': 'mixed',
    'OSCDLandCover': 'landcover',
    'SegMunich': 'segmunich',
    'SpecDMSynthetic': 'synthetic',
}

__all__ = [
    'OSCD',
    'Declared',
    'DescribedDataset',
    'FolderDataset',
    'IndianPines',
    'MixedDataset',
    'OSCDLandCover',
    'SceneDataset',
    'SegMunich',
    'SpecDMSynthetic',
]

__getattr__ = loader(__name__, _HOMES)
