"""Train TorchGeo's segmentation task on Indian Pines with synthetic pairs in its train split, and test it on real ones.

    specdm fit --config examples/conf/indian-pines.yaml
    python examples/train_with_mixed.py runs/indian-pines/checkpoint --ratio 5

``--ratio 0`` is the control: real pairs alone, for the same number of steps.
"""

import argparse
from pathlib import Path

from lightning.pytorch import Trainer, seed_everything

from torchgeo_specdm.compat import segmentation_task
from torchgeo_specdm.datamodules import IndianPinesDataModule, MixedDataModule
from torchgeo_specdm.datasets import IndianPines

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('checkpoint', help='folder, name or hf://owner/name')
parser.add_argument('--ratio', type=float, default=5, help='synthetic pairs per real one')
parser.add_argument('--max-steps', type=int, default=500)
parser.add_argument('--seed', type=int, default=0)
parser.add_argument('--out', type=Path, default=Path('runs/train-with-mixed'))
args = parser.parse_args()

seed_everything(args.seed)
real = IndianPinesDataModule(patch_size=32, batch_size=16)
# Val and test stay real; mean, std and augmentation are those of the real datamodule
data = MixedDataModule(real, args.checkpoint, args.ratio)
task = segmentation_task()(
    model='unet',
    backbone='resnet18',
    in_channels=200,
    task='multiclass',
    num_classes=len(IndianPines.classes),
    ignore_index=255,
)
trainer = Trainer(max_steps=args.max_steps, default_root_dir=args.out, log_every_n_steps=10)
trainer.fit(task, data)
# TorchGeo averages over all 16 classes; IndianPines.test_classes() names those with enough test pixels to tell
trainer.test(task, data)
