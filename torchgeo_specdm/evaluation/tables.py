"""Tables of measures, a column for each generator, with the settings behind them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from torchgeo_specdm.evaluation.measure import Interval, Measure
from torchgeo_specdm.evaluation.result import Generator
from torchgeo_specdm.report import Fragment, bullets, folded, joined, mark, number, paragraph, table

# Longer lists are in the JSON file only
_LISTED = 12
# What a filter counts, in words, and of what it is a share
FILTERED = {
    'candidates': ('samples generated and judged', ''),
    'accepted': ('accepted', 'candidates'),
    'misaligned': ('rejected: the judge rejects too many pixels', 'candidates'),
    'copies': ('rejected: copies of training patches', 'candidates'),
    'served': ('samples in the data set', ''),
    'filled': ('of these not accepted, but the best of what was left', 'served'),
    'pixels': ('pixels in the data set', ''),
    'pixels_rejected': ('of these rejected by the judge', 'pixels'),
    'pixels_ignored': ('of these without a label for that', 'pixels'),
    'pixels_merged': ('of these given another class, to merge small regions', 'pixels'),
}


def measure_table(heading: str, generators: Sequence[Generator]) -> list[Fragment]:
    """The section of this title: its question, its measures side by side, what is flagged, notes and settings.

    Args:
        heading: Title of a section that at least one generator has; else the result is empty.
        generators: All generators; a measure that one of them lacks leaves an empty cell.
    """
    sections = {source.name: s for source in generators for s in source.sections if s.title == heading}
    if not sections:
        return []
    measures: dict[str, dict[str, Measure]] = {}
    for source, section in sections.items():
        for measure in section.measures:
            measures.setdefault(measure.name, {})[source] = measure
    parts = [paragraph(next(iter(sections.values())).question)]
    if measures:
        header = ['measure', *(source.name for source in generators), 'real', 'samples']
        parts.append(table(header, [_row(found, generators) for found in measures.values()]))
    elif not any(section.notes for section in sections.values()):
        parts.append(paragraph('Nothing was measured.'))
    flags = [(source, flag) for source, section in sections.items() for flag in section.flags]
    several = len(generators) > 1
    parts.append(bullets(joined(mark('! flagged', 'bad'), f'{n}: {f}' if several else f) for n, f in flags))
    notes = dict.fromkeys(note for section in sections.values() for note in section.notes)
    parts += [paragraph(note, 'soft') for note in notes]
    if settings := _settings(measures):
        parts.append(folded('Settings', table(['measures', 'setting'], settings)))
    return parts


def filter_table(generators: Sequence[Generator]) -> list[Fragment]:
    """What a filter rejected and why, a column for each generator that has one."""
    found = {source.name: dict(flat(source.filtered)) for source in generators if source.filtered is not None}
    if not found:
        return [paragraph('Nothing was filtered: these are the pairs as they were generated.')]
    names = dict.fromkeys(name for values in found.values() for name in values)
    rows = [[_filtered(name), *(_count(name, values) for values in found.values())] for name in names]
    unfiltered = [f'Nothing of {source.name} was filtered.' for source in generators if source.filtered is None]
    return [table(['what', *found], rows), *(paragraph(text) for text in unfiltered)]


def title(measure: Measure) -> str:
    """Name and unit."""
    return f'{measure.name} [{measure.unit}]' if measure.unit else measure.name


def interval_text(interval: Interval) -> str:
    """A figure with its 95 % interval, as a reader wants it."""
    if math.isnan(interval.value):
        return 'not defined'
    if math.isnan(interval.low) or math.isnan(interval.high):
        return _number(interval.value)
    return f'{_number(interval.value)} [{_number(interval.low)}, {_number(interval.high)}]'


def words(value: Any) -> str:
    """A setting in one line: numbers to three digits, mappings and short lists in full."""
    if isinstance(value, Tensor):
        value = value.tolist()
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, Mapping):
        return ', '.join(f'{key}: {words(item)}' for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        more = f', ... ({len(value)} in all)' if len(value) > _LISTED else ''
        return ', '.join(words(item) for item in value[:_LISTED]) + more
    return 'none' if value is None else str(value)


def flat(values: Mapping[str, Any], prefix: str = '') -> Iterator[tuple[str, Any]]:
    """A mapping of mappings as one, names joined by a colon."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f'{prefix}{name}: ')
        else:
            yield f'{prefix}{name}', value


def _number(value: float) -> str:
    return f'{value:,.0f}' if 1000 <= abs(value) < 1e15 else f'{value:.3g}'


def _filtered(name: str) -> str:
    return FILTERED[name][0] if name in FILTERED else name


def _count(name: str, values: Mapping[str, Any]) -> str:
    """A count with its share of what it is a part of."""
    whole = values.get(FILTERED[name][1]) if name in FILTERED else None
    share = f' ({_number(100 * values[name] / whole)} %)' if whole and name in values else ''
    value = values.get(name, '')
    return (f'{value:,}' if isinstance(value, int) else words(value)) + share


def _row(found: Mapping[str, Measure], generators: Sequence[Generator]) -> list[str]:
    measures = [found.get(source.name) for source in generators]
    references = {source: _reference(measure) for source, measure in found.items()}
    samples = {source: str(measure.samples or '') for source, measure in found.items()}
    return [title(next(iter(found.values()))), *map(_value, measures), _common(references), _common(samples)]


def _value(measure: Measure | None) -> str:
    if measure is None:
        return ''
    return joined(number(interval_text(measure.value)), mark('! flagged', 'bad') if measure.flag else '')


def _reference(measure: Measure) -> str:
    if measure.reference is None:
        return 'none'
    return joined(number(interval_text(measure.reference)), measure.reference_name)


def _common(texts: Mapping[str, str]) -> str:
    """The text on which all generators agree, else each one's."""
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return joined(*(part for name, text in texts.items() for part in (f'{name}:', text)))


def _settings(measures: Mapping[str, Mapping[str, Measure]]) -> list[list[str]]:
    """Rows of a table; measures of the same settings share one."""
    rows: dict[str, list[str]] = {}
    for name, found in measures.items():
        if text := _common({source: words(measure.settings) for source, measure in found.items()}):
            rows.setdefault(text, []).append(name)
    return [[', '.join(names), text] for text, names in rows.items()]
