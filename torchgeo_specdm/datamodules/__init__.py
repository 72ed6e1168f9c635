"""Lightning datamodules."""

from torchgeo_specdm.datamodules.generator import GeneratorDataModule, LatentDataModule
from torchgeo_specdm.datamodules.indian_pines import IndianPinesDataModule
from torchgeo_specdm.datamodules.landcover import OSCDLandCoverDataModule
from torchgeo_specdm.datamodules.mixed import MixedDataModule
from torchgeo_specdm.datamodules.oscd import OSCDPatchesDataModule
from torchgeo_specdm.datamodules.segmunich import SegMunichDataModule

__all__ = [
    'GeneratorDataModule',
    'IndianPinesDataModule',
    'LatentDataModule',
    'MixedDataModule',
    'OSCDLandCoverDataModule',
    'OSCDPatchesDataModule',
    'SegMunichDataModule',
]
