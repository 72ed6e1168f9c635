"""Rows of the first stage: what an autoencoder loses, and what its loss of spectral angles is good for."""

from collections.abc import Sequence

import torch
from degenerate import BLOCK
from torch import Tensor

from quality_table.figures import over_seeds, ratio, weighted
from quality_table.rows import Row
from torchgeo_specdm.evaluation.observation import Rows
from torchgeo_specdm.evaluation.reconstruction import measure_reconstruction
from torchgeo_specdm.evaluation.resampling import resampled_interval
from torchgeo_specdm.spec import DatasetSpec


def reconstruction_rows(rows: Rows, plain: Rows, spec: DatasetSpec) -> list[Row]:
    """What the autoencoder loses of test patches, and of images what block means lose."""
    sections = [measure_reconstruction(found, spec).measures for found in (rows, plain)]
    bars = {'RMSE': 0.012, 'spectral angle': 0.035}
    if spec.task == 'change':
        bars['cross-entropy of the mask'] = 0.014
    found = []
    for number, measure in enumerate(sections[0]):
        branch = 'image' if number < 2 else 'mask'
        unit = f' [{measure.unit}]' if measure.unit else ''
        row = Row(f'{branch} branch, {measure.name}{unit}', measure.value, samples=measure.samples)
        if measure.name in bars:
            row = row.at_most(bars[measure.name])
        elif branch == 'mask' and 'IoU' in measure.name and spec.task == 'segmentation':
            row = row.at_least(0.9)
        found.append(row)
        if branch == 'image':
            label = f'{BLOCK} x {BLOCK} block means, {measure.name}{unit}'
            found.append(Row(label, sections[1][number].value, samples=measure.samples))
    return found


def sad_rows(pairs: Sequence[tuple[Rows, Rows]]) -> list[Row]:
    """Spectral angle of autoencoders trained with and without its loss, on the same test samples.

    Args:
        pairs: What was seen of their reconstructions, for each training seed: with, then without.
    """
    text, bar = 'spectral angle of decoded test images', 'lower in every seed'
    if not pairs:
        return [Row(f'{text}, with over without its loss', bar=bar, note='--with-sad, --without-sad')]
    # All are resampled alike, so that the ratio is one of pairs
    angles = torch.stack([torch.stack([_angle(rows) for rows in pair], -1) for pair in pairs])
    samples = len(pairs[0][0]['angle'])
    rows = [
        Row(f'{text}, {label} its loss, seed {seed} [rad]', resampled_interval(one[:, number], low=0), samples=samples)
        for seed, one in enumerate(angles, 1)
        for number, label in enumerate(('with', 'without'))
    ]
    mean = over_seeds(angles)
    row = Row(f'{text}, with over without its loss, {len(pairs)} seeds', ratio(mean[:, 0], mean[:, 1]), samples=samples)
    return [*rows, row.judged(bar, bool((angles[:, 0, 0] < angles[:, 0, 1]).all()))]


def _angle(rows: Rows) -> Tensor:
    """Mean spectral angle of resampled samples, ``(1 + R,)`` [rad]."""
    return weighted(rows['angle'], 0) / weighted(rows['spectra'], 0)
