"""The real data of the experiments from a pack, where neither TorchGeo nor rasterio is installed."""

from functools import cache
from pathlib import Path

from torchgeo_specdm.datasets.pack import Pack
from torchgeo_specdm.datasets.packed import PackedPairs, PackedScenes
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.experiments.data import Data, oscd_data
from torchgeo_specdm.spec import DatasetSpec


def open_pack(spec: DatasetSpec, root: Path, protocol: str, val_cities: tuple[str, ...]) -> Data:
    """Change of a packed OSCD, or land cover of the same imagery: what the original rasters give, to the bit.

    Raises:
        SpecDMError: The pack holds other data or bands, lacks a city or is damaged.
    """
    pack = Pack.open(root)
    if pack.spec.name != 'OSCD' or not spec.name.startswith(pack.spec.name) or pack.spec.bands != spec.bands:
        raise SpecDMError(
            f'{root} is a pack of {pack.spec.name} with the bands {" ".join(pack.spec.bands)}, the checkpoint imitates '
            f'{spec.name} with {" ".join(spec.bands)}: name the folder of the original data'
        )
    ruled, train = spec.task == 'segmentation', pack.names('train')
    val = val_cities or pack.val.get('land_cover' if ruled else 'mask', ())
    if not val:
        raise SpecDMError(
            f'the pack {root} names no city to validate on: name some of {", ".join(train)} (--val-cities)'
        )
    if absent := [name for name in val if name not in train]:
        raise SpecDMError(f'{absent[0]} is no train city of the pack {root}; it has {", ".join(train)}')
    cities = {'train': [name for name in train if name not in val], 'val': sorted(val), 'test': pack.names('test')}

    @cache
    def cut(split: str, overlap: float) -> PackedPairs:
        return PackedPairs(pack, cities[split], spec.patch_size, overlap, ruled)

    def whole(split: str) -> tuple[PackedScenes, list[str]]:
        # Decoded once for their patches and for themselves
        return PackedScenes(cut(split, 0.0)), cities[split]

    return oscd_data(spec, protocol, cut, whole)
