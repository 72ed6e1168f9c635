"""Generated samples as files, in one of the formats of :mod:`torchgeo_specdm.exporting`.

A file appears under its name when it is complete; what is there is not generated again. Of filtered samples, the counts
of each block are kept in ``blocks.jsonl``, so that an interrupted run knows them all.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from torchgeo_specdm.checkpoint import folder_hash, read_json, write_json
from torchgeo_specdm.datasets.conditions import GivenStreams
from torchgeo_specdm.datasets.exported import DESCRIPTION
from torchgeo_specdm.datasets.filtered import FilterSummary, Verdict
from torchgeo_specdm.datasets.synthetic import SpecDMSynthetic
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.exporting import Format, Grid, make_format
from torchgeo_specdm.exporting.base import is_partial, replace_file
from torchgeo_specdm.hub import folder_name

_BLOCKS = 'blocks.jsonl'


def export(
    checkpoint: str | Path,
    folder: Path,
    count: int,
    *,
    seed: int = 0,
    steps: int = 20,
    solver: str | None = None,
    batch_size: int | None = None,
    device: str | None = None,
    keep: str | Path | None = None,
    classes: Mapping[str, float] | str | None = None,
    guidance: float | None = None,
    given: Any = None,
    given_streams: Sequence[str] = ('mask',),
    agreement: float = 1.0,
    format: str = 'geotiff',
    crs: str | None = None,
    transform: Sequence[float] | None = None,
    shard_size: int | None = None,
) -> None:
    """Generate ``count`` samples of a checkpoint into ``folder``; what is already there is kept.

    Args:
        checkpoint: The generator: folder, name or address on the hub.
        folder: Where to write; created.
        count: Number of samples, from index 0.
        seed: As in :class:`~torchgeo_specdm.datasets.SpecDMSynthetic`, like all that follow.
        steps: Steps of the solver.
        solver: Name of the solver; the checkpoint's by default.
        batch_size: Samples generated at once.
        device: Where to generate.
        keep: ``aligned`` or the folder of a filter.
        classes: Shares of pixels by class name, or ``balanced``.
        guidance: How strongly to pull towards them.
        given: Real samples, parts of which are kept.
        given_streams: Which parts.
        agreement: How strongly to pull images and masks towards those that go together.
        format: A name in :data:`torchgeo_specdm.exporting.FORMATS`.
        crs: Coordinate system that the samples are said to lie in, as pyproj takes it; fictitious by default. See
            :class:`~torchgeo_specdm.exporting.grid.Grid`.
        transform: Affine transform of sample 0, six numbers as rasterio orders them.
        shard_size: Samples in a tar file of ``webdataset``; 100 by default.

    Raises:
        SpecDMError: The checkpoint or the filter is bad, does not fit the format, or the folder holds something else.
    """
    dataset = SpecDMSynthetic(
        checkpoint,
        seed=seed,
        steps=steps,
        solver=solver,
        batch_size=batch_size,
        device=device,
        keep=keep,
        classes=classes,
        guidance=guidance,
        given=given,
        given_streams=given_streams,
        agreement=agreement,
        # The files are what is kept
        cache=None,
    )
    spec = dataset.spec
    layout = make_format(format, spec, Grid(crs, transform), shard_size)
    settings: dict[str, Any] = {
        'generator': folder_name(dataset.checkpoint),
        'sha256': folder_hash(dataset.checkpoint),
        'seed': seed,
        'steps': steps,
        'solver': solver,
        'spec': spec.to_dict(),
        'format': format,
        'shard_size': layout.unit_size,
        'grid': layout.grid.to_dict(),
        'filter': None,
        'classes': classes if classes is None or isinstance(classes, str) else dict(classes),
        'guidance': guidance,
        'agreement': agreement,
        'given': next((one.identity() for one in dataset.conditions if isinstance(one, GivenStreams)), None),
    }
    if dataset.filter is not None:
        # A block is filled as a whole: its size decides which candidates are served
        settings |= {'filter': folder_hash(dataset.filter), 'block_size': dataset.block_size}
    count = max(count, _claimed(folder, settings))
    tags = _tags(settings)
    missing = _missing(layout, folder, count)
    log = _BlockLog(folder)
    with tqdm(desc='sampling', unit='image', initial=count - sum(map(len, missing.values())), total=count) as bar:
        for unit, indices in missing.items():
            items = []
            for index in indices:
                sample = dataset[index]
                if dataset.filter is not None:
                    _require_block_size(dataset, settings['block_size'])
                # The first sample shows whether device and solver work: nothing is written before
                _describe(folder, settings | {'count': count})
                own: dict[str, Any] = {}
                if dataset.filter is not None:
                    log.add(index // dataset.block_size, dataset.filter_summary(index))
                    bar.set_postfix(rejected=f'{log.total.rejected_share:.0%}')
                    own = _judged(dataset.verdict(index))
                items.append(layout.item(index, sample, tags | own))
                bar.update()
            layout.write(folder, unit, items)
    layout.finish(folder, count)
    if dataset.filter is not None:
        _describe(folder, settings | {'count': count, 'filtered': log.total.to_dict()})


def _tags(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What every file says of its origin."""
    spec = settings['spec']
    tags = {
        'SYNTHETIC': 'torchgeo_specdm',
        'GENERATOR': settings['generator'],
        'CHECKPOINT_SHA256': settings['sha256'],
        'SEED': settings['seed'],
    }
    return tags | {name.upper(): spec[name] for name in ('licence', 'attribution') if spec[name]}


