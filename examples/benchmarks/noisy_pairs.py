"""An export of 500 pairs to time an evaluation on: real OSCD test patches with noise, as if a generator had made them.

python examples/benchmarks/noisy_pairs.py --root data/oscd --out pairs128
"""

import argparse
from pathlib import Path

import torch

from torchgeo_specdm.checkpoint import write_json
from torchgeo_specdm.datasets import OSCD
from torchgeo_specdm.datasets.exported import DESCRIPTION
from torchgeo_specdm.evaluation.observation import draw
from torchgeo_specdm.exporting import GeoTIFF

COUNT, NOISE_DN = 500, 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--root', type=Path, default=Path('data/oscd'))
    parser.add_argument('--out', type=Path, default=Path('pairs128'))
    args = parser.parse_args()

    dataset = OSCD(args.root, 'test', patch_size=128, overlap=0.5)
    chosen = draw(dataset, COUNT)
    layout = GeoTIFF(dataset.spec)
    for number, index in enumerate(chosen):
        sample = dataset[index]
        noise = torch.randn(sample['image'].shape, generator=torch.Generator().manual_seed(number))
        image = (sample['image'] + NOISE_DN * noise).clamp(0, 65_535).round()
        layout.write(args.out, number, [layout.item(number, sample | {'image': image}, {})])
    description = {'generator': 'noisy test patches', 'count': len(chosen), 'spec': dataset.spec.to_dict()}
    write_json(args.out / DESCRIPTION, description)


if __name__ == '__main__':
    main()
