"""Results of an experiment as Markdown, CSV and JSON, each file replaced by a complete one."""

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torchgeo_specdm.report import write_metrics, write_text

Rows = Sequence[Mapping[str, Any]]


class Spread(NamedTuple):
    """Mean and standard deviation; NaN where there is none of either."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, values: Sequence[float]) -> 'Spread':
        """Of the values that are numbers."""
        known = [value for value in values if not math.isnan(value)]
        deviation = statistics.stdev(known) if len(known) > 1 else math.nan
        return cls(statistics.fmean(known) if known else math.nan, deviation)

    def __str__(self) -> str:
        mean = '–' if math.isnan(self.mean) else f'{self.mean:.4g}'
        return mean if math.isnan(self.deviation) else f'{mean} ± {self.deviation:.2g}'


def markdown(rows: Rows) -> str:
    """A table; the columns are the names in all rows, in order of appearance, and what a row lacks is a dash."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, ['---'] * len(columns)]
    lines += [[_cell(row.get(name)) for name in columns] for row in rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return '–'
    return f'{value:.4g}' if isinstance(value, float) else str(value)


@dataclass
class Report:
    """Writes ``NAME.md``, ``NAME.csv`` and ``NAME.json``.

    Attributes:
        folder: Where to.
        name: Of the experiment.
        question: What it answers.
        about: How it was computed, in sentences.
    """

    folder: Path
    name: str
    question: str
    about: list[str] = field(default_factory=list)

    def write(self, cells: Rows, tables: Mapping[str, Rows], made: Mapping[str, Any], notes: Sequence[str] = ()) -> str:
        """Write what is known so far.

        Args:
            cells: One row for each cell, for the CSV file.
            tables: Rows by caption, for the Markdown and the JSON file.
            made: Settings, for the JSON file.
            notes: How to read the tables, in sentences.

        Returns:
            The Markdown.
        """
        parts = [f'# {self.name}', self.question, *self.about]
        parts += [f'{caption}\n\n{markdown(rows)}' for caption, rows in tables.items()]
        text = '\n\n'.join([*parts, *notes]) + '\n'
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / f'{self.name}.md', text)
        write_text(self.folder / f'{self.name}.csv', _csv(cells))
        values = {'experiment': self.name, 'question': self.question, 'about': self.about, 'notes': list(notes)}
        write_metrics(self.folder / f'{self.name}.json', {**values, **made, 'tables': tables, 'cells': cells})
        return text


def _csv(rows: Rows) -> str:
    text = io.StringIO()
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, columns, lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
