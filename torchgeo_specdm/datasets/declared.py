"""What a user declares of rasters that do not say it themselves: classes, unit, bands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torchgeo_specdm.errors import SpecDMError

# The mask value of pixels without a label; TorchGeo's tasks and datasets use it too
IGNORE_INDEX = 255
_DTYPES = ('uint8', 'uint16', 'uint32', 'int8', 'int16', 'int32', 'float32', 'float64')


@dataclass(frozen=True)
class Declared:
    """What rasters hold. What is declared here wins over the tags of the files; nothing is guessed.

    Args:
        classes: Class names: in the order of the values 0, 1, 2 ... of the mask, or by value (``{21: arable}``).
        value_range: Lowest and highest value to expect, in the unit: what pictures are stretched to.
        name: Name of the dataset.
        unit: What a pixel value is, in words; by default what the rasters say.
        scale: The pixel value at which the quantity is 1 (10 000 for reflectance x 10 000).
        bands: The bands of a sample, in this order: a name, or a wavelength [nm], which is the nearest band's. By
            default all.
        exclude: Ranges of wavelengths [nm], ends included, whose bands are left out: noise, absorption by water.
        band_names: Names of all bands of a file, where it has none.
        wavelengths: Centre wavelengths of all bands of a file [nm], where it has none.
        ignore: Values of the mask that are no label. Its nodata value is none either, unless it is among the classes.
        dtype: Type in which the values are stored; by default that of the files. To integer types, synthetic values are
            rounded.
        gsd: Ground sampling distance [m]; by default that of the files, where they lie in a projection.
        licence: Licence of the data, which a checkpoint inherits.
        attribution: The notice that must accompany the data.

    Raises:
        SpecDMError: A class has no name, two values share one, or there is no such type.
    """

    classes: Sequence[str] | Mapping[int, str]
    value_range: tuple[float, float]
    name: str = ''
    unit: str = ''
    scale: float = 1.0
    bands: tuple[float | str, ...] | Sequence[float | str] | None = None
    exclude: Sequence[tuple[float, float]] = ()
    # Tuples too: of a sequence, jsonargparse copies all to check one element, which takes seconds for hundreds of bands
    band_names: tuple[str, ...] | Sequence[str] | None = None
    wavelengths: tuple[float, ...] | Sequence[float] | None = None
    ignore: Sequence[int] = ()
    dtype: str = ''
    gsd: float | None = None
    licence: str = ''
    attribution: str = ''

    def __post_init__(self) -> None:
        names = self.class_names
        if not names or not all(names) or len(set(names)) < len(names):
            raise SpecDMError(f'classes must have names, each another one, not {list(names)}')
        if len(names) > IGNORE_INDEX:
            raise SpecDMError(f'there are {len(names)} classes; masks here have at most {IGNORE_INDEX}')
        if self.dtype and self.dtype not in _DTYPES:
            raise SpecDMError(f'dtype is {self.dtype!r}; it must be one of {", ".join(_DTYPES)}')

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names in the order of their index in a sample."""
        return tuple(self.classes.values() if isinstance(self.classes, Mapping) else self.classes)

    @property
    def codes(self) -> dict[int, int]:
        """The index in a sample of each value of the mask; of those that are no label, the ignore index."""
        values = self.classes.keys() if isinstance(self.classes, Mapping) else range(len(self.classes))
        return dict.fromkeys(self.ignore, IGNORE_INDEX) | {value: index for index, value in enumerate(values)}
