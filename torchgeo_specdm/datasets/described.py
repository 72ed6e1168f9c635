"""A dataset of somebody else in the shapes of ``spec.py``: declared, cut into patches, its faults mended."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from torchgeo_specdm.datasets.arrays import ArrayRaster
from torchgeo_specdm.datasets.declared import Declared
from torchgeo_specdm.datasets.pairs import LabelledRaster, choose_bands, describe
from torchgeo_specdm.datasets.plotted import Plotted
from torchgeo_specdm.errors import RasterError, SpecDMError
from torchgeo_specdm.sizes import choose_patch_size
from torchgeo_specdm.spec import DatasetSpec


class Keys(NamedTuple):
    """What a dataset calls the entries of a sample.

    Attributes:
        image: The image, ``(C, H, W)``, or ``(2, C, H, W)`` of two dates.
        mask: The mask, ``(H, W)``, with axes of one entry anywhere.
        later_image: The image of the second date, where it is an entry of its own.
    """

    image: str = 'image'
    mask: str = 'mask'
    later_image: str | None = None


class DescribedDataset(Plotted):
    """Patches of the samples of any dataset, in its unit.

    Samples hold ``image``, float32 ``(C, H, W)``, and ``mask``, int64 ``(H, W)``; of two dates ``(2, C, H, W)`` and
    ``(1, H, W)``. Where a band is not finite, the image is 0 and the mask 255, as where there is no label.

    Args:
        dataset: Map-style; all samples have the size of the first one, which may be larger than a patch.
        patch_size: Height and width of a patch [px], or ``auto`` (:mod:`torchgeo_specdm.sizes`).
        declared: What the samples do not say.
        keys: What they call image and mask.
        numbers: Which samples; by default all.
        origin: Scenes of datasets with different numbers are different ones.
        overlap: Share of a patch that its neighbour covers too, in [0, 1).
        name: Of the dataset, for messages.
        transforms: Applied to each patch.

    Raises:
        RasterError: The first sample has no image and mask of these shapes; the others are looked at on access.
        SpecDMError: An argument is out of range, or names of bands or the unit are not declared.
    """

    def __init__(
        self,
        dataset: Any,
        patch_size: int | str,
        declared: Declared,
        keys: Keys | None = None,
        numbers: Sequence[int] | None = None,
        origin: int = 0,
        overlap: float = 0.0,
        name: str = '',
        transforms: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
    ) -> None:
        self.dataset, self.declared, self.keys, self.transforms = dataset, declared, keys or Keys(), transforms
        self.name = name or type(dataset).__name__
        self.numbers = list(range(len(dataset)) if numbers is None else numbers)
        if not self.numbers:
            raise SpecDMError(f'{self.name} has no sample')
        dates, mask = self._read(0)
        self._shapes = [date.shape for date in dates]
        self._bands = choose_bands(ArrayRaster.of(dates[0], self._path(0)), declared)
        self._recent = (0, self._labelled(0, dates, mask))
        first = self._recent[1]
        self.patch_size = choose_patch_size(patch_size, [first.shape] * len(self.numbers))
        self.spec: DatasetSpec = describe([first], declared, self.patch_size)
        self._origins = first.origins(0, 0, *first.shape, size=self.patch_size, overlap=overlap)
        # Scenes of three origins never share a number
        self.windows = [(3 * number + origin, row, col) for number in self.numbers for row, col in self._origins]

    def __len__(self) -> int:
        """Number of patches."""
        return len(self.windows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """The patch at ``index``; see the class for its shapes.

        Raises:
            IndexError: There is no such patch.
            RasterError: The sample has other shapes than the first, or its mask a value that was not declared.
        """
        place, at = divmod(range(len(self))[index], len(self._origins))
        # Neighbouring patches are of one sample, which may be a large file
        if self._recent[0] != place:
            self._recent = (place, self._labelled(place, *self._read(place)))
        sample = self._recent[1].read(*self._origins[at], self.patch_size)
        return sample if self.transforms is None else self.transforms(sample)

    def _path(self, place: int) -> str:
        return f'sample {self.numbers[place]} of {self.name}'

    def _read(self, place: int) -> tuple[list[NDArray[Any]], NDArray[Any]]:
        return dates_and_mask(self.dataset[self.numbers[place]], self.keys, self._path(place))

    def _labelled(self, place: int, dates: list[NDArray[Any]], mask: NDArray[Any]) -> LabelledRaster:
        path, shapes = self._path(place), [date.shape for date in dates]
        if shapes != self._shapes:
            raise RasterError(f'{path} has images {shapes}, the first sample {self._shapes}: samples must be alike')
        images = tuple(ArrayRaster.of(date, path) for date in dates)
        return LabelledRaster(images, ArrayRaster.of(mask[None], path), self._bands, self.declared.codes)


def dates_and_mask(sample: Any, keys: Keys, path: str) -> tuple[list[NDArray[Any]], NDArray[Any]]:
    """The image of each date, ``(C, H, W)``, and the mask, ``(H, W)``, of a sample.

    Args:
        sample: A mapping.
        keys: Names of its entries.
        path: Of the sample, for messages.

    Raises:
        RasterError: An entry is missing, or its shape is none of these.
    """
    wanted = [key for key in keys if key is not None]
    if missing := [key for key in wanted if key not in sample]:
        raise RasterError(f'{path} has no {missing[0]!r}; it has {", ".join(map(str, sample))}')
    image, mask = np.asarray(sample[keys.image]), np.asarray(sample[keys.mask])
    dates = [image, np.asarray(sample[keys.later_image])] if keys.later_image else [image]
    if image.ndim == 4 and len(image) == 2 and not keys.later_image:
        dates = list(image)
    labels = mask.reshape(mask.shape[-2:]) if mask.ndim > 1 and mask.size == np.prod(mask.shape[-2:]) else mask
    if labels.ndim != 2 or any(date.ndim != 3 or date.shape[1:] != labels.shape for date in dates):
        shapes = ', '.join(f'{key} {tuple(np.shape(sample[key]))}' for key in wanted)
        raise RasterError(
            f'{path} has {shapes}: an image is (C, H, W), or (2, C, H, W) of two dates, and a mask (H, W) of its size'
        )
    return dates, labels
