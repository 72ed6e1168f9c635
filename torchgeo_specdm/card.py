"""The model card of a checkpoint: its ``README.md`` in the format of the Hugging Face hub, and its ``LICENSE``.

A card is a function of the folder. Figures come from the file that ``examples/benchmarks/quality.py`` writes, which is
kept beside the card as ``quality.json``, and only if it was measured on these very weights.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from torchgeo_specdm.catalogue import CATALOGUE
from torchgeo_specdm.checkpoint import QUALITY, folder_hash, read_json, write_json
from torchgeo_specdm.description import Description, read_description
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.evaluation.measure import Interval
from torchgeo_specdm.spec import DatasetSpec

# What a checkpoint records of its training
_LENGTH = {
    'steps': 'steps',
    'batch_size': 'latents in a batch',
    'train_samples': 'train latents, each sample in all orientations',
}
# By the name in the spec
_DATA = {
    'Indian Pines': 'One AVIRIS scene of 145 x 145 px, cut into blocks: no pixel is in two splits. The generator '
    'learned from the train blocks.',
    'OSCD': 'Pairs of dates of 24 cities, split by city. The generator learned from the train cities without the '
    'validation cities (abudhabi, pisa and rennes, unless the command below names others); it never saw the ten test '
    'cities.',
    'OSCD landcover': "OSCD's imagery, each date a sample. The labels follow a rule on the spectrum "
    "(`torchgeo_specdm.functional.landcover`); OSCD's own labels are not used. The generator learned from the train "
    'cities without the validation cities (paris, pisa and rennes, unless the command below names others); it never '
    'saw the ten test cities.',
}
_CC = re.compile(r'CC (BY[A-Z-]*) (\d\.\d)')
_CARD = """\
---
{front}---

# A generator of labelled images: {name}

Draws {dates} with pixel masks that imitate {name}, for {task}: {size}.
Image and mask come from one latent diffusion, by torchgeo_specdm. They are synthetic: a map of no place.

```python
from torchgeo_specdm.datasets import SpecDMSynthetic

synthetic = SpecDMSynthetic('{source}', length=100)
synthetic[0]  # image, mask, synthetic
```

Classes: {classes}.

## Data and split

{data}

## Licence and attribution

Licence: {licence}. The weights inherit it from the data; files that `specdm sample` writes name it too.

Attribution: {attribution}.

## Training

```bash
{command}
```
{facts}
## Measured figures

{figures}

Weights and configuration: SHA-256 `{hash}`.
"""


def write_card(folder: Path, metrics: Path | None = None) -> None:
    """Write ``README.md`` and, where the data has a licence, ``LICENSE`` into a checkpoint's folder.

    Args:
        folder: Of the checkpoint.
        metrics: What ``quality.py`` wrote of it; copied to ``quality.json``. Without it, one that is there is used.

    Raises:
        CheckpointError: The folder is no checkpoint, or a file in it is damaged.
        SpecDMError: The figures are those of other weights, or no figures.
    """
    described, found = read_description(folder), _measured(folder, metrics)
    text = _text(folder, described, found)
    if found is not None:
        write_json(folder / QUALITY, {key: found[key] for key in ('checkpoint', 'command', 'rows') if key in found})
    (folder / 'README.md').write_text(text, encoding='utf-8')
    if described.spec.licence:
        (folder / 'LICENSE').write_text(licence_text(described.spec), encoding='utf-8')


def card(folder: Path) -> str:
    """The text of the card.

    Raises:
        CheckpointError: The folder is no checkpoint, or a file in it is damaged.
        SpecDMError: ``quality.json`` is of other weights, or holds no figures.
    """
    return _text(folder, read_description(folder), _measured(folder))


def licence_text(spec: DatasetSpec) -> str:
    """The ``LICENSE`` of a checkpoint: that of the data, which it inherits."""
    found = _CC.search(spec.licence)
    link = f'\nhttps://creativecommons.org/licenses/{found[1].lower()}/{found[2]}/legalcode\n' if found else ''
    return (
        f'The weights in this folder were trained on {spec.name} and are under the licence of that data:\n\n'
        f'{spec.licence}\n{link}\nAttribution: {spec.attribution or "none declared"}\n'
    )


def _text(folder: Path, described: Description, found: dict[str, Any] | None) -> str:
    spec, trainings = described.spec, _trainings(described.training)
    lengths = [', '.join(f'{one[key]} {text}' for key, text in _LENGTH.items() if one.get(key)) for one in trainings]
    facts = '; then '.join(filter(None, lengths))
    return _CARD.format(
        front=yaml.safe_dump(_front_matter(spec), sort_keys=False, allow_unicode=True, width=120),
        name=spec.name or 'a dataset without a name',
        dates='pairs of dates' if spec.num_dates == 2 else 'images',
        size=f'{spec.num_bands} bands, {spec.patch_size} x {spec.patch_size} px, in {spec.unit or "undeclared units"}',
        task='change detection' if spec.task == 'change' else 'semantic segmentation',
        classes=', '.join(name or f'class {value}' for value, name in enumerate(spec.classes)),
        source=name if (name := folder.resolve().name) in CATALOGUE else 'path/to/this/folder',
        data=_DATA.get(
            spec.name, 'The generator learned from the train split of the data that the command below names.'
        ),
        licence=spec.licence or 'the spec declares none',
        attribution=spec.attribution or 'the spec declares none',
        command='\n'.join(one.get('command', 'not recorded') for one in trainings),
        facts=f'\nThe denoiser: {facts}.\n' if facts else '',
        figures='Not measured.' if found is None else _figures(found, spec),
        hash=folder_hash(folder),
    )


def _trainings(training: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The trainings that made a generator, the first one first."""
    earlier = training.get('pretrained')
    return [*(_trainings(earlier) if isinstance(earlier, dict) else []), training]


