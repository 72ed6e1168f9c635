"""Land cover on OSCD's imagery, with labels that are exact by construction.

Both dates of the 24 cities of :class:`~torchgeo_specdm.datasets.OSCD` as single images, labelled by the rule of
:mod:`torchgeo_specdm.functional.landcover`.
"""

import os
from collections.abc import Callable, Sequence

from torch import Tensor

from torchgeo_specdm.datasets.oscd import OSCD
from torchgeo_specdm.datasets.plotted import Plotted
from torchgeo_specdm.datasets.ruled import land_cover_spec
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.functional.landcover import LAND_COVER_BANDS, LAND_COVER_CLASSES, land_cover
from torchgeo_specdm.sensors import SPECDM_BANDS
from torchgeo_specdm.spec import DatasetSpec


class OSCDLandCover(Plotted):
    """Six classes of land cover in patches of Sentinel-2, in raw digital numbers (reflectance x 10 000).

    A mask is :func:`~torchgeo_specdm.functional.landcover.land_cover` of its image, pixel for pixel, windows of the
    majority ending at the border of the patch. So the alignment of a synthetic pair can be measured exactly, by the
    same function.

    Samples are sorted by city, row and column, the dates of a place side by side. OSCD's maps of change are read for
    their size alone, which is that of the first date's B02: no label of OSCD is in the data, and its licence does not
    apply.

    Args:
        root: Folder of OSCD; as for :class:`~torchgeo_specdm.datasets.OSCD`, like all arguments without a note.
        split: ``train``, ``val`` or ``test``.
        bands: Names of the bands of a sample. The rule reads those that it needs, whether they are among these or not.
        patch_size: Height and width of a patch [px].
        overlap: Share of a patch that its neighbour covers too, in [0, 1).
        val_cities: Train cities that belong to ``val`` instead.
        dates: Which dates of each city: 1, 2 or both.
        transforms: Function that takes a sample and returns a transformed one.
        download: Download the dataset where it is missing.
        checksum: Verify the checksum of what was downloaded.

    Raises:
        DatasetNotFoundError: Nothing of the dataset is in ``root`` and ``download`` is False.
        RasterError: A raster is missing, cannot be read or has the wrong size. Pixels are read on first access.
        SpecDMError: An argument is out of range, or the dataset is only partly extracted.
    """

    splits = OSCD.splits
    rgb_bands = OSCD.rgb_bands
    classes = LAND_COVER_CLASSES

    def __init__(
        self,
        root: str | os.PathLike[str] = 'data',
        split: str = 'train',
        bands: Sequence[str] = SPECDM_BANDS,
        patch_size: int = 128,
        overlap: float = 0.0,
        val_cities: Sequence[str] = (),
        dates: Sequence[int] = (1, 2),
        transforms: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
        download: bool = False,
        checksum: bool = False,
    ) -> None:
        if not dates or not set(dates) <= {1, 2}:
            raise SpecDMError(f'dates is {tuple(dates)}; each city of OSCD has the dates 1 and 2')
        self.bands = tuple(bands)
        # Those that only the rule needs come last
        read = (*bands, *(band for band in LAND_COVER_BANDS if bands and band not in bands))
        self.scenes = OSCD(root, split, read, patch_size, overlap, val_cities, None, download, checksum)
        self.dates = tuple(sorted(set(dates)))
        self.transforms = transforms

    def __len__(self) -> int:
        """Number of patches; two dates of a place are two."""
        return len(self.scenes) * len(self.dates)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One patch.

        Returns:
            ``image`` float32 ``(C, H, W)``, digital numbers, and ``mask`` int64 ``(H, W)``.

        Raises:
            IndexError: There is no such patch.
            RasterError: A raster of the city cannot be read.
        """
        place, date = divmod(range(len(self))[index], len(self.dates))
        image = self.scenes[place]['image'][self.dates[date] - 1]
        mask = land_cover(image / self.scenes.spec.scale, self.scenes.bands)
        sample = {'image': image[: len(self.bands)].clone(), 'mask': mask}
        return sample if self.transforms is None else self.transforms(sample)

    @property
    def windows(self) -> list[tuple[int, int, int]]:
        """Where each patch lies, by city, row and column; the dates of a place lie on the same ground."""
        return [window for window in self.scenes.windows for _ in self.dates]

    @property
    def spec(self) -> DatasetSpec:
        """Description of the patches."""
        return land_cover_spec(self.scenes.spec, self.bands)
