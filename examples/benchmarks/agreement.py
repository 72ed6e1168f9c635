"""What each setting of agreement does to synthetic land cover: a search for a setting, without intervals.

    python examples/benchmarks/agreement.py oscd-landcover --root data/oscd --settings 20:1 10:1.75

A setting is STEPS:AGREEMENT. The first row is of train patches. Masks are compared with the rule that made the real
labels, applied to their images.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from torchgeo_specdm.comparison import count_pixels, mean_iou, sum_samples
from torchgeo_specdm.datamodules import OSCDLandCoverDataModule
from torchgeo_specdm.evaluation.data import draw
from torchgeo_specdm.functional.landcover import land_cover
from torchgeo_specdm.functional.regions import boundary_length
from torchgeo_specdm.pipeline import SpecDMPipeline
from torchgeo_specdm.spec import DatasetSpec

COLUMNS = ('steps', 'agreement', 'evaluations', 'exact alignment', 'boundaries', 'difference of neighbours', 'std')
_BATCH = 16


def figures(image: Tensor, mask: Tensor, spec: DatasetSpec) -> list[float]:
    """Exact alignment, boundary length, mean difference of neighbours in a row, spread, share of each class."""
    aligned = sum_samples(count_pixels(land_cover(image / spec.scale, spec.bands), mask, spec.num_classes))
    shares = [float((mask == number).double().mean()) for number in range(spec.num_classes)]
    lengths = boundary_length(mask, spec.num_classes).double().mean()
    return [
        float(mean_iou(aligned)),
        float(lengths),
        float(image.diff(dim=-1).abs().mean()),
        float(image.std()),
        *shares,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoint')
    parser.add_argument('--root', type=Path, default=Path('data/oscd'))
    parser.add_argument('--n', type=int, default=256)
    parser.add_argument('--settings', nargs='+', default=['20:1', '10:1.75'], metavar='STEPS:AGREEMENT')
    args = parser.parse_args()

    torch.set_num_threads(1)
    pipeline = SpecDMPipeline.from_pretrained(args.checkpoint)
    spec = pipeline.spec
    data = OSCDLandCoverDataModule(args.root, spec.bands, spec.patch_size)
    data.setup('fit')
    real = [data.train_dataset[index] for index in draw(data.train_dataset, 400)]
    train = figures(*(torch.stack([sample[name] for sample in real]) for name in ('image', 'mask')), spec)
    print(f'| {" | ".join((*COLUMNS, *spec.classes))} |\n|{"---|" * (len(COLUMNS) + len(spec.classes))}')

    def show(label: str, found: list[float]) -> None:
        aligned, length, rough, spread, *shares = found
        values = [aligned, length / train[1], rough / train[2], spread, *shares]
        print(f'| {label} | {" | ".join(f"{value:.3g}" for value in values)} |', flush=True)

    show('train | |', train)
    for setting in args.settings:
        steps, scale = int(setting.split(':')[0]), float(setting.split(':')[1])
        batches = [range(start, min(start + _BATCH, args.n)) for start in range(0, args.n, _BATCH)]
        made = [pipeline.sample(batch, steps=steps, agreement=scale) for batch in batches]
        image, mask = (torch.cat([batch[name] for batch in made]) for name in ('image', 'mask'))
        show(f'{steps} | {scale:g} | {steps if scale == 1 else 3 * steps}', figures(image, mask, spec))


if __name__ == '__main__':
    main()
