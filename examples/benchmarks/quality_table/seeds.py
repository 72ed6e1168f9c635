"""Rows of a generator against a baseline, both trained from several seeds: is it better in every one?"""

from collections.abc import Sequence

import torch
from torch import Tensor

from quality_table.figures import distances, over_seeds, ratio
from quality_table.pairs import LOWER, baseline_row, spaces
from quality_table.rows import Row
from quality_table.table import RealSides, Side

BAR = f'in every seed {LOWER}'


def seed_rows(pairs: Sequence[tuple[Side, Side]], real: RealSides) -> list[Row]:
    """How many times as far from train images the baseline is: in each training seed, and on average with a verdict.

    Args:
        pairs: What was seen of samples of the generator and of the baseline, for each seed.
        real: What they imitate.
    """
    if not pairs:
        texts = [
            f'images: {figure} in several training seeds, baseline over this' for figure in ('FD minus floor', 'KID')
        ]
        return [Row(text, bar=BAR, note='--seeds') for text in texts]
    rows = []
    for name, date in spaces(pairs[0][0]):
        found = [_figures(ours[name][date], other[name][date], name, date, real) for ours, other in pairs]
        for figure in found[0][1]:
            about = {'samples': min(count for count, _ in found), 'extractor': name.removeprefix('features/')}
            drawn = torch.stack([figures[figure] for _, figures in found])
            text = f'images, {date}: {figure}'
            each = [
                baseline_row(f'{text} in seed {number}, baseline over this', one[:, 0], one[:, 1], about)
                for number, one in enumerate(drawn, 1)
            ]
            mean = over_seeds(drawn)
            row = Row(
                f'{text} in {len(pairs)} training seeds, baseline over this', ratio(mean[:, 1], mean[:, 0]), **about
            )  # type: ignore[arg-type]
            rows += [*each, row.judged(BAR, all(one.met for one in each))]
    return rows


def _figures(ours: Tensor, other: Tensor, name: str, date: str, real: RealSides) -> tuple[int, dict[str, Tensor]]:
    """N, and resampled figures ``(1 + R, 2)`` of the generator and of the baseline by name."""
    train, held_out = (side[name][date] for side in (real.train, real.held_out))
    count, found = distances(train, ours, other, held_out)
    return count, {'FD minus floor': found['FD'][:, :2] - found['FD'][:, 2:], 'KID': found['KID'][:, :2]}
