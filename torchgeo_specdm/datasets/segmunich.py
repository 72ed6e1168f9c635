"""SegMunich: land use and land cover of Munich in ten bands of Sentinel-2.

Hong et al., SpectralGPT: Spectral Remote Sensing Foundation Model, IEEE TPAMI 2024, https://arxiv.org/abs/2311.07113.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import huggingface_hub
import numpy as np
import torch
from huggingface_hub.utils import HfHubHTTPError  # type: ignore[attr-defined]
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset
from torchgeo.datasets import DatasetNotFoundError
from tqdm import tqdm

from torchgeo_specdm.datasets.archives import extract_zip
from torchgeo_specdm.datasets.plotted import Plotted
from torchgeo_specdm.datasets.segmunich_files import PATCH_SIZE, read_image, read_label, require_files
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.functional.near_duplicates import block_means, near_duplicate_groups
from torchgeo_specdm.sensors import SENTINEL2_L1C, SPECDM_BANDS
from torchgeo_specdm.spec import DatasetSpec


class SegMunich(Plotted):
    """Patches of 128 x 128 px at 10 m with 13 classes (CORINE level 2; 0 is background), in raw digital numbers.

    Layout of ``root`` (or of ``root/TUM_128``)::

        dataset/{train,val}.txt       one stem per line
        {train,val}/img/<stem>.tif    float32, the ten bands B02 B03 B04 B08 B05 B06 B07 B8A B11 B12
        {train,val}/label/<stem>.tif  palette image of class codes

    39 402 train and 9 846 val patches are published. They are said to show about 2 655 places in some ten transforms
    each, on both sides of the split, so scores on the published split flatter: see :meth:`near_duplicate_groups` and
    :func:`split_by_group`. The authors' loader stretches each band of each image between its own extremes, which
    destroys spectra; values here stay as they are stored. No checksum of the archive is published.
    """

    splits = ('train', 'val')
    all_bands = SPECDM_BANDS
    rgb_bands = ('B04', 'B03', 'B02')
    repo_id = 'Moonboy12138/SegMunich'
    filename = 'TUM_128.zip'
    colormap: ClassVar[dict[str, tuple[int, int, int]]] = {
        'background': (0, 0, 0),
        'arable land': (255, 255, 168),
        'permanent crops': (242, 166, 77),
        'pastures': (190, 230, 77),
        'forests': (40, 130, 40),
        'surface water': (60, 140, 230),
        'shrub': (166, 200, 120),
        'open spaces': (205, 190, 170),
        'wetlands': (166, 166, 255),
        'mine and dump sites': (166, 0, 204),
        'artificial vegetation': (255, 166, 255),
        'urban fabric': (230, 0, 77),
        'industrial and commercial buildings': (130, 60, 60),
    }
    classes = tuple(colormap)

    def __init__(
        self,
        root: str | os.PathLike[str] = 'data',
        split: str = 'train',
        bands: Sequence[str] = SPECDM_BANDS,
        drop_blank: float | None = None,
        transforms: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
        download: bool = False,
        checksum: bool = False,
    ) -> None:
        """Look for the files; pixels are read on access.

        Args:
            root: Folder that holds the dataset or its archive.
            split: ``train`` or ``val``.
            bands: Any of the ten bands, in any order.
            drop_blank: Leave out patches of which a larger share than this, in [0, 1], is background (reads all
                labels). The paper does so without giving a share; its 21 680 train and 5 410 val patches remain.
            transforms: Function that takes a sample and returns a transformed one.
            download: Download and extract the archive where the dataset is missing (Hugging Face hub).
            checksum: Must be False: there is no published checksum to verify.

        Raises:
            DatasetNotFoundError: Nothing of the dataset is in ``root`` and ``download`` is False.
            RasterError: A label that ``drop_blank`` had to read is damaged or holds an unknown code.
            SpecDMError: An argument is out of range, the download failed or the dataset is only partly extracted.
        """
        if split not in self.splits:
            raise SpecDMError(f'SegMunich has no split {split!r}; choose from {", ".join(self.splits)}')
        if not bands or (unknown := [band for band in bands if band not in self.all_bands]):
            raise SpecDMError(f'SegMunich has no bands {unknown if bands else []}; choose from {self.all_bands}')
        if drop_blank is not None and not 0 <= drop_blank <= 1:
            raise SpecDMError(f'drop_blank is {drop_blank}; it must be a share of background between 0 and 1')
        if checksum:
            raise SpecDMError('no checksum of SegMunich is published, so none can be verified: use checksum=False')
        self.root = Path(root)
        self.split = split
        self.bands = tuple(bands)
        self.drop_blank = drop_blank
        self.transforms = transforms
        self.download = download
        self.folder = self._verify()
        self.stems = require_files(self.folder, split)
        if drop_blank is not None:
            self.stems = [stem for stem in self._progress(self.stems, 'labels') if self._background(stem) <= drop_blank]
        if not self.stems:
            raise SpecDMError(f'the {split} split of SegMunich in {self.folder} is empty with drop_blank={drop_blank}')

    def __len__(self) -> int:
        """Number of patches."""
        return len(self.stems)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One patch.

        Returns:
            ``image`` float32 ``(C, 128, 128)``, raw digital numbers, and ``mask`` int64 ``(128, 128)``.

        Raises:
            RasterError: A raster cannot be read, has the wrong size or holds an unknown code.
        """
        sample = {'image': self._image(self.stems[index]), 'mask': self._mask(self.stems[index])}
        return sample if self.transforms is None else self.transforms(sample)

    @property
    def spec(self) -> DatasetSpec:
        """Description of the patches."""
        return segmunich_spec(self.bands)

    def signatures(self) -> Tensor:
        """Block means of all patches in the bands of the dataset, ``(N, C, 8, 8)``; reads every image once."""
        return torch.cat([block_means(self._image(stem)[None]) for stem in self._progress(self.stems, 'images')])

    def near_duplicate_groups(self, tolerance: float = 0.05) -> Tensor:
        """Group number of each patch, int64 ``(N,)``; turned, flipped and slightly noisy copies share one.

        See :mod:`torchgeo_specdm.functional.near_duplicates`. Patches that merely overlap are not grouped.

        Args:
            tolerance: Largest distance of two copies, as a share of their contrast.
        """
        return near_duplicate_groups(self.signatures(), tolerance)

    def _image(self, stem: str) -> Tensor:
        image = read_image(self.folder / self.split / 'img' / f'{stem}.tif')
        return torch.from_numpy(image[[self.all_bands.index(band) for band in self.bands]])

    def _mask(self, stem: str) -> Tensor:
        return torch.from_numpy(read_label(self.folder / self.split / 'label' / f'{stem}.tif'))

    def _background(self, stem: str) -> float:
        return float((self._mask(stem) == 0).float().mean())

    def _progress(self, stems: list[str], what: str) -> Any:
        return tqdm(stems, desc=f'SegMunich {self.split}: reading {what}', leave=False, disable=len(stems) < 1000)

    def _verify(self) -> Path:
        """The folder that holds the dataset, extracted or downloaded first where it has to be."""
        if folder := self._found():
            return folder
        archive = self.root / self.filename
        if not archive.is_file():
            if not self.download:
                raise DatasetNotFoundError(self)
            self._download()
        extract_zip(archive, self.root)
        if folder := self._found():
            return folder
        raise SpecDMError(f'{archive} does not hold SegMunich: it has no dataset/{self.split}.txt')

    def _found(self) -> Path | None:
        parts = [Path(name) for split in self.splits for name in (f'dataset/{split}.txt', f'{split}/img')]
        for folder in (self.root, self.root / Path(self.filename).stem):
            if any((folder / part).exists() for part in parts):
                return folder
        return None

    def _download(self) -> None:
        try:
            huggingface_hub.hf_hub_download(self.repo_id, self.filename, repo_type='dataset', local_dir=self.root)
        except (HfHubHTTPError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise SpecDMError(
                f'{self.filename} of {self.repo_id} cannot be downloaded to {self.root} ({reason}): '
                'download it by hand and put it there'
            ) from error


def segmunich_spec(bands: Sequence[str] = SPECDM_BANDS) -> DatasetSpec:
    """Description of the patches in these bands."""
    return DatasetSpec(
        name='SegMunich',
        task='segmentation',
        bands=tuple(bands),
        classes=SegMunich.classes,
        patch_size=PATCH_SIZE,
        # The authors do not document the processing level; L1C and L2A share this unit
        unit=SENTINEL2_L1C.unit,
        scale=SENTINEL2_L1C.scale,
        value_range=(0.0, 10_000.0),
        dtype='float32',
        wavelengths=tuple(SENTINEL2_L1C.band(band).wavelength for band in bands),
        palette=tuple(SegMunich.colormap.values()),
        gsd=10.0,
        licence='not stated by the authors',
        attribution='Hong et al., SpectralGPT, IEEE TPAMI 2024. Contains modified Copernicus Sentinel data',
    )


def split_by_group(
    dataset: SegMunich | ConcatDataset[Any], val_share: float = 0.2, seed: int = 0, tolerance: float = 0.05
) -> tuple[Subset[Any], Subset[Any]]:
    """Split so that no near-duplicate of a val patch is in train.

    Args:
        dataset: A split of SegMunich, or a ``ConcatDataset`` of both.
        val_share: Share of the patches that goes to val, in (0, 1); exceeded by less than one group.
        seed: Decides which groups go to val.
        tolerance: As for :meth:`SegMunich.near_duplicate_groups`.

    Returns:
        Train and val.

    Raises:
        SpecDMError: ``val_share`` is out of range, or one group is so large that it leaves nothing for train.
    """
    if not 0 < val_share < 1:
        raise SpecDMError(f'val_share is {val_share}; it must be between 0 and 1')
    parts: list[Any] = dataset.datasets if isinstance(dataset, ConcatDataset) else [dataset]
    groups = near_duplicate_groups(torch.cat([part.signatures() for part in parts]), tolerance)
    sizes = torch.bincount(groups)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(sizes)))
    before = sizes[order].cumsum(0) - sizes[order]
    in_val = torch.isin(groups, order[before < val_share * len(groups)])
    if in_val.all():
        raise SpecDMError(f'SegMunich cannot be split: its {len(groups)} patches are {len(sizes)} groups of duplicates')
    return Subset(dataset, (~in_val).nonzero()[:, 0].tolist()), Subset(dataset, in_val.nonzero()[:, 0].tolist())
