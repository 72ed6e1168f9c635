"""How well a generator of land cover does what it is asked: class shares, images for masks, masks for images.

    python examples/benchmarks/conditions.py runs/oscd-landcover-cpu/checkpoint --root data/oscd --n 48

For each class and each requested share of pixels: the share that the generated masks have, and the mean absolute error
per sample. For real masks of the test cities: mIoU of the rule, applied to the image generated for a mask, with that
mask. For real images of the test cities: mIoU of the generated mask with the real one.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from exact_alignment import agreement
from torch.utils.data import Subset

from torchgeo_specdm.datamodules import OSCDLandCoverDataModule
from torchgeo_specdm.datasets import SpecDMSynthetic
from torchgeo_specdm.evaluation.data import draw
from torchgeo_specdm.evaluation.measure import Interval

SHARES = (0.1, 0.4, 0.7)


def share_rows(checkpoint: Path, count: int, guidance: float) -> None:
    """Requested against obtained shares of pixels."""
    print('| class | ' + ' | '.join(f'asked {share}' for share in SHARES) + ' |\n|---|' + '---|' * len(SHARES))
    errors: list[torch.Tensor] = []
    for number, name in enumerate(SpecDMSynthetic(checkpoint).spec.classes):
        cells = []
        for share in SHARES:
            dataset = SpecDMSynthetic(checkpoint, count, classes={name: share}, guidance=guidance, cache=None)
            obtained = torch.stack([(sample['mask'] == number).float().mean() for sample in dataset])
            errors.append((obtained - share).abs())
            cells.append(f'{obtained.mean():.2f} (error {errors[-1].mean():.3f})')
        print(f'| {name} | {" | ".join(cells)} |', flush=True)
    print(f'mean absolute error per sample over all classes and shares: {torch.cat(errors).mean():.3f}', flush=True)


def given_score(checkpoint: Path, real: Subset[dict[str, Any]], streams: list[str]) -> Interval:
    """Agreement, over test samples, of what is generated with what is given."""
    made = SpecDMSynthetic(checkpoint, len(real), given=real, given_streams=streams, cache=None)
    # The rule, applied to the real image, is the real mask
    return agreement(((sample['image'], sample['mask']) for sample in made), made.spec)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('checkpoint', type=Path)
    parser.add_argument('--root', type=Path, default=Path('data/oscd'))
    parser.add_argument('--n', type=int, default=48)
    parser.add_argument('--guidance', type=float, default=1.5)
    args = parser.parse_args()

    spec = SpecDMSynthetic(args.checkpoint).spec
    data = OSCDLandCoverDataModule(args.root, spec.bands, spec.patch_size)
    data.setup('test')
    real = Subset(data.test_dataset, draw(data.test_dataset, args.n))
    print('| generated | mIoU of rule(image) with the mask |\n|---|---|')
    print(f'| images for test masks | {given_score(args.checkpoint, real, ["mask"])} |', flush=True)
    print(f'| masks for test images | {given_score(args.checkpoint, real, ["image"])} |', flush=True)
    share_rows(args.checkpoint, max(args.n // 6, 1), args.guidance)


if __name__ == '__main__':
    main()
