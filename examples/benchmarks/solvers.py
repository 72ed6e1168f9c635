"""Compare solvers on one checkpoint by plain statistics of what they draw, real train patches beside them.

    python examples/benchmarks/solvers.py runs/oscd-cpu/checkpoint --dataset oscd --root data/oscd --n 96

Columns: time per sample [s]; mean spectral angle between the mean spectrum and that of the real patches [rad];
roughness, the mean absolute difference of neighbouring pixels over that of the real patches; correlation of the two
dates (change detection); share of the last class. A row is nearer to the truth the nearer it is to the first one.
"""

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor

from torchgeo_specdm.datasets import OSCD, IndianPines
from torchgeo_specdm.functional import spectral_angle
from torchgeo_specdm.pipeline import SpecDMPipeline

SOLVERS = [('dpmsolver++', 20), ('unipc', 20), ('sde-dpmsolver++', 10), ('sde-dpmsolver++', 20), ('ddim', 50)]


def describe(image: Tensor, mask: Tensor, reference: Tensor, classes: int) -> list[float]:
    """Statistics of images ``(N, ..., C, H, W)``; ``reference`` are the real ones."""
    mean, expected = (x.double().movedim(-3, 0).flatten(1).mean(1) for x in (image, reference))
    rough, expected_rough = (
        float(x.diff(dim=-1).abs().mean() + x.diff(dim=-2).abs().mean()) for x in (image, reference)
    )
    dates = image.flatten(2).movedim(1, 0).flatten(1) if image.ndim == 5 else torch.zeros(2, 2)
    correlation = float(torch.corrcoef(dates)[0, 1]) if image.ndim == 5 else float('nan')
    share = float((mask == classes - 1).float().mean())
    return [float(spectral_angle(mean, expected, dim=0)), rough / expected_rough, correlation, share]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoint', type=Path)
    parser.add_argument('--dataset', choices=('indian-pines', 'oscd'), default='indian-pines')
    parser.add_argument('--root', type=Path)
    parser.add_argument('--n', type=int, default=96)
    args = parser.parse_args()

    pipeline = SpecDMPipeline.from_pretrained(args.checkpoint)
    size, classes = pipeline.spec.patch_size, pipeline.spec.num_classes
    real = OSCD(args.root, patch_size=size) if args.dataset == 'oscd' else IndianPines(patch_size=size)
    samples = [real[i] for i in range(len(real))]
    image, mask = (torch.stack([sample[name] for sample in samples]) for name in ('image', 'mask'))
    print('| solver | steps | s per sample | angle [rad] | roughness | dates | last class |')
    print('|---' * 7 + '|')
    truth = ' | '.join(f'{value:.3f}' for value in describe(image, mask, image, classes))
    print(f'| real | | | {truth} |')
    for solver, steps in SOLVERS:
        start, drawn = time.monotonic(), []
        for first in range(0, args.n, 8):
            drawn.append(pipeline.sample(range(first, min(first + 8, args.n)), solver=solver, steps=steps))
        seconds = (time.monotonic() - start) / args.n
        made = [torch.cat([batch[name] for batch in drawn]) for name in ('image', 'mask')]
        row = ' | '.join(f'{v:.3f}' for v in (seconds, *describe(made[0], made[1], image, classes)))
        print(f'| {solver} | {steps} | {row} |', flush=True)


if __name__ == '__main__':
    main()
