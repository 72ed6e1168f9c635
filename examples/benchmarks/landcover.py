"""Class shares of the land cover on OSCD's imagery, and how rough its masks are, before and after the majority.

python examples/benchmarks/landcover.py data/oscd
"""

import argparse

import torch

from torchgeo_specdm.datasets import OSCD
from torchgeo_specdm.functional.landcover import LAND_COVER_BANDS, LAND_COVER_CLASSES, majority, pixel_land_cover

parser = argparse.ArgumentParser()
parser.add_argument('root')
root = parser.parse_args().root

for split in ('train', 'test'):
    scenes = OSCD(root, split, LAND_COVER_BANDS, patch_size=None)
    counts, edges, pairs = torch.zeros(2, len(LAND_COVER_CLASSES)), torch.zeros(2), 0
    for index in range(len(scenes)):
        for image in scenes[index]['image']:
            rule = pixel_land_cover(image / 10_000, LAND_COVER_BANDS)
            pairs += rule[1:].numel() + rule[:, 1:].numel()
            for row, mask in enumerate((rule, majority(rule, len(LAND_COVER_CLASSES), 7))):
                counts[row] += torch.bincount(mask.flatten(), minlength=len(LAND_COVER_CLASSES))
                edges[row] += (mask[1:] != mask[:-1]).sum() + (mask[:, 1:] != mask[:, :-1]).sum()
    for row, what in enumerate(('rule alone', 'majority')):
        shares = zip(LAND_COVER_CLASSES, (counts[row] / counts[row].sum()).tolist(), strict=True)
        print(f'{split}, {what}:', ', '.join(f'{name} {share:.3f}' for name, share in shares))
        print(f'{split}, {what}: neighbours differ {edges[row] / pairs:.3f}')
