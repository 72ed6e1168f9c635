"""Formats of exported samples by name. To add one, write a :class:`Format` and enter it here.

============== ================================ ============================================
name           fits                             read by
============== ================================ ============================================
``geotiff``    any dataset                      ``ExportedPairs``, GDAL
``segmunich``  the classes, bands of SegMunich  ``SegMunich``
``oscd``       two dates of Sentinel-2, uint16  ``OSCD`` of this package and of TorchGeo
``npz``        any dataset                      ``numpy.load``
``webdataset`` any dataset                      ``webdataset``, ``tarfile`` and ``numpy.load``
============== ================================ ============================================
"""

from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.exporting.arrays import NPZ, WebDataset
from torchgeo_specdm.exporting.base import Format
from torchgeo_specdm.exporting.geotiff import GeoTIFF
from torchgeo_specdm.exporting.grid import Grid
from torchgeo_specdm.exporting.oscd import OSCDLayout
from torchgeo_specdm.exporting.segmunich import SegMunichLayout
from torchgeo_specdm.spec import DatasetSpec

__all__ = ['FORMATS', 'NPZ', 'Format', 'GeoTIFF', 'Grid', 'OSCDLayout', 'SegMunichLayout', 'WebDataset', 'make_format']

FORMATS: dict[str, type[Format]] = {kind.name: kind for kind in (GeoTIFF, SegMunichLayout, OSCDLayout, NPZ, WebDataset)}


def make_format(name: str, spec: DatasetSpec, grid: Grid | None = None, shard_size: int | None = None) -> Format:
    """The format called ``name`` for samples of a dataset.

    Args:
        name: A key of :data:`FORMATS`.
        spec: Describes the samples.
        grid: Where they are said to lie.
        shard_size: Samples in a file, for formats of several.

    Raises:
        SpecDMError: There is no such format, or the dataset does not fit it.
    """
    if name not in FORMATS:
        raise SpecDMError(f'the format is {name!r}; it must be one of {", ".join(FORMATS)}')
    return FORMATS[name](spec, grid, shard_size)
