"""The real data of the experiments: pairs to learn from, whole scenes to validate and to test on, by checkpoint.

``paper`` draws as many pairs as the paper does, ``scenes`` takes all of them. In both, no scene is in two splits, for
learning rate and epoch are chosen on val scenes, and the test is on whole test scenes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset

from torchgeo_specdm.datamodules.landcover import OSCDLandCoverDataModule
from torchgeo_specdm.datamodules.oscd import MEAN, STD, OSCDPatchesDataModule
from torchgeo_specdm.datasets import OSCD, OSCDLandCover, SegMunich
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.functional.landcover import LAND_COVER_BANDS, land_cover
from torchgeo_specdm.functional.near_duplicates import near_duplicate_groups
from torchgeo_specdm.functional.statistics import band_statistics, some_samples
from torchgeo_specdm.sensors import SENTINEL2_L1C
from torchgeo_specdm.spec import DatasetSpec

PROTOCOLS = ('paper', 'scenes')
SUBSET_SEED = 0
"""Of the real pairs that ``paper`` draws; the same for every model and training seed, as in the paper."""
_PAPER_PAIRS = {'OSCD': 100, 'OSCD landcover': 100, 'SegMunich': 2000}
# Of the patches of SegMunich; the paper's share of background is not known
_BLANK = 0.5
_SEGMUNICH_SHARES = {'test': 0.2, 'val': 0.05}
_STATISTICS_PATCHES = 1024


@dataclass(frozen=True)
class Scenes:
    """Whole scenes.

    Attributes:
        samples: ``image`` in raw units and ``mask``, each of its own size; map-style.
        names: The city (or place) of each. Those of one name are one unit of the bootstrap.
    """

    samples: Any
    names: tuple[str, ...]

    @property
    def units(self) -> list[str]:
        """The names, each once, in order."""
        return sorted(set(self.names))

    @property
    def groups(self) -> Tensor:
        """The unit of each scene, ``(G,)`` int64."""
        units = {name: number for number, name in enumerate(self.units)}
        return torch.tensor([units[name] for name in self.names])


@dataclass(frozen=True)
class Data:
    """Real data in raw units.

    Attributes:
        spec: Describes the pairs.
        pool: All pairs to learn from, map-style.
        count: How many of them the protocol draws.
        val: Scenes on which learning rate and epoch are chosen.
        test: Scenes that scores are about.
        held_out: Patches of ``test``, map-style.
        mean: Mean of each band, ``(C,)``.
        std: Standard deviation of each band, ``(C,)``.
    """

    spec: DatasetSpec
    pool: Any
    count: int
    val: Scenes
    test: Scenes
    held_out: Any
    mean: Tensor
    std: Tensor

    def drawn(self, count: int | None = None) -> Subset[Any]:
        """Some pairs of the pool; fewer are among the more.

        Args:
            count: How many, at most; by default what the protocol draws.
        """
        order = torch.randperm(len(self.pool), generator=torch.Generator().manual_seed(SUBSET_SEED))
        return Subset(self.pool, order[: self.count if count is None else count].tolist())


def open_data(spec: DatasetSpec, root: Path, protocol: str = 'paper', val_cities: Sequence[str] = ()) -> Data:
    """The real data that a generator imitates.

    Args:
        spec: The generator's.
        root: Folder of the dataset.
        protocol: ``paper`` or ``scenes``.
        val_cities: Train cities of OSCD to validate on; by default those of its datamodule. A generator that learned
            from them has seen what the epoch is chosen on: name those that it did not learn from.

    Raises:
        SpecDMError: There is no experiment on this dataset, or an argument does not suit it.
        DatasetNotFoundError: The dataset is not in ``root``.
    """
    if spec.name not in _OPEN:
        raise SpecDMError(f'the checkpoint imitates {spec.name!r}; experiments know {", ".join(_OPEN)}')
    if val_cities and spec.name == 'SegMunich':
        raise SpecDMError('SegMunich has no cities: leave out --val-cities')
    return _OPEN[spec.name](spec, root, protocol, tuple(val_cities))


class LandCoverScenes:
    """Both dates of each city of OSCD whole, with land cover by the rule.

    Args:
        cities: Whole scenes, the bands of a sample first, then those that only the rule needs.
        bands: Number of bands of a sample.
    """

    def __init__(self, cities: OSCD, bands: int) -> None:
        self.cities, self.bands = cities, bands

    def __len__(self) -> int:
        """Two for each city."""
        return 2 * len(self.cities)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """``image`` ``(C, H, W)`` and ``mask`` ``(H, W)``."""
        city, date = divmod(range(len(self))[index], 2)
        image = self.cities[city]['image'][date]
        return {'image': image[: self.bands], 'mask': land_cover(image / SENTINEL2_L1C.scale, self.cities.bands)}


def _oscd(spec: DatasetSpec, root: Path, protocol: str, val_cities: tuple[str, ...]) -> Data:
    """Change, or land cover of the same imagery."""
    change = spec.task == 'change'
    patches, module = (OSCD, OSCDPatchesDataModule) if change else (OSCDLandCover, OSCDLandCoverDataModule)
    cities = val_cities or module(root).kwargs['val_cities']
    read = spec.bands if change else (*spec.bands, *(band for band in LAND_COVER_BANDS if band not in spec.bands))

    def whole(split: str) -> Scenes:
        scenes = OSCD(root, split, read, None, val_cities=cities)
        names = [scene.region for scene in scenes.files]
        if change:
            return Scenes(scenes, tuple(names))
        return Scenes(LandCoverScenes(scenes, spec.num_bands), tuple(name for name in names for _ in range(2)))

    def cut(split: str, overlap: float) -> Any:
        return patches(root, split, spec.bands, spec.patch_size, overlap, cities)

    pool = cut('train', 0.0 if protocol == 'paper' else 0.5)
    return Data(
        spec,
        pool,
        _count(spec, protocol, pool),
        whole('val'),
        whole('test'),
        cut('test', 0.0),
        torch.tensor([MEAN[band] for band in spec.bands]),
        torch.tensor([STD[band] for band in spec.bands]),
    )


def _segmunich(spec: DatasetSpec, root: Path, protocol: str, val_cities: tuple[str, ...]) -> Data:
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
    return Data(spec, pool, _count(spec, protocol, pool), scenes(val), scenes(test), chosen(test), mean, std)


def _dealt(groups: Tensor, share: float, taken: Tensor) -> Tensor:
    """Whole groups at random, about a share of all patches, of those that are not taken; at least one."""
    sizes = torch.bincount(groups[~taken], minlength=int(groups.max()) + 1)
    order = torch.randperm(len(sizes), generator=torch.Generator().manual_seed(SUBSET_SEED))
    before = sizes[order].cumsum(0) - sizes[order]
    return torch.isin(groups, order[before < share * len(groups)]) & ~taken


def _count(spec: DatasetSpec, protocol: str, pool: Any) -> int:
    return min(_PAPER_PAIRS[spec.name], len(pool)) if protocol == 'paper' else len(pool)


_OPEN: dict[str, Callable[[DatasetSpec, Path, str, tuple[str, ...]], Data]] = {
    'OSCD': _oscd,
    'OSCD landcover': _oscd,
    'SegMunich': _segmunich,
}