def _judged(verdict: Verdict) -> dict[str, Any]:
    """What the filter said of a sample."""
    return {'ACCEPTED': verdict.accepted, 'SCORE': f'{verdict.score:.4f}', 'CANDIDATE': verdict.candidate}


def _missing(layout: Format, folder: Path, count: int) -> dict[int, range]:
    """The indices of each unit of ``count`` samples that is not there yet."""
    size = layout.unit_size
    units = {unit: range(unit * size, min((unit + 1) * size, count)) for unit in range(math.ceil(count / size))}
    return {unit: indices for unit, indices in units.items() if not layout.is_complete(folder, unit, len(indices))}


class _BlockLog:
    """What the filter counted in each block that ``folder`` has samples of, one line of JSON per block."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / _BLOCKS
        text = self.path.read_text(encoding='utf-8') if self.path.is_file() else ''
        # A line without an end was being written at an interruption, before any sample of its block
        self.lines = text.split('\n')[:-1]
        self.blocks = {row.pop('block'): FilterSummary(**row) for row in map(json.loads, self.lines)}

    @property
    def total(self) -> FilterSummary:
        return sum(self.blocks.values(), FilterSummary())

    def add(self, number: int, summary: FilterSummary) -> None:
        if number not in self.blocks:
            self.blocks[number] = summary
            self.lines.append(json.dumps({'block': number} | summary.to_dict()))
            replace_file(self.path.parent, _BLOCKS, Path.write_text, '\n'.join([*self.lines, '']), 'utf-8')


def _require_block_size(dataset: SpecDMSynthetic, expected: int) -> None:
    if dataset.block_size != expected:
        raise SpecDMError(
            f'the GPU has too little memory for {expected} samples at once, and filtered samples of different batch '
            f'sizes do not go together: use --batch-size {dataset.block_size}, and another --out if there are samples'
        )


def _claimed(folder: Path, settings: dict[str, Any]) -> int:
    """How many samples of these settings the folder is meant to hold already."""
    description = folder / DESCRIPTION
    if not description.is_file():
        # A run that was killed in its first moment leaves a part of the description
        if folder.exists() and (not folder.is_dir() or not all(is_partial(path) for path in folder.iterdir())):
            raise SpecDMError(f'{folder} exists and holds no {DESCRIPTION}: name another folder with --out')
        return 0
    found = read_json(description)
    if different := [name for name, value in settings.items() if found.get(name) != value]:
        raise SpecDMError(
            f'{folder} holds samples made with another {", ".join(different)}: name another folder with --out'
        )
    return int(found.get('count', 0))


def _describe(folder: Path, description: dict[str, Any]) -> None:
    path = folder / DESCRIPTION
    if not path.is_file() or read_json(path) != description:
        replace_file(folder, DESCRIPTION, write_json, description)
