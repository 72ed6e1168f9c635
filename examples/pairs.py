"""Draw ten real and ten synthetic pairs of a checkpoint, under one stretch.

python examples/pairs.py runs/oscd-cpu/checkpoint --dataset oscd --root data/oscd --out pairs.png
python examples/pairs.py indian-pines --out pairs.png
"""

import argparse
from pathlib import Path

import torch

from torchgeo_specdm.datasets import OSCD, IndianPines, OSCDLandCover, SpecDMSynthetic
from torchgeo_specdm.plotting import plot_pairs

ON_OSCD = {'oscd': OSCD, 'oscd-landcover': OSCDLandCover}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoint', help='folder, name or hf://owner/name')
    parser.add_argument('--dataset', choices=('indian-pines', *ON_OSCD), default='indian-pines')
    parser.add_argument('--root', type=Path)
    parser.add_argument('--out', type=Path, default=Path('pairs.png'))
    parser.add_argument('--n', type=int, default=10)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()

    synthetic = SpecDMSynthetic(args.checkpoint, args.n, seed=args.seed)
    size = synthetic.spec.patch_size
    make = ON_OSCD.get(args.dataset)
    real = make(args.root, patch_size=size) if make else IndianPines(patch_size=size)
    chosen = torch.randperm(len(real), generator=torch.Generator().manual_seed(args.seed))[: args.n]
    groups = {'real': [real[int(i)] for i in chosen], 'synthetic': list(synthetic)}
    plot_pairs(groups, synthetic.spec).savefig(args.out, dpi=110)
    print(f'wrote {args.out}: above {args.n} real train pairs drawn at random, below the first {args.n} synthetic ones')


if __name__ == '__main__':
    main()
