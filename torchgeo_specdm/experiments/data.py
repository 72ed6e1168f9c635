"""The real data of the experiments: pairs to learn from, whole scenes to validate and to test on, by checkpoint.

``paper`` draws as many pairs as the paper does, ``scenes`` takes all of them. In both, no scene is in two splits, for
learning rate and epoch are chosen on val scenes, and the test is on whole test scenes.

The data is the original rasters, or a pack of them: the same pairs and scenes to the bit, without TorchGeo.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Subset

from torchgeo_specdm.datasets.oscd_statistics import MEAN, STD
from torchgeo_specdm.datasets.pack import DESCRIPTION
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.functional.landcover import land_cover
from torchgeo_specdm.sensors import SENTINEL2_L1C
from torchgeo_specdm.spec import DatasetSpec

SUBSET_SEED = 0
"""Of the real pairs that ``paper`` draws; the same for every model and training seed, as in the paper."""
_PAPER_PAIRS = {'OSCD': 100, 'OSCD landcover': 100, 'SegMunich': 2000}


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
        protocol: Which one; None of data that no figure is to be judged on.
    """

    spec: DatasetSpec
    pool: Any
    count: int
    val: Scenes
    test: Scenes
    held_out: Any
    mean: Tensor
    std: Tensor
    protocol: str | None = None

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
        root: Folder of the dataset, or of a pack of it.
        protocol: ``paper`` or ``scenes``.
        val_cities: Train cities of OSCD to validate on; by default those of its datamodule. A generator that learned
            from them has seen what the epoch is chosen on: name those that it did not learn from.

    Raises:
        SpecDMError: There is no experiment on this dataset, or an argument does not suit it.
        DatasetNotFoundError: The dataset is not in ``root``.
    """
    if spec.name not in _PAPER_PAIRS:
        raise SpecDMError(f'the checkpoint imitates {spec.name!r}; experiments know {", ".join(_PAPER_PAIRS)}')
    if val_cities and spec.name == 'SegMunich':
        raise SpecDMError('SegMunich has no cities: leave out --val-cities')
    if (root / DESCRIPTION).is_file():
        from torchgeo_specdm.experiments.packs import open_pack

        return open_pack(spec, root, protocol, tuple(val_cities))
    from torchgeo_specdm.experiments.originals import open_oscd, open_segmunich

    if spec.name == 'SegMunich':
        return open_segmunich(spec, root, protocol)
    return open_oscd(spec, root, protocol, tuple(val_cities))


class LandCoverScenes:
    """Both dates of each city of OSCD whole, with land cover by the rule.

    Args:
        cities: Whole scenes and their ``bands``, those of a sample first, then those that only the rule needs.
        bands: Number of bands of a sample.
    """

    def __init__(self, cities: Any, bands: int) -> None:
        self.cities, self.bands = cities, bands

    def __len__(self) -> int:
        """Two for each city."""
        return 2 * len(self.cities)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """``image`` ``(C, H, W)`` and ``mask`` ``(H, W)``."""
        city, date = divmod(range(len(self))[index], 2)
        image = self.cities[city]['image'][date]
        return {'image': image[: self.bands], 'mask': land_cover(image / SENTINEL2_L1C.scale, self.cities.bands)}


def oscd_data(
    spec: DatasetSpec,
    protocol: str,
    cut: Callable[[str, float], Any],
    whole: Callable[[str], tuple[Any, Sequence[str]]],
) -> Data:
    """Change of OSCD, or land cover of its imagery.

    Args:
        spec: Says which.
        protocol: ``paper`` or ``scenes``.
        cut: The patches of a split at an overlap.
        whole: The cities of a split, and their names.
    """

    def scenes(split: str) -> Scenes:
        cities, names = whole(split)
        if spec.task == 'change':
            return Scenes(cities, tuple(names))
        return Scenes(LandCoverScenes(cities, spec.num_bands), tuple(name for name in names for _ in range(2)))

    pool = cut('train', 0.0 if protocol == 'paper' else 0.5)
    mean, std = (torch.tensor([table[band] for band in spec.bands]) for table in (MEAN, STD))
    count = pairs_drawn(spec, protocol, pool)
    return Data(spec, pool, count, scenes('val'), scenes('test'), cut('test', 0.0), mean, std, protocol)


def pairs_drawn(spec: DatasetSpec, protocol: str, pool: Any) -> int:
    """How many pairs of the pool a protocol draws."""
    return min(_PAPER_PAIRS[spec.name], len(pool)) if protocol == 'paper' else len(pool)
