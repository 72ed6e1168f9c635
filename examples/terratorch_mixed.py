"""Train TerraTorch's segmentation task on a folder of rasters, with synthetic pairs in its train split.

    pip install terratorch
    python examples/terratorch_mixed.py data/fields runs/fields/checkpoint --ratio 2

The folder holds {train,val}/image/*.tif and {train,val}/mask/*.tif, patches like those the generator was trained on.
"""

import argparse
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer, seed_everything
from terratorch.datamodules import GenericNonGeoSegmentationDataModule
from terratorch.tasks import SemanticSegmentationTask

from torchgeo_specdm.catalogue import resolve
from torchgeo_specdm.datamodules import MixedDataModule
from torchgeo_specdm.pipeline import SpecDMPipeline

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('root', type=Path)
parser.add_argument('checkpoint', help='folder, name or hf://owner/name')
parser.add_argument('--ratio', type=float, default=1, help='synthetic pairs per real one')
parser.add_argument('--max-steps', type=int, default=500)
parser.add_argument('--out', type=Path, default=Path('runs/terratorch-mixed'))
args = parser.parse_args()


class TerraTorchMix(MixedDataModule):
    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """TerraTorch hands each entry it does not know to its model, and `synthetic` is one."""
        batch = super().on_after_batch_transfer(batch, dataloader_idx)
        return {key: value for key, value in batch.items() if key != 'synthetic'}


seed_everything(0)
# Rasters of such a folder say nothing of their unit: it is declared to be the generator's
spec = SpecDMPipeline.read_spec(resolve(args.checkpoint))
folders = {f'{split}_data_root': args.root / split / 'image' for split in ('train', 'val')}
folders |= {f'{split}_label_data_root': args.root / split / 'mask' for split in ('train', 'val')}
real = GenericNonGeoSegmentationDataModule(
    batch_size=4,
    num_workers=0,
    num_classes=spec.num_classes,
    # Values are divided by what the quantity is 1 at: digital numbers become reflectance
    means=[0.0] * spec.num_bands,
    stds=[spec.scale] * spec.num_bands,
    **folders,
)
bands = {'bands': list(spec.bands), 'in_channels': spec.num_bands, 'num_classes': spec.num_classes}
task = SemanticSegmentationTask(
    model_factory='SMPModelFactory',
    model_args={'model': 'Unet', 'backbone': 'resnet18', 'pretrained': False, **bands},
    # Not None, which PyTorch's cross-entropy refuses; -100 is its own default
    ignore_index=-100 if spec.ignore_index is None else spec.ignore_index,
    plot_on_val=False,
)
trainer = Trainer(max_steps=args.max_steps, default_root_dir=args.out, log_every_n_steps=10)
trainer.fit(task, TerraTorchMix(real, args.checkpoint, args.ratio, real_spec=spec))
