"""Which generated pairs, and which of their pixels, a model of real data rejects.

A pixel of class y is rejected where its loss under the judge exceeds 1.25 times the mean loss of class y over held-out
real pixels (FreeMask, Yang et al., NeurIPS 2023, section 3.2). A pair is

- misaligned where the share of its pixels that are rejected is above that of 95 % of the held-out real pairs,
- a copy where its image is one of a training patch (:mod:`torchgeo_specdm.alignment.copies`).

The share is averaged over the classes in the mask: of OSCD's pixels one in fifty changed, and would hardly count
otherwise. Before a pair is judged, regions of its mask that are smaller than real ones are merged into what is around.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchgeo_specdm.alignment.calibration import batches, pixel_thresholds, smallest_region
from torchgeo_specdm.alignment.copies import TrainingIndex
from torchgeo_specdm.alignment.judge import Judge
from torchgeo_specdm.checkpoint import read_json, write_folder, write_json
from torchgeo_specdm.errors import CheckpointError, SpecDMError
from torchgeo_specdm.functional.regions import merge_small_regions
from torchgeo_specdm.spec import DatasetSpec
from torchgeo_specdm.strangers import check_folder
from torchgeo_specdm.typed import construct

FORMAT = 1
_REAL_PAIRS_KEPT = 0.95
# Below it, no held-out pair is among the rejected 5 %
_FEW = 20
_DESCRIPTION, _JUDGE, _COPIES = 'filter.json', 'judge', 'copies.safetensors'


@dataclass(frozen=True)
class Verdicts:
    """What a filter says of a batch of pairs.

    Attributes:
        mask: The masks without small regions, in their shape.
        rejected: Rejected pixels, ``(B, H, W)`` bool.
        score: Share of the pixels of a class that are not rejected, averaged over the classes in the mask, ``(B,)``.
        misaligned: Pairs with too many rejected pixels, ``(B,)`` bool.
        copy: Pairs whose image is a copy of a training patch, ``(B,)`` bool.
        merged: Pixels of each pair whose class was changed to merge a small region, ``(B,)`` int64.
    """

    mask: Tensor
    rejected: Tensor
    score: Tensor
    misaligned: Tensor
    copy: Tensor
    merged: Tensor

    @property
    def accepted(self) -> Tensor:
        """Pairs that nothing speaks against, ``(B,)`` bool."""
        return ~(self.misaligned | self.copy)


@dataclass(frozen=True)
class PairFilter:
    """Judges generated pairs by what real ones are like.

    Attributes:
        spec: The real dataset.
        judge: Trained on its train split.
        pixel_thresholds: Largest loss of a pixel of each class, ``(K,)`` [nat]; infinite for a class that no held-out
            pixel has, for which nothing is known.
        sample_threshold: Largest share of rejected pixels of a pair, averaged over its classes.
        smallest_region: Regions of fewer pixels are merged [px].
        copies: The training patches; None where copies are not looked for.
    """

    spec: DatasetSpec
    judge: Judge
    pixel_thresholds: Tensor
    sample_threshold: float
    smallest_region: int
    copies: TrainingIndex | None = None

    @classmethod
    def calibrate(cls, judge: Judge, train: Any, held_out: Any, spec: DatasetSpec) -> 'PairFilter':
        """Find the thresholds; at most 1024 pairs of each split are read for them.

        Args:
            judge: Trained on ``train`` alone.
            train: The samples that the generator learned from, map-style.
            held_out: Real samples that neither the generator nor the judge learned from, map-style.
            spec: Describes both.

        Raises:
            SpecDMError: No held-out pixel has a label.
        """
        judge = judge.eval()
        smallest = smallest_region(train, spec)
        thresholds = pixel_thresholds(judge, held_out, smallest, spec)
        lenient = cls(spec, judge, thresholds, 1.0, smallest)
        scores = torch.cat([lenient.judge_pairs(batch).score for batch in batches(held_out, spec)])
        if len(scores) < _FEW:
            warnings.warn(
                f'the filter is calibrated on only {len(scores)} held-out pairs of {spec.name}: it rejects what is '
                'worse than all of them, and pixels of no class that they lack',
                stacklevel=2,
            )
        # 'higher', so that at most 5 % of the held-out pairs are above
        limit = torch.quantile(1 - scores.double(), _REAL_PAIRS_KEPT, interpolation='higher')
        return cls(spec, judge, thresholds, float(limit), smallest, _index(train, spec))

    @torch.no_grad()
    def judge_pairs(self, batch: Mapping[str, Tensor]) -> Verdicts:
        """Judge a batch of pairs.

        Args:
            batch: ``image`` ``(B, *spec.image_shape)`` in raw units and ``mask`` ``(B, *spec.mask_shape)``.

        Returns:
            Verdicts on the CPU.
        """
        image, mask = batch['image'].float().cpu(), batch['mask'].long().cpu()
        merged = merge_small_regions(mask, self.smallest_region, self.spec.num_classes)
        loss = self.judge.pixel_loss(image, merged).cpu()
        flat = merged.reshape(loss.shape)
        labelled = ~loss.isnan()
        # A loss that is no number exceeds nothing
        rejected = loss > self.pixel_thresholds[flat.where(labelled, 0)]
        score = 1 - _class_average(rejected, flat, self.spec.num_classes)
        return Verdicts(
            mask=merged,
            rejected=rejected,
            score=score,
            misaligned=1 - score.double() > self.sample_threshold,
            copy=torch.zeros(len(mask), dtype=torch.bool) if self.copies is None else self.copies.copies(image),
            merged=(merged != mask).flatten(1).sum(1),
        )

    def save(self, folder: str | Path, half_precision: bool = False) -> None:
        """Write the filter; a folder that exists is replaced as a whole.

        Args:
            folder: Where to.
            half_precision: Store the judge's kernels as float16. Calibrate with weights that are rounded already
                (:meth:`Judge.round_to_half`), or the thresholds are those of another judge.
        """
        write_folder(Path(folder), lambda partial: self._write(partial, half_precision))

    def _write(self, folder: Path, half_precision: bool) -> None:
        write_json(
            folder / _DESCRIPTION,
            {
                'format': FORMAT,
                'spec': self.spec.to_dict(),
                # JSON knows no infinity
                'pixel_thresholds': [v if np.isfinite(v) else None for v in self.pixel_thresholds.tolist()],
                'sample_threshold': self.sample_threshold,
                'smallest_region': self.smallest_region,
                'refuses_copies': self.copies is not None,
            },
        )
        self.judge.save_pretrained(folder / _JUDGE, half_precision)
        if self.copies is not None:
            self.copies.save(folder / _COPIES)

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: torch.device | str = 'cpu') -> 'PairFilter':
        """Load a filter; its judge computes on ``device``.

        Raises:
            SpecDMError: There is none, or it is damaged.
        """
        folder = Path(folder)
        told = _read(folder)
        judge = Judge.from_pretrained(folder / _JUDGE).to(device)
        limits = [torch.inf if value is None else value for value in told.pixel_thresholds]
        if not len(limits) == told.spec.num_classes == judge.num_classes:
            raise CheckpointError(f'{folder}: {_DESCRIPTION} and the judge have different classes: train it again')
        copies = TrainingIndex.load(folder / _COPIES) if told.refuses_copies else None
        return cls(told.spec, judge, torch.tensor(limits), told.sample_threshold, told.smallest_region, copies)

    @staticmethod
    def read_spec(folder: str | Path) -> DatasetSpec:
        """The spec of a filter, without loading its judge.

        Raises:
            SpecDMError: There is no filter, or it is damaged.
        """
        return _read(Path(folder)).spec


@dataclass(frozen=True)
class _Told:
    """``filter.json``; a threshold that is None is infinite, which JSON does not know."""

    format: int
    spec: DatasetSpec
    pixel_thresholds: tuple[float | None, ...]
    sample_threshold: float
    smallest_region: int
    refuses_copies: bool


def _read(folder: Path) -> _Told:
    if not folder.is_dir():
        raise SpecDMError(
            f'there is no filter at {folder}: train it with "specdm fit --config CONFIG --stage JudgeTask", '
            "CONFIG being the generator's"
        )
    check_folder(folder)
    values = read_json(folder / _DESCRIPTION)
    found = values.get('format')
    if type(found) is not int:
        raise CheckpointError(f'{folder / _DESCRIPTION} declares no format: it describes no filter')
    if found != FORMAT:
        raise CheckpointError(
            f'{folder} has filter format {found}, this release reads {FORMAT}: train the filter again, or upgrade '
            'torchgeo-specdm'
        )
    try:
        return construct(_Told, values, _DESCRIPTION)
    except SpecDMError as error:
        raise CheckpointError(f'{folder / _DESCRIPTION} is damaged ({error}): train the filter again') from error


def _class_average(chosen: Tensor, mask: Tensor, num_classes: int) -> Tensor:
    """Share of the chosen pixels, averaged over the classes in each mask ``(B, H, W)``; 0 where there is none."""
    shares, present = [], []
    for label in range(num_classes):
        pixels = (mask == label).sum((1, 2))
        shares.append((chosen & (mask == label)).sum((1, 2)) / pixels.clamp_min(1))
        present.append(pixels > 0)
    return torch.stack(shares).sum(0) / torch.stack(present).sum(0).clamp_min(1)


def _index(train: Any, spec: DatasetSpec) -> TrainingIndex | None:
    try:
        return TrainingIndex.build(train, range(len(train)), spec)
    except SpecDMError as error:
        warnings.warn(f'the filter will not refuse copies: {error}', stacklevel=4)
        return None
