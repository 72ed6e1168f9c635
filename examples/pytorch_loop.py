"""Train in a plain PyTorch loop on real and synthetic patches of Indian Pines, and score the model on real ones.

    python examples/pytorch_loop.py --ratio 1

``--ratio 0`` is the control: real patches alone, for the same number of steps.
"""

import argparse
from itertools import chain, islice, repeat

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassJaccardIndex

from torchgeo_specdm.datasets import IndianPines, MixedDataset, SpecDMSynthetic
from torchgeo_specdm.downstream import make_model

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument('--checkpoint', default='indian-pines', help='folder, name or hf://owner/name')
parser.add_argument('--ratio', type=float, default=1, help='synthetic patches per real one')
parser.add_argument('--steps', type=int, default=200, help='steps of the optimiser')
parser.add_argument('--seed', type=int, default=0)
args = parser.parse_args()

torch.manual_seed(args.seed)
real = IndianPines('train', patch_size=32, overlap=0.5)
synthetic = SpecDMSynthetic(args.checkpoint)
train = MixedDataset(real, synthetic, args.ratio)
# A shuffled batch touches many blocks of samples: all are generated first, once, and read from the cache
synthetic.materialize(int(train.is_synthetic.sum()))

# Real and synthetic values have the same raw unit, so they are normalised alike
mean, std = (value.view(-1, 1, 1) for value in real.band_statistics())
model = make_model('unet', num_bands=real.spec.num_bands, num_classes=real.spec.num_classes, backbone='resnet18')
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
loader = DataLoader(train, batch_size=8, shuffle=True)

for step, batch in enumerate(islice(chain.from_iterable(repeat(loader)), args.steps), 1):
    logits = model((batch['image'] - mean) / std)
    loss = cross_entropy(logits, batch['mask'], ignore_index=real.spec.ignore_index)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0 or step == args.steps:
        print(f'step {step}: loss {loss.item():.3f}, {int(batch["synthetic"].sum())} of the batch synthetic')

score = MulticlassJaccardIndex(real.spec.num_classes, ignore_index=real.spec.ignore_index)
model.eval()
with torch.inference_mode():
    for batch in DataLoader(IndianPines('test', patch_size=32), batch_size=8):
        score.update(model((batch['image'] - mean) / std), batch['mask'])
print(f'mIoU on real test patches: {score.compute().item():.3f}')
