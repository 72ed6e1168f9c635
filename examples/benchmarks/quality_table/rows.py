"""A row of the table: a figure with its interval, what real samples reach, its bar and whether it meets it."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchgeo_specdm.checkpoint import write_json
from torchgeo_specdm.evaluation.measure import Interval

NONE = Interval(math.nan, math.nan, math.nan)
HEADER = '| figure | value [95 %] | real | N | extractor | bar | verdict |\n|---|---|---|---|---|---|---|'


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        figure: What was measured, and its unit.
        value: Of the generator.
        real: The same of real samples.
        samples: Number of samples on either side.
        extractor: Whose features were compared.
        bar: What the value is to reach; empty where there is no bar.
        met: Whether it does; None where it was not measured.
        words: How that is said.
        note: What should be known beside it; why it was not measured.
    """

    figure: str
    value: Interval = NONE
    real: Interval | None = None
    samples: int = 0
    extractor: str = ''
    bar: str = ''
    met: bool | None = None
    words: tuple[str, str] = ('met', 'not met')
    note: str = ''

    def judged(self, bar: str, met: bool) -> 'Row':
        """With a bar, which only a value can meet."""
        return dataclasses.replace(self, bar=bar, met=None if math.isnan(self.value.value) else met)

    def at_most(self, limit: float, bar: str = '') -> 'Row':
        """With the bar that the value must not exceed."""
        return self.judged(bar or f'≤ {limit:g}', self.value.value <= limit)

    def at_least(self, limit: float, bar: str = '') -> 'Row':
        """With the bar that the value must reach."""
        return self.judged(bar or f'≥ {limit:g}', self.value.value >= limit)

    def near_real(self, share: float) -> 'Row':
        """With the bar that a value relative to real ones must be 1 up to a share."""
        return self.judged(f'within {share:.0%} of real'.replace('%', ' %'), abs(self.value.value - 1) <= share)

    def beats(self, other: Interval, name: str) -> 'Row':
        """With the bar of a rival's value."""
        return dataclasses.replace(
            self.judged(f'> {other} of {name}', self.value.value > other.value), words=('won', 'lost')
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON types; what is not finite is null."""
        values = dataclasses.asdict(self)
        for key in ('value', 'real'):
            if values[key] is not None:
                values[key] = [limit if math.isfinite(limit) else None for limit in values[key]]
        return values

    def __str__(self) -> str:
        verdict = ('not measured' if self.met is None else self.words[not self.met]) if self.bar else ''
        verdict = ': '.join(text for text in (verdict, self.note) if text)
        value = '–' if math.isnan(self.value.value) else str(self.value)
        return (
            f'| {self.figure} | {value} | {self.real or ""} | {self.samples or ""} | {self.extractor} | {self.bar} | '
            f'{verdict} |'
        )


class Report:
    """Prints rows and writes them, as they come.

    Args:
        path: JSON file.
        about: What it says beside the rows.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path = path
        self.values: dict[str, Any] = {**about, 'rows': []}

    def add(self, rows: Sequence[Row]) -> None:
        """Rows that are known now."""
        print('\n'.join(map(str, rows)), flush=True)
        self.values['rows'] += [row.to_dict() for row in rows]
        write_json(self.path, self.values)

    def add_degenerate(self, found: Mapping[str, Sequence[Row]]) -> None:
        """The rows of generators that are no good."""
        print(f'\n{degenerate_table(found)}', flush=True)
        self.values['degenerate'] = {name: [row.to_dict() for row in rows] for name, rows in found.items()}
        write_json(self.path, self.values)


def degenerate_table(found: Mapping[str, Sequence[Row]]) -> str:
    """Which bars each generator fails."""
    lines = ['| generator | bars that it fails |', '|---|---|']
    for name, rows in found.items():
        failed = [f'{row.figure} {row.extractor}'.strip() for row in rows if row.met is False]
        lines.append(f'| {name} | {"; ".join(failed) or "NONE: the bars are wrong"} |')
    return '\n'.join(lines)
