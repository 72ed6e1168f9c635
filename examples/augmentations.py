"""Augmentations of kornia on real and synthetic pairs alike, of one date and of two, drawn as a picture.

    python examples/augmentations.py --out augmented.png
    python examples/augmentations.py --oscd data/oscd --out augmented.png

A MixedDataset applies the transforms of its real dataset to synthetic samples too, so they are given once.
"""

import argparse
from pathlib import Path

import kornia.augmentation as K
import torch
from torch import Tensor, nn

from torchgeo_specdm.datasets import OSCD, IndianPines, MixedDataset, SpecDMSynthetic
from torchgeo_specdm.plotting import plot_pairs


def turns() -> K.AugmentationSequential:
    """Flips and quarter turns of image and mask; ``data_keys=None`` takes a sample as it is, as TorchGeo does."""
    flips = K.RandomHorizontalFlip(p=0.5), K.RandomVerticalFlip(p=0.5)
    return K.AugmentationSequential(*flips, K.RandomRotation90((0, 3), p=1.0), data_keys=None, keepdim=True)


class TwoDates(nn.Module):
    """An augmentation of images, for batches of two dates ``(B, 2, C, H, W)``.

    The dates are folded into the bands, so that both are turned alike, with their one mask ``(B, 1, H, W)``.
    """

    def __init__(self, augmentation: nn.Module) -> None:
        super().__init__()
        self.augmentation = augmentation

    def forward(self, sample: dict[str, Tensor]) -> dict[str, Tensor]:
        image = sample['image']
        turned = self.augmentation({'image': image.flatten(1, 2), 'mask': sample['mask']})
        return {'image': turned['image'].unflatten(1, image.shape[1:3]), 'mask': turned['mask']}


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--checkpoint', help='folder, name or hf://owner/name; by default the one of the dataset')
parser.add_argument('--oscd', type=Path, help='folder of OSCD; without it, Indian Pines is used')
parser.add_argument('--out', type=Path, default=Path('augmented.png'))
args = parser.parse_args()

torch.manual_seed(0)
synthetic = SpecDMSynthetic(args.checkpoint or ('oscd-change' if args.oscd else 'indian-pines'))
size = synthetic.spec.patch_size
if args.oscd:
    # OSCD hands its transforms a batch of one, as TorchGeo's class does
    real = OSCD(args.oscd, patch_size=size, transforms=TwoDates(turns()))
else:
    real = IndianPines(patch_size=size, overlap=0.5, transforms=turns())
mixed = MixedDataset(real, synthetic, ratio=0.1)
chosen = [mixed.is_synthetic.tolist().index(flag) for flag in (False, True)]
groups = {name: [mixed[place] for _ in range(8)] for name, place in zip(('real', 'synthetic'), chosen, strict=True)}
plot_pairs(groups, mixed.spec).savefig(args.out, dpi=110)
print(f'wrote {args.out}: one real and one synthetic pair, eight times each')
