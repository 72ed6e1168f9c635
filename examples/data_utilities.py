"""Real, synthetic and mixed datasets inside the utilities of torch.utils.data.

python examples/data_utilities.py
"""

import argparse

import torch
from torch.utils.data import ConcatDataset, DataLoader, Subset, WeightedRandomSampler, random_split

from torchgeo_specdm.datasets import IndianPines, MixedDataset, SpecDMSynthetic

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--checkpoint', default='indian-pines', help='folder, name or hf://owner/name')
parser.add_argument('--n', type=int, default=24, help='synthetic patches')
args = parser.parse_args()


def flagged(sample: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Synthetic samples say that they are; for one batch of both, real ones must have the same entries."""
    return sample | {'synthetic': torch.tensor(False)}


synthetic = SpecDMSynthetic(args.checkpoint, length=args.n)

# ConcatDataset: one dataset after the other
both = ConcatDataset([IndianPines('train', patch_size=32, overlap=0.5, transforms=flagged), synthetic])
# Subset: nothing but the samples that are asked for is generated, in whole blocks
some = Subset(synthetic, range(0, args.n, 3))
# random_split: a generator's own val split shows how a model does on synthetic pairs, and never replaces real val pairs
fitted, held_out = random_split(synthetic, [0.75, 0.25], generator=torch.Generator().manual_seed(0))

# WeightedRandomSampler: half of each batch synthetic in the mean, whatever the ratio
mixed = MixedDataset(IndianPines('train', patch_size=32, overlap=0.5), synthetic, ratio=0.1)
share = mixed.is_synthetic.float().mean()
weights = torch.where(mixed.is_synthetic, 0.5 / share, 0.5 / (1 - share))
sampler = WeightedRandomSampler(
    weights.tolist(), num_samples=256, replacement=True, generator=torch.Generator().manual_seed(0)
)

for name, loader in {
    'ConcatDataset': DataLoader(both, batch_size=8, shuffle=True),
    'Subset': DataLoader(some, batch_size=8),
    'random_split': DataLoader(held_out, batch_size=8),
    'WeightedRandomSampler': DataLoader(mixed, batch_size=8, sampler=sampler),
}.items():
    flags = torch.cat([batch['synthetic'] for batch in loader])
    print(f'{name}: {len(flags)} samples, {int(flags.sum())} of them synthetic')
