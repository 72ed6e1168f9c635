"""Pure functions of tensors."""

from torchgeo_specdm.functional.dihedral import dihedral
from torchgeo_specdm.functional.spectral import spectral_angle

__all__ = ['dihedral', 'spectral_angle']
