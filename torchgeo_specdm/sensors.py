"""Band tables of sensors: name, centre wavelength [nm], ground sampling distance [m].

Sentinel-2 MSI: ESA, Sentinel-2 User Handbook, table 1 (S2A centre wavelengths).
"""

from typing import NamedTuple


class Band(NamedTuple):
    """One spectral band: its name, centre wavelength [nm] and native ground sampling distance [m]."""

    name: str
    wavelength: float
    gsd: float


class Sensor(NamedTuple):
    """A sensor's bands in order, and what its pixel values mean.

    ``scale`` is the pixel value at which the physical quantity in ``unit`` is 1.
    """

    name: str
    unit: str
    scale: float
    bands: tuple[Band, ...]

    def band(self, name: str) -> Band:
        """The band called ``name``.

        Raises:
            KeyError: The sensor has no such band.
        """
        for band in self.bands:
            if band.name == name:
                return band
        raise KeyError(f'{self.name} has no band {name!r}; it has {", ".join(b.name for b in self.bands)}')


# L1C digital numbers are top-of-atmosphere reflectance x 10 000.
SENTINEL2_L1C = Sensor(
    name='Sentinel-2 L1C',
    unit='Sentinel-2 DN (reflectance x 10000)',
    scale=10_000.0,
    bands=(
        Band('B01', 442.7, 60),
        Band('B02', 492.4, 10),
        Band('B03', 559.8, 10),
        Band('B04', 664.6, 10),
        Band('B05', 704.1, 20),
        Band('B06', 740.5, 20),
        Band('B07', 782.8, 20),
        Band('B08', 832.8, 10),
        Band('B8A', 864.7, 20),
        Band('B09', 945.1, 60),
        Band('B10', 1373.5, 60),
        Band('B11', 1613.7, 20),
        Band('B12', 2202.4, 20),
    ),
)

# The ten bands of the paper, in the order in which SegMunich stores them.
SPECDM_BANDS = ('B02', 'B03', 'B04', 'B08', 'B05', 'B06', 'B07', 'B8A', 'B11', 'B12')
