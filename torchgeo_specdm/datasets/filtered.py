"""Blocks that are filled with the samples that a filter accepts.

Block b of size B has candidates of its own: with n batches of candidates per block, those are the samples
[nbB, n(b+1)B) of the unfiltered dataset. They are generated batch by batch until B are accepted. When all were seen and
fewer are, the best of the rest fill the block. So the block is full whatever the filter says, and still a function of b
alone.
"""

from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torchgeo_specdm.checkpoint import FILTER
from torchgeo_specdm.datasets.blocks import Block
from torchgeo_specdm.spec import DatasetSpec

if TYPE_CHECKING:
    from torchgeo_specdm.alignment.filter import PairFilter, Verdicts


@dataclass(frozen=True)
class Verdict:
    """What the filter said of a sample that is served.

    Attributes:
        candidate: Its index in the unfiltered dataset.
        score: Share of the pixels of a class that the judge does not reject, averaged over the classes in the mask.
        misaligned: Too many of its pixels are rejected.
        copy: Its image is a copy of a training patch.
        merged: Pixels whose class was changed to merge small regions.
        rejected: Rejected pixels, ``(H, W)`` bool; they are the ignored ones where the dataset has an ignore index.
    """

    candidate: int
    score: float
    misaligned: bool
    copy: bool
    merged: int
    rejected: Tensor

    @property
    def accepted(self) -> bool:
        """Whether nothing speaks against the sample; a block that was short of candidates has others too."""
        return not (self.misaligned or self.copy)


@dataclass(frozen=True)
class FilterSummary:
    """Counts over blocks.

    Attributes:
        candidates: Samples that were generated and judged.
        accepted: Those that nothing spoke against.
        misaligned: Those with too many rejected pixels.
        copies: Those that are copies of training patches; a sample can be both.
        served: Samples in the blocks.
        filled: Served though not accepted, for want of candidates.
        pixels: Pixels of the served samples.
        pixels_rejected: Served pixels that the judge rejects.
        pixels_ignored: Those of them that got the ignore index: all or, in a dataset without such an index, none.
        pixels_merged: Served pixels whose class was changed to merge small regions.
    """

    candidates: int = 0
    accepted: int = 0
    misaligned: int = 0
    copies: int = 0
    served: int = 0
    filled: int = 0
    pixels: int = 0
    pixels_rejected: int = 0
    pixels_ignored: int = 0
    pixels_merged: int = 0

    def __add__(self, other: 'FilterSummary') -> 'FilterSummary':
        return FilterSummary(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def rejected_share(self) -> float:
        """Share of the candidates that were not accepted."""
        return 1 - self.accepted / max(self.candidates, 1)

    def to_dict(self) -> dict[str, int]:
        """The counts by name."""
        return asdict(self)


def find_filter(keep: str | Path, checkpoint: Path, spec: DatasetSpec) -> Path:
    """The folder of the filter that ``keep`` names.

    Args:
        keep: ``aligned`` for the filter of the checkpoint, else the folder of a filter.
        checkpoint: Folder of the generator.
        spec: Of the generator.

    Raises:
        SpecDMError: There is no such filter, it is damaged, or it is of another dataset.
    """
    # Here and below, not above: what finds copies reads datasets
    from torchgeo_specdm.alignment.filter import PairFilter

    folder = checkpoint / FILTER if keep == 'aligned' else Path(keep)
    spec.require_match(PairFilter.read_spec(folder), 'the generator', 'the filter')
    return folder


def load_filter(folder: Path, device: torch.device) -> 'PairFilter':
    """The filter in ``folder``; its judge computes on ``device``.

    Raises:
        SpecDMError: It is damaged.
    """
    from torchgeo_specdm.alignment.filter import PairFilter

    return PairFilter.from_pretrained(folder, device)


def fill_block(
    batches: Iterable[tuple[range, Block]], pair_filter: 'PairFilter', size: int
) -> tuple[Block, FilterSummary]:
    """Choose the samples of one block.

    Args:
        batches: Indices in the unfiltered dataset and samples (``image``, ``mask``); read no further than necessary.
        pair_filter: Judges them.
        size: Number of samples of the block; the batches hold at least as many.

    Returns:
        ``image`` and ``mask`` of the chosen samples, rejected pixels ignored where the dataset has an index for that,
        and the fields of :class:`Verdict` as tensors; and the counts.
    """
    parts: list[Block] = []
    for indices, batch in batches:
        parts.append(batch | _columns(pair_filter.judge_pairs(batch)) | {'candidate': torch.tensor(indices)})
        if sum(int(_accepted(part).sum()) for part in parts) >= size:
            break
    seen = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    accepted = _accepted(seen)
    block = {name: value[_best(seen, accepted)[:size]] for name, value in seen.items()}
    ignore = pair_filter.spec.ignore_index
    if ignore is not None:
        block['mask'] = block['mask'].masked_fill(block['rejected'].view_as(block['mask']), ignore)
    rejected = int(block['rejected'].sum())
    return block, FilterSummary(
        candidates=len(accepted),
        accepted=int(accepted.sum()),
        misaligned=int(seen['misaligned'].sum()),
        copies=int(seen['copy'].sum()),
        served=size,
        filled=size - int(_accepted(block).sum()),
        pixels=block['mask'].numel(),
        pixels_rejected=rejected,
        pixels_ignored=0 if ignore is None else rejected,
        pixels_merged=int(block['merged'].sum()),
    )


def verdict(block: Block, row: int) -> Verdict:
    """The verdict on one sample of a block that :func:`fill_block` returned."""
    return Verdict(
        candidate=int(block['candidate'][row]),
        score=float(block['score'][row]),
        misaligned=bool(block['misaligned'][row]),
        copy=bool(block['copy'][row]),
        merged=int(block['merged'][row]),
        rejected=block['rejected'][row].clone(),
    )


def _columns(verdicts: 'Verdicts') -> Block:
    return {name: getattr(verdicts, name) for name in ('mask', 'rejected', 'score', 'misaligned', 'copy', 'merged')}


def _accepted(block: Block) -> Tensor:
    return ~(block['misaligned'] | block['copy'])


def _best(seen: Block, accepted: Tensor) -> list[int]:
    """Accepted samples in their order, then the rest: copies last, the higher score first."""
    rank = [
        (False, False, 0.0, row) if fine else (True, copy, -score, row)
        for row, (fine, copy, score) in enumerate(
            zip(accepted.tolist(), seen['copy'].tolist(), seen['score'].tolist(), strict=True)
        )
    ]
    return [row for *_, row in sorted(rank)]
