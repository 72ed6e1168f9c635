"""What real pairs are like: losses of their pixels under a judge, and sizes of the regions of their masks."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from torchgeo_specdm.alignment.judge import Judge
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.functional.regions import connected_regions, merge_small_regions
from torchgeo_specdm.functional.statistics import some_samples
from torchgeo_specdm.spec import DatasetSpec

# How far above the mean of its class the loss of a rejected pixel is: FreeMask's figure
TOLERANCE = 1.25
_PIXELS_MERGED = 0.005
# Enough for means and quantiles, and read in a minute
_SAMPLES = 1024
_BATCH = 16


def batches(dataset: Any, spec: DatasetSpec) -> Iterator[dict[str, Tensor]]:
    """Image and mask of at most 1024 samples, always the same ones; samples without any label are left out.

    Args:
        dataset: A map-style dataset.
        spec: Describes it.
    """
    chosen = some_samples(dataset, _SAMPLES)
    labelled = (
        sample for sample in map(chosen.__getitem__, range(len(chosen))) if _has_class(sample['mask'], spec).any()
    )
    while samples := list(islice(labelled, _BATCH)):
        yield {key: torch.stack([sample[key] for sample in samples]) for key in ('image', 'mask')}


def smallest_region(train: Any, spec: DatasetSpec) -> int:
    """The largest size s such that regions smaller than s hold at most 0.5 % of the pixels of any class [px].

    Of any class, not of all pixels: those would allow to lose a quarter of what changed in OSCD.

    Args:
        train: Real samples, map-style.
        spec: Describes them.

    Raises:
        SpecDMError: No pixel has a label.
    """
    masks = (mask.reshape(spec.mask_shape[-2:]) for batch in batches(train, spec) for mask in batch['mask'])
    found = [connected_regions(mask, spec.num_classes) for mask in masks]
    if not found:
        raise SpecDMError(f'no train pixel of {spec.name or "the data"} has a label')
    sizes, classes = torch.cat([regions.sizes for regions in found]), torch.cat([regions.classes for regions in found])
    return min(_largest_cut(sizes[classes == label]) for label in set(classes.tolist()))


def pixel_thresholds(judge: Judge, held_out: Any, smallest: int, spec: DatasetSpec) -> Tensor:
    """1.25 times the mean loss of each class, ``(K,)`` [nat]; infinite for a class that no held-out pixel has.

    Args:
        judge: Trained on other samples.
        held_out: Real samples, map-style.
        smallest: Regions of fewer pixels are merged first [px].
        spec: Describes the samples.

    Raises:
        SpecDMError: No pixel has a label.
    """
    total, count = (torch.zeros(spec.num_classes, dtype=torch.float64) for _ in range(2))
    for batch in batches(held_out, spec):
        mask = merge_small_regions(batch['mask'].long(), smallest, spec.num_classes)
        loss = judge.pixel_loss(batch['image'].float(), mask).cpu()
        labelled = ~loss.isnan()
        label = mask.reshape(loss.shape)[labelled]
        total += torch.bincount(label, loss[labelled].double(), spec.num_classes)
        count += torch.bincount(label, minlength=spec.num_classes)
    if not count.any():
        raise SpecDMError(
            f'no held-out pixel of {spec.name or "the data"} has a label: a filter needs a val split with labels'
        )
    return torch.where(count > 0, TOLERANCE * total / count, torch.inf).float()


def _largest_cut(sizes: Tensor) -> int:
    """The first size of which all regions up to it hold more than 0.5 %; those below hold less."""
    ascending = sizes.sort().values
    return int(ascending[ascending.cumsum(0) > _PIXELS_MERGED * sizes.sum()][0])


def _has_class(mask: Tensor, spec: DatasetSpec) -> Tensor:
    return (mask >= 0) & (mask < spec.num_classes)
