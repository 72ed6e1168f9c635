"""How well masks of synthetic land cover fit their images, exactly: the rule that made the real labels, applied.

    python examples/benchmarks/exact_alignment.py runs/oscd-landcover-cpu/checkpoint --root data/oscd --n 200

Prints the agreement of rule(image) with the mask for held-out real pairs, for the same pairs encoded and decoded (the
most that a generator with this autoencoder can reach), and for synthetic pairs, all and filtered.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from torchgeo_specdm.comparison import Counts, count_pixels, mean_iou, sum_samples
from torchgeo_specdm.datamodules import OSCDLandCoverDataModule
from torchgeo_specdm.datasets import SpecDMSynthetic
from torchgeo_specdm.evaluation.measure import Interval, bootstrap
from torchgeo_specdm.evaluation.observation import draw
from torchgeo_specdm.functional.landcover import land_cover
from torchgeo_specdm.parts import load_autoencoder
from torchgeo_specdm.spec import DatasetSpec, class_index


def agreement(pairs: Iterable[tuple[Tensor, Tensor]], spec: DatasetSpec) -> tuple[Interval, Interval]:
    """Mean IoU over the classes and share of equal pixels, with intervals over pairs."""
    found = [count_pixels(rule(image, spec), mask[None], spec.num_classes) for image, mask in pairs]
    counts = Counts(*(torch.cat(parts) for parts in zip(*found, strict=True)))

    def score(rows: Tensor) -> float:
        return float(mean_iou(sum_samples(Counts(*(value[rows] for value in counts)))))

    def accuracy(rows: Tensor) -> float:
        return float(counts.hit[rows].sum() / counts.labelled[rows].sum())

    return bootstrap(score, len(counts.hit)), bootstrap(accuracy, len(counts.hit))


def rule(image: Tensor, spec: DatasetSpec) -> Tensor:
    """The label of each pixel of an image ``(C, H, W)`` in raw units, ``(1, H, W)``."""
    return land_cover(image[None] / spec.scale, spec.bands)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('checkpoint', type=Path)
    parser.add_argument('--root', type=Path, default=Path('data/oscd'))
    parser.add_argument('--n', type=int, default=200)
    args = parser.parse_args()

    generators = {'synthetic': SpecDMSynthetic(args.checkpoint, args.n, cache=None)}
    if (args.checkpoint / 'filter').is_dir():
        generators['synthetic, filtered'] = SpecDMSynthetic(args.checkpoint, args.n, keep='aligned', cache=None)
    spec = generators['synthetic'].spec
    data = OSCDLandCoverDataModule(args.root, spec.bands, spec.patch_size)
    data.setup('fit')
    real = [data.val_dataset[index] for index in draw(data.val_dataset, args.n)]
    autoencoder = load_autoencoder(args.checkpoint / 'autoencoder')

    def decoded() -> Iterable[tuple[Tensor, Tensor]]:
        for sample in real:
            with torch.no_grad():
                image, logits = autoencoder.decode(autoencoder.encode(sample['image'][None], sample['mask'][None]).mean)
            yield image[0], class_index(logits, spec.task)[0]

    rows = {'held-out real': ((s['image'], s['mask']) for s in real), 'held-out real, decoded': decoded()}
    for name, dataset in generators.items():
        rows[name] = ((sample['image'], sample['mask']) for sample in dataset)
    print('| pairs | mIoU of rule(image) with the mask | share of equal pixels |\n|---|---|---|')
    for name, pairs in rows.items():
        score, accuracy = agreement(pairs, spec)
        print(f'| {name} | {score} | {accuracy} |', flush=True)
    if len(generators) > 1:
        print(generators['synthetic, filtered'].filter_summary())


if __name__ == '__main__':
    main()
