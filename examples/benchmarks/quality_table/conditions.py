"""Rows of what a generator is asked for: shares of classes, and images for given masks."""

import torch
from torch import Tensor
from torch.utils.data import Subset

from quality_table.figures import agreement
from quality_table.observers import MaskObserver
from quality_table.rows import Row
from quality_table.table import Table
from torchgeo_specdm.evaluation.measure import Interval
from torchgeo_specdm.evaluation.observation import draw
from torchgeo_specdm.evaluation.resampling import resample_weights, resampled_interval
from torchgeo_specdm.pipeline import SpecDMPipeline

SHARES = (0.1, 0.4, 0.7)


def request_rows(table: Table, count: int, guidance: float | None = None) -> list[Row]:
    """Requested against obtained shares of pixels, each class on its own; of change, its share alone.

    Args:
        table: Of the generator.
        count: Samples of each class and share; 0: not measured.
        guidance: How strongly to pull towards the shares; by default the pipeline's.
    """
    text = f'class share asked {" / ".join(map(str, SHARES))}: mean absolute error per sample'
    known = 'shares' in SpecDMPipeline.read_conditions(table.checkpoint)
    if not (count and known):
        return [Row(text, bar='≤ 0.08', note='--conditions-n 0' if known else 'trained without class_control')]
    spec = table.spec
    classes = list(enumerate(spec.classes))[1 if spec.task == 'change' else 0 :]
    obtained = torch.stack(
        [torch.stack([_obtained(table, count, k, share, guidance) for share in SHARES]) for k, _ in classes]
    )
    errors = (obtained - torch.tensor(SHARES, dtype=torch.float64).view(-1, 1)).abs()
    rows = [Row(text, _mean(errors.flatten(0, 1)), samples=errors.numel()).at_most(0.08)]
    for number, (_, name) in enumerate(classes):
        got = ' / '.join(f'{float(share):.2f}' for share in obtained[number].mean(1))
        note = {'samples': errors[number].numel(), 'note': f'obtained {got}'}
        rows.append(Row(f'class share of {name}: mean absolute error', _mean(errors[number]), **note))
    return rows


def _obtained(table: Table, count: int, number: int, share: float, guidance: float | None) -> Tensor:
    """The share of a class in each mask that was asked for it, ``(count,)``."""
    asked = {table.spec.classes[number]: share}
    # Another seed for each request: samples of one seed start from the same noise, and are no independent draws
    seed = 1 + number * len(SHARES) + SHARES.index(share)
    observer = MaskObserver(table.spec)
    made = table.generate(table.checkpoint, count, [observer], classes=asked, guidance=guidance, seed=seed)
    pixels = made[observer.name]['pixels'].double()
    return pixels[:, number] / pixels.sum(1)


def _mean(errors: Tensor) -> Interval:
    """Mean of errors ``(cells, N)`` whose samples are resampled in each cell."""
    drawn = [resample_weights(len(cell), seed) @ cell / len(cell) for seed, cell in enumerate(errors)]
    return resampled_interval(torch.stack(drawn).mean(0), 0, 1)


def dressed_rows(table: Table, count: int) -> list[Row]:
    """Images generated for real test masks: what the rule says of them beside the masks. Of land cover alone."""
    if table.rule is None:
        return []
    text = 'images for real test masks: rule(image) with the mask, mIoU'
    known = 'mask' in SpecDMPipeline.read_conditions(table.checkpoint)
    if not (count and known):
        return [Row(text, note='--given-n 0' if known else 'not measured: trained with one clock')]
    given = Subset(table.data.test, draw(table.data.test, count))
    made = table.generate(table.checkpoint, len(given), [table.rule], given=given, given_streams=['mask'])
    intervals = [
        resampled_interval(agreement(rows, 0), 0, 1) for rows in (made['rule'], table.real.test['decoded/rule'])
    ]
    return [Row(text, *intervals, len(given))]
