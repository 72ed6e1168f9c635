"""Rows of masks for given test images: what the generator labels them, beside a U-Net at equal compute.

A generator may draw several masks for an image, and the majority of them is its best answer.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Subset

from quality_table.figures import agreement
from quality_table.observers import MaskObserver
from quality_table.rows import Row
from quality_table.table import Table
from quality_table.unet import budget, equal_steps, train_unet
from torchgeo_specdm.comparison import Counts, count_pixels, iou, sum_samples
from torchgeo_specdm.evaluation.alignment import JudgeObserver
from torchgeo_specdm.evaluation.observation import draw
from torchgeo_specdm.evaluation.resampling import resample_weights, resampled_interval
from torchgeo_specdm.pipeline import SpecDMPipeline
from torchgeo_specdm.spec import DatasetSpec

DRAWS = 8
_TEXT, _RIVAL = 'image → mask on real test images', 'U-Net'
_BAR = f'> {_RIVAL} at equal compute'


def label_rows(table: Table, count: int, steps: int | None = None) -> list[Row]:
    """How well the generator labels test images, and whether it wins against the U-Net.

    Args:
        table: Of the generator.
        count: Number of test images; 0: not measured.
        steps: Of the U-Net's training; by default as many as let it see what the denoiser saw.
    """
    known = 'image' in SpecDMPipeline.read_conditions(table.checkpoint)
    if not (count and known):
        return [Row(f'{_TEXT}, mIoU', bar=_BAR, note='--given-n 0' if known else 'trained with one clock')]
    images = Subset(table.data.test, draw(table.data.test, count))
    answers, steps = generated(table, images), steps or equal_steps(table)
    if steps is None:
        return score_rows(answers, table.spec, 'the checkpoint does not say how long it learned: name --unet-steps')
    judge = JudgeObserver(train_unet(table, steps))
    seen = table.cache.observe(images, range(len(images)), [judge], batch_size=16, text=_RIVAL)[judge.name]
    answers[_RIVAL] = Counts(*(seen[name] for name in Counts._fields))
    return score_rows(answers, table.spec, budget(table, steps))


def generated(table: Table, images: Any) -> dict[str, Counts]:
    """Pixels of each test image ``(N, K)``: in one mask drawn for it, on average, and in the vote of all draws."""
    observer, classes = MaskObserver(table.spec), table.spec.num_classes
    made = table.generate(table.checkpoint, DRAWS * len(images), [observer], given=images, given_streams=['image'])
    # Sample i has image i modulo their number
    masks = made[observer.name]['mask'].unflatten(0, (DRAWS, len(images)))
    real = torch.stack([images[index]['mask'] for index in range(len(images))])
    each = [count_pixels(mask, real, classes) for mask in masks]
    return {
        'one draw': Counts(*(torch.stack(values).mean(0) for values in zip(*each, strict=True))),
        f'vote of {DRAWS}': count_pixels(vote(masks, classes), real, classes),
    }


def vote(masks: Tensor, num_classes: int) -> Tensor:
    """The class that most masks ``(M, ...)`` give a pixel, ``(...)``; of equals, the first."""
    return torch.stack([(masks == number).sum(0) for number in range(num_classes)]).argmax(0)


def score_rows(answers: Mapping[str, Counts], spec: DatasetSpec, note: str) -> list[Row]:
    """The rows of answers; those of the U-Net, where there are any, are the bar of the others."""
    samples = len(next(iter(answers.values())).hit)
    scores = {name: agreement(counts._asdict(), 0) for name, counts in answers.items()}
    rows = {
        name: Row(f'{_TEXT}, mIoU, {name}', resampled_interval(drawn, 0, 1), samples=samples)
        for name, drawn in scores.items()
    }
    rival = rows.pop(_RIVAL, None)
    if rival is None:
        found = [replace(row, bar=_BAR, note=note) for row in rows.values()]
    else:
        found = [row.beats(rival.value, _RIVAL) for row in rows.values()]
        # All are resampled alike, so that these are differences of pairs
        found += [
            Row(
                f'{_TEXT}, mIoU, {name} minus {_RIVAL}',
                resampled_interval(scores[name] - scores[_RIVAL]),
                None,
                samples,
            )
            for name in rows
        ]
        found.append(replace(rival, note=note))
    if spec.task == 'change':
        weights = resample_weights(samples, 0)
        of_change = {name: iou(sum_samples(counts, weights))[:, 1] for name, counts in answers.items()}
        found += [
            Row(f'{_TEXT}, IoU of change, {name}', resampled_interval(drawn, 0, 1), None, samples)
            for name, drawn in of_change.items()
        ]
    return found
