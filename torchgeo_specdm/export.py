"""Generated samples as GeoTIFF: ``image/000000.tif`` (``_t1``, ``_t2`` for two dates) and ``mask/000000.tif``.

A file appears under its name when it is complete; what is there is not generated again. Of filtered samples, the counts
of each block are kept in ``blocks.jsonl``, so that an interrupted run knows them all.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import Affine
from tqdm import tqdm

from torchgeo_specdm.checkpoint import folder_hash, read_json, write_json
from torchgeo_specdm.datasets.conditions import GivenStreams
from torchgeo_specdm.datasets.exported import DESCRIPTION, sample_files
from torchgeo_specdm.datasets.filtered import FilterSummary
from torchgeo_specdm.datasets.synthetic import SpecDMSynthetic
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.hub import folder_name
from torchgeo_specdm.spec import DatasetSpec

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

    Raises:
        SpecDMError: The checkpoint or the filter is bad, or the folder holds something else.
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
    settings: dict[str, Any] = {
        'generator': folder_name(dataset.checkpoint),
        'sha256': folder_hash(dataset.checkpoint),
        'seed': seed,
        'steps': steps,
        'solver': solver,
        'spec': spec.to_dict(),
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
    tags = {'SYNTHETIC': 'torchgeo_specdm', 'GENERATOR': settings['generator'], 'SEED': seed}
    tags |= {name: text for name, text in {'LICENCE': spec.licence, 'ATTRIBUTION': spec.attribution}.items() if text}
    missing = [i for i in range(count) if not all(path.is_file() for path in _paths(folder, i, spec))]
    log = _BlockLog(folder)
    with tqdm(missing, desc='sampling', unit='image', initial=count - len(missing), total=count) as bar:
        for index in bar:
            sample = dataset[index]
            if dataset.filter is not None:
                _require_block_size(dataset, settings['block_size'])
            # The first sample shows whether device and solver work: nothing is written before
            _describe(folder, settings | {'count': count})
            own = {'INDEX': index}
            if dataset.filter is not None:
                log.add(index // dataset.block_size, dataset.filter_summary(index))
                bar.set_postfix(rejected=f'{log.total.rejected_share:.0%}')
                verdict = dataset.verdict(index)
                own |= {'ACCEPTED': verdict.accepted, 'SCORE': f'{verdict.score:.4f}', 'CANDIDATE': verdict.candidate}
            write_sample(folder, index, sample, spec, tags | own)
    if dataset.filter is not None:
        _describe(folder, settings | {'count': count, 'filtered': log.total.to_dict()})


class _BlockLog:
    """What the filter counted in each block that ``folder`` has samples of, one line of JSON per block."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / _BLOCKS
        text = self.path.read_text(encoding='utf-8') if self.path.is_file() else ''
        # A last line without an end was being written at an interruption, before any sample of its block
        self.lines = text.split('\n')[:-1]
        self.blocks = {row.pop('block'): FilterSummary(**row) for row in map(json.loads, self.lines)}

    @property
    def total(self) -> FilterSummary:
        return sum(self.blocks.values(), FilterSummary())

    def add(self, number: int, summary: FilterSummary) -> None:
        if number not in self.blocks:
            self.blocks[number] = summary
            self.lines.append(json.dumps({'block': number} | summary.to_dict()))
            self.path.write_text('\n'.join([*self.lines, '']), encoding='utf-8')


def _require_block_size(dataset: SpecDMSynthetic, expected: int) -> None:
    if dataset.block_size != expected:
        raise SpecDMError(
            f'the GPU has too little memory for {expected} samples at once, and filtered samples of different batch '
            f'sizes do not go together: use --batch-size {dataset.block_size}, and another --out if there are samples'
        )


def write_sample(folder: Path, index: int, sample: dict[str, Any], spec: DatasetSpec, tags: dict[str, Any]) -> None:
    """Write the image and the mask of one sample.

    Args:
        folder: Holds the folders ``image`` and ``mask``.
        index: Names the files.
        sample: ``image`` and ``mask`` in the shapes of ``spec``.
        spec: Description of the bands, the data type and the classes.
        tags: Metadata of each file.
    """
    images, mask = sample_files(folder, index, spec)
    bands = sample['image'].numpy().reshape(len(images), spec.num_bands, spec.patch_size, spec.patch_size)
    for path, values in zip(images, bands, strict=True):
        _write(path, values.astype(spec.dtype), spec, tags, spec.bands)
    labels = sample['mask'].numpy().reshape(1, spec.patch_size, spec.patch_size)
    labels = labels.astype(np.result_type(*map(np.min_scalar_type, (spec.num_classes, spec.ignore_index or 0))))
    if spec.ignore_index is not None:
        tags = tags | {'IGNORE_INDEX': spec.ignore_index}
    names = {f'CLASS_{value}': name for value, name in enumerate(spec.classes) if name}
    _write(mask, labels, spec, tags | names, ('class',), spec.palette)


def _write(
    path: Path,
    values: Any,
    spec: DatasetSpec,
    tags: dict[str, Any],
    names: tuple[str, ...],
    palette: tuple[tuple[int, int, int], ...] | None = None,
) -> None:
    partial = path.with_name(f'.{path.name}.partial-{os.getpid()}')
    count, height, width = values.shape
    # No place on Earth: the transform says the size of a pixel alone
    transform = Affine.scale(spec.gsd or 1.0, -(spec.gsd or 1.0))
    with rasterio.open(
        partial,
        'w',
        driver='GTiff',
        count=count,
        height=height,
        width=width,
        dtype=values.dtype,
        transform=transform,
        compress='deflate',
    ) as raster:
        raster.write(values)
        raster.update_tags(**tags)
        for band, name in enumerate(names, 1):
            raster.set_band_description(band, name)
        # A colour table cannot have negative entries
        if palette and values.dtype.kind == 'u':
            raster.write_colormap(1, dict(enumerate(palette)))
    partial.replace(path)


def _claimed(folder: Path, settings: dict[str, Any]) -> int:
    """How many samples of these settings the folder is meant to hold already."""
    description = folder / DESCRIPTION
    if not description.is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise SpecDMError(f'{folder} exists and holds no {DESCRIPTION}: name another folder with --out')
        return 0
    found = read_json(description)
    if different := [name for name, value in settings.items() if found.get(name) != value]:
        raise SpecDMError(
            f'{folder} holds samples made with another {", ".join(different)}: name another folder with --out'
        )
    return int(found.get('count', 0))


def _describe(folder: Path, description: dict[str, Any]) -> None:
    for name in ('image', 'mask'):
        (folder / name).mkdir(parents=True, exist_ok=True)
    path = folder / DESCRIPTION
    if not path.is_file() or read_json(path) != description:
        write_json(path, description)


def _paths(folder: Path, index: int, spec: DatasetSpec) -> list[Path]:
    images, mask = sample_files(folder, index, spec)
    return [*images, mask]
