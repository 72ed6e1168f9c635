"""Datasets of image-mask pairs, real and synthetic."""

from torchgeo_specdm.datasets.indian_pines import IndianPines
from torchgeo_specdm.datasets.landcover import OSCDLandCover
from torchgeo_specdm.datasets.mixed import MixedDataset
from torchgeo_specdm.datasets.oscd import OSCD
from torchgeo_specdm.datasets.segmunich import SegMunich
from torchgeo_specdm.datasets.synthetic import SpecDMSynthetic

__all__ = ['OSCD', 'IndianPines', 'MixedDataset', 'OSCDLandCover', 'SegMunich', 'SpecDMSynthetic']
