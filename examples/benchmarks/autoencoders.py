"""What autoencoders of land cover lose, on val and test cities, beside linear projections of 4 x 4 pixels.

    python examples/benchmarks/autoencoders.py runs/oscd-landcover-cpu/autoencoder --root data/oscd --n 400

RMSE of the image [reflectance], spectral angle [rad], mIoU of the mask, and mIoU of the rule, applied to the decoded
image, with the decoded mask: what synthetic pairs of this autoencoder can reach. KID of the images to train images, in
features of EfficientNet-Lite0, says whether they look decoded.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle
from torch.utils.data import Dataset

from torchgeo_specdm.comparison import count_pixels, mean_iou, sum_samples
from torchgeo_specdm.datamodules import OSCDLandCoverDataModule
from torchgeo_specdm.evaluation.observation import draw
from torchgeo_specdm.extractors import Extractor, make_extractor
from torchgeo_specdm.functional import spectral_angle
from torchgeo_specdm.functional.distances import kernel_distance
from torchgeo_specdm.functional.landcover import LAND_COVER_CLASSES, land_cover
from torchgeo_specdm.functional.statistics import band_statistics
from torchgeo_specdm.parts import load_autoencoder

FOLD = 4
CHANNELS = (6, 8, 12, 16)


def patches(dataset: Dataset[dict[str, Tensor]], count: int) -> tuple[Tensor, Tensor]:
    """Images and masks of a random draw."""
    samples = [dataset[index] for index in draw(dataset, count)]
    return torch.stack([s['image'] for s in samples]), torch.stack([s['mask'] for s in samples])


def agreement(made: Tensor, mask: Tensor) -> float:
    """Mean IoU over all pixels."""
    return float(mean_iou(sum_samples(count_pixels(made, mask, len(LAND_COVER_CLASSES)))))


def errors(made: Tensor, image: Tensor, scale: float) -> str:
    """RMSE and spectral angle as cells of a table."""
    rmse = float((made - image).square().mean().sqrt()) / scale
    return f'{rmse:.4f} | {float(spectral_angle(made, image, dim=1).mean()):.4f}'


def project(train: Tensor, image: Tensor, channels: int) -> Tensor:
    """Images rebuilt from the principal components of train blocks of 4 x 4 pixels, bands standardised."""
    mean, std = (value.view(-1, 1, 1) for value in band_statistics([train]))
    blocks = pixel_unshuffle((train - mean) / std, FOLD).movedim(1, -1).flatten(0, 2)
    axes = torch.linalg.eigh(blocks.T @ blocks).eigenvectors[:, -channels:]
    folded = torch.einsum('nchw,cd->ndhw', pixel_unshuffle((image - mean) / std, FOLD), axes @ axes.T)
    return pixel_shuffle(folded, FOLD) * std + mean


def features(images: Tensor, extractor: Extractor) -> Tensor:
    """What an extractor sees of images."""
    return torch.cat([extractor.images(part) for part in images.split(50)])


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('autoencoders', type=Path, nargs='+')
    parser.add_argument('--root', type=Path, default=Path('data/oscd'))
    parser.add_argument('--n', type=int, default=400)
    parser.add_argument('--patch-size', type=int, default=64)
    args = parser.parse_args()

    data = OSCDLandCoverDataModule(args.root, patch_size=args.patch_size)
    data.setup('fit')
    data.setup('test')
    spec = data.train_dataset.spec
    train = patches(data.train_dataset, args.n)[0]
    lite0 = make_extractor('lite0', spec)
    seen = features(train, lite0)
    print(f'| | split | RMSE | SAD | mask mIoU | rule(image) with mask | KID |\n|{"---|" * 7}')
    for split in ('val', 'test'):
        image, mask = patches(getattr(data, f'{split}_dataset'), args.n)
        for channels in CHANNELS:
            cells = errors(project(train, image, channels), image, spec.scale)
            print(f'| {channels} components | {split} | {cells} | | | |')
        print(f'| real | {split} | | | | | {kernel_distance(seen, features(image, lite0)):.3f} |')
        for folder in args.autoencoders:
            autoencoder = load_autoencoder(folder)
            pairs = [
                autoencoder.decode(autoencoder.encode(i, m).mean)
                for i, m in zip(image.split(50), mask.split(50), strict=True)
            ]
            made, labels = torch.cat([pair[0] for pair in pairs]), torch.cat([pair[1].argmax(1) for pair in pairs])
            exact = agreement(land_cover(made / spec.scale, spec.bands), labels)
            row = f'{errors(made, image, spec.scale)} | {agreement(labels, mask):.3f} | {exact:.3f}'
            kid = kernel_distance(seen, features(made, lite0))
            print(f'| {folder} | {split} | {row} | {kid:.3f} |', flush=True)


if __name__ == '__main__':
    main()
