"""Generators that are no good, each in its own way: every one must fail a bar of quality.py, or the bars are wrong."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d
from torch.utils.data import Dataset, Subset

from torchgeo_specdm.diffusion import index_generator
from torchgeo_specdm.evaluation.faults import Altered, repeated, replayed, shuffled
from torchgeo_specdm.evaluation.observation import draw
from torchgeo_specdm.functional.dihedral import ORIENTATIONS, dihedral
from torchgeo_specdm.spec import DatasetSpec, find_spec

BLOCK = 4
# Train samples that the classes' Gaussians are estimated from
_SEEN = 200
# Noise of planted copies, as a share of each band's standard deviation in the patch
_NOISE = 0.1


class Described(Dataset[dict[str, Any]]):
    """A dataset that carries the spec of another one, which a ``Subset`` does not.

    Args:
        dataset: Map-style, in the shapes of ``spec``.
        spec: Describes the samples.
    """

    def __init__(self, dataset: Any, spec: DatasetSpec) -> None:
        self.dataset, self.spec = dataset, spec

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return dict(self.dataset[index])


class Gaussians(Dataset[dict[str, Any]]):
    """Real masks whose pixels get spectra drawn from one Gaussian per class; no pixel knows of its neighbour.

    Args:
        dataset: Real samples, whose masks are used and whose spectra the Gaussians are fitted to.
        spec: Describes them.
        seed: Seed of the draws.
    """

    def __init__(self, dataset: Any, spec: DatasetSpec, seed: int = 0) -> None:
        self.dataset, self.spec, self.seed = dataset, spec, seed
        samples = [dataset[index] for index in draw(dataset, _SEEN)]
        spectra = torch.cat([_spectra(sample['image']) for sample in samples]).double()
        labels = torch.cat([sample['mask'].flatten() for sample in samples])
        # A class with too few pixels for a covariance, or none, gets the Gaussian of all
        chosen = [spectra[labels == number] for number in range(spec.num_classes)]
        self.moments = [_moments(found if len(found) > spectra.shape[1] else spectra) for found in chosen]
        self.everything = _moments(spectra)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Image and mask; the same at every access."""
        mask = self.dataset[range(len(self))[index]]['mask']
        labels = mask.flatten()
        noise = torch.randn(
            len(labels), len(self.everything[0]), generator=index_generator(self.seed, index), dtype=torch.float64
        )
        drawn = self.everything[0] + noise @ self.everything[1]
        for number, (mean, root) in enumerate(self.moments):
            drawn[labels == number] = mean + noise[labels == number] @ root
        image = drawn.T.reshape(self.spec.image_shape).clamp_min(0).float()
        return {'image': image if self.spec.dtype.startswith('float') else image.round(), 'mask': mask}


def _spectra(image: Tensor) -> Tensor:
    """Spectra of all dates side by side, ``(H * W, T * C)``."""
    return image.reshape(-1, image.shape[-2] * image.shape[-1]).T


def _moments(spectra: Tensor) -> tuple[Tensor, Tensor]:
    """Mean ``(D,)``, and the square root of the covariance ``(D, D)``."""
    values, vectors = torch.linalg.eigh(torch.cov(spectra.T))
    return spectra.mean(0), (vectors * values.clamp_min(0).sqrt()) @ vectors.T


def blocks(image: Tensor) -> Tensor:
    """The means of 4 x 4 blocks, in the size of the image ``(..., H, W)``."""
    means = avg_pool2d(image.reshape(-1, 1, *image.shape[-2:]), BLOCK)
    large = means.repeat_interleave(BLOCK, -1).repeat_interleave(BLOCK, -2)
    return large.view_as(image)


def degenerate_generators(train: Any, count: int, spec: DatasetSpec) -> Mapping[str, Callable[[], Any]]:
    """Makers of the five datasets, by name, each with a ``spec`` and ``count`` samples.

    Args:
        train: Real train samples, of which at most ``count`` are drawn.
        count: Number of samples of each.
        spec: Describes the train samples.
    """
    patches = Subset(train, draw(train, count))

    def described(dataset: Any) -> Described:
        return Described(dataset, find_spec(dataset) or spec)

    return {
        'replayed train patches': lambda: described(replayed(patches, count)),
        f'{BLOCK} x {BLOCK} block means': lambda: described(replayed(Altered(patches, blocks), count)),
        'shuffled masks': lambda: described(replayed(shuffled(patches), count)),
        'per-class Gaussians': lambda: described(replayed(Gaussians(patches, spec), count)),
        'one repeated sample': lambda: described(repeated(patches, count)),
    }


class PlantedCopies(Dataset[dict[str, Any]]):
    """Train patches in all eight orientations with noise of a tenth of each band's standard deviation: copies.

    Args:
        dataset: Train patches.
        count: Number of copies.
    """

    def __init__(self, dataset: Any, count: int) -> None:
        self.dataset, self.chosen = dataset, draw(dataset, count)

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = self.dataset[self.chosen[index]]
        image, mask = (dihedral(sample[name], index % ORIENTATIONS) for name in ('image', 'mask'))
        noise = torch.randn(image.shape, generator=index_generator(0, index))
        return {'image': image + _NOISE * image.std((-2, -1), keepdim=True) * noise, 'mask': mask}