def _front_matter(spec: DatasetSpec) -> dict[str, Any]:
    found = _CC.search(spec.licence)
    licence: dict[str, Any] = {'license': f'cc-{found[1].lower()}-{found[2]}' if found else 'unknown'}
    if spec.licence and not found:
        # What the hub asks of a licence that it has no word for
        licence = {'license': 'other', 'license_name': _slug(spec.licence), 'license_link': 'LICENSE'}
    sensed = 'hyperspectral' if spec.num_bands > 30 else 'multispectral'
    task = 'change-detection' if spec.task == 'change' else 'image-segmentation'
    return licence | {
        'library_name': 'torchgeo-specdm',
        'pipeline_tag': 'unconditional-image-generation',
        'tags': ['torchgeo', 'remote-sensing', 'earth-observation', 'synthetic-data', 'diffusion', task, sensed],
        'datasets': [_slug(spec.name)] if spec.name else [],
    }


def _slug(text: str) -> str:
    return re.sub(r'[^a-z0-9.]+', '-', text.lower()).strip('-')


def _measured(folder: Path, metrics: Path | None = None) -> dict[str, Any] | None:
    """The figures in ``metrics`` or in the folder, if they are those of these weights; None where there are none."""
    path = metrics or folder / QUALITY
    if metrics is None and not path.is_file():
        return None
    found, here = read_json(path), folder_hash(folder)
    rows = found.get('rows')
    if not isinstance(rows, list) or not all(map(_is_row, rows)):
        raise SpecDMError(f'{path} holds no figures: give what examples/benchmarks/quality.py wrote')
    if found.get('checkpoint') != here:
        other = str(found.get('checkpoint'))
        raise SpecDMError(
            f'{path} was measured on other weights (SHA-256 {other[:12]}..., not {here[:12]}...): measure these'
        )
    return found


def _is_row(row: Any) -> bool:
    known = isinstance(row, dict) and {'figure', 'value', 'real', 'samples', 'extractor', 'bar', 'met'} <= row.keys()
    return known and all(isinstance(row[key], list) and len(row[key]) == 3 for key in ('value', 'real') if row[key])


def _figures(found: dict[str, Any], spec: DatasetSpec) -> str:
    # In reflectance, of Sentinel-2's bands: for other data they would say nothing
    barred = spec.unit.startswith('Sentinel-2')
    rows = [_row(row, barred) for row in found['rows'] if _interval(row['value']) or (barred and row['bar'])]
    header = ['figure', 'value [95 % interval]', 'real samples', 'N', 'features', *(['bar', ''] if barred else [])]
    lines = [f'```bash\n{found["command"]}\n```\n'] if found.get('command') else []
    return '\n'.join([*lines, _line(header), _line(['---'] * len(header)), *map(_line, rows)])


def _row(row: dict[str, Any], barred: bool) -> list[str]:
    verdict = {True: 'met', False: 'not met', None: 'not measured' if row['bar'] else ''}[row['met']]
    cells = [
        row['figure'],
        _interval(row['value']),
        _interval(row['real']),
        str(row['samples'] or ''),
        row['extractor'],
    ]
    return [*cells, row['bar'], verdict] if barred else cells


def _interval(values: list[float | None] | None) -> str:
    """Value and limits, as far as they were measured."""
    if values is None or values[0] is None:
        return ''
    known = [value for value in values if value is not None]
    return str(Interval(*known)) if len(known) == 3 else f'{known[0]:.3g}'


def _line(cells: list[str]) -> str:
    return f'| {" | ".join(cells)} |'
