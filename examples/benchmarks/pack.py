r"""Pack OSCD, to be carried to a machine that has neither TorchGeo nor rasterio, or to which little can be sent.

    python examples/benchmarks/pack.py --root data/oscd --out data/oscd-pack --limit 40

Writes both dates of all cities with SpecDM's ten bands and the masks of change, compressed without loss, in parts of at
most --limit MB: the train cities first. ``PackedDataModule`` serves the same patches from it as
``OSCDPatchesDataModule`` and ``OSCDLandCoverDataModule`` do from the original, to the bit. The imagery is Copernicus
data and the masks are CC BY-NC-SA 4.0, packed or not.
"""

import argparse
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from torchgeo_specdm.datamodules import OSCDLandCoverDataModule, OSCDPatchesDataModule
from torchgeo_specdm.datasets import OSCD
from torchgeo_specdm.datasets.pack import Scene, write_pack


def scenes(root: Path, split: str) -> Iterator[Scene]:
    """Whole scenes of a split, each with the rasters that it is resampled from."""
    dataset = OSCD(root, split, patch_size=None)
    for number, files in enumerate(dataset.files):
        image = dataset[number]['image'].numpy().astype(np.uint16)
        natives = [[native(path) for path in paths] for paths in (files.images1, files.images2)]
        yield Scene(files.region, split, image, dataset.masks[number], natives)


def native(path: Path) -> NDArray[Any]:
    """A band as it is stored."""
    with rasterio.open(path) as raster:
        band: NDArray[Any] = raster.read(1)
    return band


def val_cities(module: type) -> tuple[str, ...]:
    """The train cities that a datamodule keeps for validation."""
    return tuple(inspect.signature(module).parameters['val_cities'].default)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--root', type=Path, default=Path('data/oscd'))
    parser.add_argument('--out', type=Path, default=Path('data/oscd-pack'))
    parser.add_argument('--limit', type=float, default=40.0, help='size of a part [MB]')
    args = parser.parse_args(arguments)
    found = (scene for split in ('train', 'test') for scene in scenes(args.root, split))
    val = {'mask': val_cities(OSCDPatchesDataModule), 'land_cover': val_cities(OSCDLandCoverDataModule)}
    write_pack(args.out, found, OSCD(args.root, patch_size=32).spec, val, int(args.limit * 1e6))
    for path in sorted(args.out.iterdir()):
        print(f'{path}: {path.stat().st_size / 1e6:.1f} MB')


if __name__ == '__main__':
    main()
