"""Sizes that follow from the data, of a patch, of latents and of networks: those of the preset for such data."""

from collections.abc import Sequence
from typing import NamedTuple

from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.spec import DatasetSpec

AUTO = 'auto'
# Fewer patches than this show too few places to learn from
_FEW_PATCHES = 200
# The smaller preset of latents is of 213 pairs, the larger of thousands
_FEW_PAIRS = 1000
# The CPU presets have fewer pairs than this, SegMunich more
_MANY_PAIRS = 10_000


class Sizes(NamedTuple):
    """Arguments of the tasks.

    Attributes:
        latent_channels: Of the image (a date) and of the mask.
        width: Of the image and of the mask branch of the autoencoder.
        widths: Of the denoiser, one a level.
    """

    latent_channels: tuple[int, int]
    width: tuple[int, int]
    widths: tuple[int, ...]


def choose_patch_size(wanted: int | str, shapes: Sequence[tuple[int, int]]) -> int:
    """The patch size that is wanted or, if that is ``auto``, the one for rasters of these shapes.

    A large patch shows how things lie beside each other, but there are fewer of them: 128 or 64 px where that leaves
    200 patches, else the largest of 32, 16, 8 and 4 px that fits into every raster.

    Args:
        wanted: Height and width [px], or ``auto``.
        shapes: Height and width of each raster [px].

    Raises:
        SpecDMError: No patch fits, or another word than ``auto`` is given.
    """
    if wanted != AUTO:
        if not isinstance(wanted, int):
            raise SpecDMError(f'patch_size is {wanted!r}; it must be a number of pixels or {AUTO}')
        return wanted
    least = min(min(shape) for shape in shapes)
    for size in (128, 64):
        if size <= least and sum((h // size) * (w // size) for h, w in shapes) >= _FEW_PATCHES:
            return size
    for size in (32, 16, 8, 4):
        if size <= least:
            return size
    raise SpecDMError(f'the smallest raster is {least} px wide or high; a patch has at least 4 px')


def choose_overlap(patches: int) -> float:
    """Share of a train patch that its neighbour covers too, for rasters that are larger than a patch.

    Half, as in the presets of OSCD, so that a field is not always cut at the same place; none where there are many
    patches already, each of which is encoded in eight orientations and kept in memory.

    Args:
        patches: How many there are without overlap.
    """
    return 0.5 if patches < _MANY_PAIRS else 0.0


def choose_sizes(spec: DatasetSpec, pairs: int) -> Sizes:
    """Sizes for a dataset.

    - Image latents: 20 a place, as the presets of ten bands; 6 where there are few pairs, as for Indian Pines, for the
      denoiser learns their joint distribution from the pairs alone; at most 4 a band, of 16 pixels a place.
    - Mask latents: 4, as in all presets. A place of 4 x 4 pixels rarely holds more than two classes.
    - Autoencoder: half as wide where there are few pairs.
    - Denoiser: twice as wide where there are many pairs. Latents are halved down to 4 px, at most twice, so that the
      coarsest two levels, which attend, have at most 16 x 16 places in patches of 128 px.

    Args:
        spec: Description of the data.
        pairs: Number of train samples.
    """
    few = pairs < _FEW_PAIRS
    size, levels = spec.patch_size // 4, 1
    while levels < 3 and size > 4 and size % 2 == 0:
        size, levels = size // 2, levels + 1
    base = 128 if pairs >= _MANY_PAIRS else 64
    return Sizes(
        latent_channels=(min(6 if few else 20, 4 * spec.num_bands), 4),
        width=(64 if few else 128, 64),
        widths=tuple(base * level for level in range(1, levels + 1)),
    )
