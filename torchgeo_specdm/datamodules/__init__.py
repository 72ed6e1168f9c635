"""Lightning datamodules, imported on first use."""

from typing import TYPE_CHECKING

from torchgeo_specdm.lazy import loader

if TYPE_CHECKING:
    from torchgeo_specdm.datamodules.by_class_path import TorchGeoDataModule
    from torchgeo_specdm.datamodules.folder import FolderDataModule
    from torchgeo_specdm.datamodules.generator import GeneratorDataModule
    from torchgeo_specdm.datamodules.indian_pines import IndianPinesDataModule
    from torchgeo_specdm.datamodules.landcover import OSCDLandCoverDataModule
    from torchgeo_specdm.datamodules.latents import LatentDataModule
    from torchgeo_specdm.datamodules.mixed import MixedDataModule
    from torchgeo_specdm.datamodules.oscd import OSCDPatchesDataModule
    from torchgeo_specdm.datamodules.packed import PackedDataModule
    from torchgeo_specdm.datamodules.scene import SceneDataModule
    from torchgeo_specdm.datamodules.segmunich import SegMunichDataModule

_HOMES = {
    'SceneDataModule': 'scene',
    'TorchGeoDataModule': 'by_class_path',
    'FolderDataModule': 'folder',
    'GeneratorDataModule': 'generator',
    'IndianPinesDataModule': 'indian_pines',
    'LatentDataModule': 'latents',
    'MixedDataModule': 'mixed',
    'OSCDLandCoverDataModule': 'landcover',
    'OSCDPatchesDataModule': 'oscd',
    'PackedDataModule': 'packed',
    'SegMunichDataModule': 'segmunich',
}

__all__ = [
    'FolderDataModule',
    'GeneratorDataModule',
    'IndianPinesDataModule',
    'LatentDataModule',
    'MixedDataModule',
    'OSCDLandCoverDataModule',
    'OSCDPatchesDataModule',
    'PackedDataModule',
    'SceneDataModule',
    'SegMunichDataModule',
    'TorchGeoDataModule',
]

__getattr__ = loader(__name__, _HOMES)
