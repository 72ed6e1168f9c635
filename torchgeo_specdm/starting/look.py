"""What the patches of a dataset show: values, classes, blank ones, near-duplicates across splits."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.functional.near_duplicates import BLOCKS, block_means, near_duplicate_groups
from torchgeo_specdm.functional.statistics import some_samples
from torchgeo_specdm.spec import DatasetSpec, fold_dates

# Patches of a split that are looked at
_PATCHES = 256
# A larger share of blank patches is worth a line
_MANY_BLANK = 0.1
# Fewer train patches than this is worth a line
_FEW = 200
# More bands than this are not listed one by one
_BANDS = 16


@dataclass(frozen=True)
class Part:
    """The patches of a split.

    Attributes:
        patches: How many there are.
        looked: How many were looked at.
        classes: Labelled pixels of each class, ``(K,)``.
        low: Lowest value of each band, ``(C,)``; pixels that are 0 in all bands left out, as in the next three.
        mean: Mean of each band, ``(C,)``.
        high: Highest value of each band, ``(C,)``.
        saturated: Share of values that are the largest of their integer type.
        blank: Share of patches that are of one value, or without a label.
        signatures: Block means of those that are not, for near-duplicates, ``(M, C, 8, 8)``; none under 8 px.
    """

    patches: int
    looked: int
    classes: Tensor
    low: Tensor
    mean: Tensor
    high: Tensor
    saturated: float
    blank: float
    signatures: Tensor


@dataclass(frozen=True)
class Findings:
    """What was found: the spec as far as it is known, and each split."""

    spec: DatasetSpec
    parts: dict[str, Part]

    def lines(self) -> list[str]:
        """The findings in words, what needs attention last."""
        return [*self._splits(), *self._values(), *self._classes(), *(f'LOOK: {line}' for line in self.faults())]

    def faults(self) -> list[str]:
        """What may spoil a generator."""
        train, found = self.parts['train'], []
        for name, part in self.parts.items():
            if absent := [c for c, n in zip(self.spec.classes, part.classes.tolist(), strict=True) if not n]:
                found.append(f'not in the {name} patches looked at: {", ".join(absent)}')
            if part.blank > _MANY_BLANK:
                found.append(
                    f'{part.blank:.0%} of the {name} patches looked at are of one value, or without a label '
                    '(min_labelled of folders and scenes leaves those without labels out)'
                )
            if part.saturated > 0:
                found.append(f'{part.saturated:.2%} of the {name} values are the largest of {self.spec.dtype}')
        if train.patches < _FEW:
            found.append(f'{train.patches} train patches are few: samples will resemble them')
        return found + self._duplicates()

    def _duplicates(self) -> list[str]:
        return [
            f'{shared} of {len(part.signatures)} {name} patches looked at nearly equal one of '
            f'{len(self.parts["train"].signatures)} train patches: split by place'
            for name, part in self.parts.items()
            if name != 'train' and (shared := self.near_duplicates[name])
        ]

    @cached_property
    def near_duplicates(self) -> dict[str, int]:
        """How many patches of a split nearly equal a train patch; of train, another one. Blank ones are left out."""
        return {name: self._near_train(name) for name in self.parts}

    def _near_train(self, name: str) -> int:
        part, train = self.parts[name].signatures, self.parts['train'].signatures
        if not len(part) or not len(train):
            return 0
        if name == 'train':
            groups = near_duplicate_groups(train)
            return int((groups.bincount()[groups] > 1).sum())
        groups = near_duplicate_groups(torch.cat([train, part]))
        return int(torch.isin(groups[len(train) :], groups[: len(train)]).sum())

    def _splits(self) -> Iterator[str]:
        """Good news too: what was checked and how, or why it was not."""
        for name, part in self.parts.items():
            looked = '' if part.looked == part.patches else f', {part.looked} of them looked at'
            yield f'{name}: {part.patches} patches of {self.spec.patch_size} px{looked}'
            yield f'  blank or without a label: {part.blank:.1%}; near-duplicates {self._of_train(name, part)}'

    def _of_train(self, name: str, part: Part) -> str:
        other, train = 'of another train patch' if name == 'train' else 'of a train patch', self.parts['train']
        if self.spec.patch_size < BLOCKS:
            return f'{other}: not checked, for patches are smaller than {BLOCKS} px'
        if not len(part.signatures) or not len(train.signatures):
            return f'{other}: not checked, for all {name if len(train.signatures) else "train"} patches are blank'
        return f'{other}: {self.near_duplicates[name]} of {len(part.signatures)}'

    def _values(self) -> Iterator[str]:
        train, spec = self.parts['train'], self.spec
        yield f'{spec.num_bands} bands, {spec.unit}, {spec.dtype}: {train.low.min():g} to {train.high.max():g}'
        if spec.num_bands <= _BANDS:
            for band, *values in zip(spec.bands, train.low, train.mean, train.high, strict=True):
                yield f'  {band}: {values[0]:g} to {values[2]:g}, mean {values[1]:g}'

    def _classes(self) -> Iterator[str]:
        yield f'classes, share of labelled pixels in {", ".join(self.parts)}:'
        shares = [part.classes / part.classes.sum().clamp_min(1) for part in self.parts.values()]
        for number, name in enumerate(self.spec.classes):
            yield f'  {name}: {", ".join(f"{share[number]:.1%}" for share in shares)}'


def look(module: Any) -> Findings:
    """Look at (at most 256) patches of each split of a datamodule.

    Raises:
        SpecDMError: Train or val has no patch, or a patch cannot be read.
    """
    module.setup('fit')
    datasets = {'train': module.train_dataset, 'val': module.val_dataset}
    try:
        module.setup('test')
    except SpecDMError as error:
        print(f'specdm: no test split ({error})')
    if getattr(module, 'test_dataset', None) is not None:
        datasets['test'] = module.test_dataset
    spec: DatasetSpec = module.train_dataset.spec
    return Findings(spec, {name: _part(dataset, spec) for name, dataset in datasets.items()})


def _part(dataset: Any, spec: DatasetSpec) -> Part:
    chosen = some_samples(dataset, _PATCHES)
    classes = torch.zeros(spec.num_classes, dtype=torch.long)
    low, high = torch.full((spec.num_bands,), torch.inf), torch.full((spec.num_bands,), -torch.inf)
    total, count, saturated, blank = torch.zeros(spec.num_bands, dtype=torch.float64), 0, 0, 0
    largest = np.iinfo(spec.dtype).max if np.issubdtype(np.dtype(spec.dtype), np.integer) else np.inf
    signatures = []
    for sample in (chosen[index] for index in range(len(chosen))):
        mask, image = sample['mask'].flatten(), fold_dates(sample['image'][None])
        labels = mask[(mask >= 0) & (mask < spec.num_classes)]
        classes += torch.bincount(labels, minlength=spec.num_classes)
        pixels = sample['image'].movedim(-3, 0).flatten(1)
        pixels = pixels[:, (pixels != 0).any(0)]
        if pixels.shape[1]:
            low, high = torch.minimum(low, pixels.amin(1)), torch.maximum(high, pixels.amax(1))
        total, count = total + pixels.double().sum(1), count + pixels.shape[1]
        saturated += int((pixels >= largest).sum())
        if not len(labels) or bool((image == image[..., :1, :1]).all()):
            blank += 1
        elif spec.patch_size >= BLOCKS:
            signatures.append(block_means(image))
    shape = (0, spec.num_bands * spec.num_dates, BLOCKS, BLOCKS)
    return Part(
        patches=len(dataset),
        looked=len(chosen),
        classes=classes,
        low=low,
        mean=(total / max(1, count)).float(),
        high=high,
        saturated=saturated / max(1, count * spec.num_bands),
        blank=blank / len(chosen),
        signatures=torch.cat([torch.zeros(shape), *signatures]),
    )
