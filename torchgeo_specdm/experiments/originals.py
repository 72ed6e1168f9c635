"""The real data of the experiments as its authors publish it: OSCD's rasters, SegMunich's patches."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset

from torchgeo_specdm.datamodules import OSCDLandCoverDataModule, OSCDPatchesDataModule
from torchgeo_specdm.datasets import OSCD, OSCDLandCover, SegMunich
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.experiments.data import SUBSET_SEED, Data, Scenes, oscd_data, pairs_drawn
from torchgeo_specdm.functional.landcover import LAND_COVER_BANDS
from torchgeo_specdm.functional.near_duplicates import near_duplicate_groups
from torchgeo_specdm.functional.statistics import band_statistics, some_samples
from torchgeo_specdm.spec import DatasetSpec

# Of the patches of SegMunich; the paper's share of background is not known
_BLANK = 0.5
_SEGMUNICH_SHARES = {'test': 0.2, 'val': 0.05}
_STATISTICS_PATCHES = 1024


def open_oscd(spec: DatasetSpec, root: Path, protocol: str, val_cities: tuple[str, ...]) -> Data:
    """Change, or land cover of the same imagery."""
    change = spec.task == 'change'
    patches, module = (OSCD, OSCDPatchesDataModule) if change else (OSCDLandCover, OSCDLandCoverDataModule)
    cities = val_cities or module(root).kwargs['val_cities']
    read = spec.bands if change else (*spec.bands, *(band for band in LAND_COVER_BANDS if band not in spec.bands))

    def cut(split: str, overlap: float) -> Any:
        return patches(root, split, spec.bands, spec.patch_size, overlap, cities)

    def whole(split: str) -> tuple[Any, list[str]]:
        scenes = OSCD(root, split, read, None, val_cities=cities)
        return scenes, [scene.region for scene in scenes.files]

    return oscd_data(spec, protocol, cut, whole)


def open_segmunich(spec: DatasetSpec, root: Path, protocol: str) -> Data:
    """The published split, of whose train patches some are kept to validate; or one by groups of near-duplicates."""
    splits = [SegMunich(root, split, spec.bands, _BLANK) for split in SegMunich.splits]
    patches: Any = ConcatDataset(splits)
    if protocol == 'paper':
        groups = torch.arange(len(patches))
        test = groups >= len(splits[0])
    else:
        groups = near_duplicate_groups(torch.cat([split.signatures() for split in splits]))
        test = _dealt(groups, _SEGMUNICH_SHARES['test'], torch.zeros(len(groups), dtype=torch.bool))
    val = _dealt(groups, _SEGMUNICH_SHARES['val'], test)

    def chosen(members: Tensor) -> Subset[Any]:
        return Subset(patches, members.nonzero().flatten().tolist())

    def scenes(members: Tensor) -> Scenes:
        return Scenes(chosen(members), tuple(str(group) for group in groups[members].tolist()))

    pool = chosen(~(test | val))
    if not len(pool):
        raise SpecDMError(f'{len(patches)} patches of SegMunich are too few to validate, to test and to learn from')
    seen = some_samples(pool, _STATISTICS_PATCHES)
    mean, std = band_statistics(seen[index]['image'] for index in range(len(seen)))
    count = pairs_drawn(spec, protocol, pool)
    return Data(spec, pool, count, scenes(val), scenes(test), chosen(test), mean, std, protocol)


def _dealt(groups: Tensor, share: float, taken: Tensor) -> Tensor:
    """Whole groups at random, about a share of all patches, of those that are not taken; at least one."""
    sizes = torch.bincount(groups[~taken], minlength=int(groups.max()) + 1)
    order = torch.randperm(len(sizes), generator=torch.Generator().manual_seed(SUBSET_SEED))
    before = sizes[order].cumsum(0) - sizes[order]
    return torch.isin(groups, order[before < share * len(groups)]) & ~taken
