"""Train a LightningModule of your own on a MixedDataset, its loss weighted by where a patch comes from.

python examples/lightning_loop.py --ratio 1 --weight 0.5
"""

import argparse
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from torchgeo_specdm.datasets import IndianPines, MixedDataset, SpecDMSynthetic
from torchgeo_specdm.downstream import make_model

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--checkpoint', default='indian-pines', help='folder, name or hf://owner/name')
parser.add_argument('--ratio', type=float, default=1, help='synthetic patches per real one')
parser.add_argument('--weight', type=float, default=0.5, help='of a synthetic patch in the loss; a real one has 1')
parser.add_argument('--max-steps', type=int, default=200)
parser.add_argument('--out', type=Path, default=Path('runs/lightning-loop'))
args = parser.parse_args()


class Segmentation(LightningModule):
    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.model = make_model('unet', num_bands=len(mean), num_classes=len(IndianPines.classes), backbone='resnet18')
        self.register_buffer('mean', mean.view(-1, 1, 1))
        self.register_buffer('std', std.view(-1, 1, 1))

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Of each patch, over its labelled pixels."""
        logits = self.model((batch['image'] - self.mean) / self.std)
        pixels = cross_entropy(logits, batch['mask'], ignore_index=255, reduction='none')
        return pixels.sum((1, 2)) / (batch['mask'] != 255).sum((1, 2)).clamp_min(1)

    def training_step(self, batch: dict[str, Tensor]) -> Tensor:
        weight = torch.where(batch['synthetic'], args.weight, 1.0)
        return (weight * self.loss(batch)).sum() / weight.sum()

    def validation_step(self, batch: dict[str, Tensor]) -> None:
        self.log('val_loss', self.loss(batch).mean(), batch_size=len(batch['mask']), prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


seed_everything(0)
real = IndianPines('train', patch_size=32, overlap=0.5)
train = MixedDataset(real, SpecDMSynthetic(args.checkpoint), args.ratio)
trainer = Trainer(max_steps=args.max_steps, default_root_dir=args.out, log_every_n_steps=5)
trainer.fit(
    Segmentation(*real.band_statistics()),
    DataLoader(train, batch_size=8, shuffle=True),
    # Real patches alone: validation must not see what a generator made
    DataLoader(IndianPines('val', patch_size=32), batch_size=8),
)
