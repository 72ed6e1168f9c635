"""What the filter counted in each block that an export has samples of, so that an interrupted run knows it all.

``blocks.jsonl`` holds a line of JSON for each block. Ranks other than the first keep theirs in hidden files until the
export is complete.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from torchgeo_specdm.datasets.filtered import FilterSummary
from torchgeo_specdm.exporting.folder import replace_file

_NAME = 'blocks.jsonl'


class BlockLog:
    """The counts of an export, as one rank knows them.

    Args:
        folder: Of the export.
        rank: Of this process.
    """

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self._folder = folder
        self._name = f'.{rank}-{_NAME}' if rank else _NAME
        self.blocks: dict[int, FilterSummary] = {}
        for path in (folder / _NAME, *self._parts()):
            self.blocks |= _read(path)

    @property
    def total(self) -> FilterSummary:
        """The counts of all blocks together."""
        return sum(self.blocks.values(), FilterSummary())

    def add(self, number: int, summary: FilterSummary) -> None:
        """Write down the counts of a block, unless they are."""
        if number not in self.blocks:
            self.blocks[number] = summary
            self._write()

    def merge(self, others: Mapping[int, FilterSummary]) -> None:
        """Take over what other ranks have counted, and drop their files."""
        self.blocks |= others
        if _read(self._folder / _NAME) != self.blocks:
            self._write()
        for path in self._parts():
            path.unlink()

    def _parts(self) -> list[Path]:
        return sorted(self._folder.glob(f'.*-{_NAME}'))

    def _write(self) -> None:
        lines = (json.dumps({'block': number} | row.to_dict()) for number, row in sorted(self.blocks.items()))
        replace_file(self._folder, self._name, Path.write_text, '\n'.join([*lines, '']), 'utf-8')


def _read(path: Path) -> dict[int, FilterSummary]:
    text = path.read_text(encoding='utf-8') if path.is_file() else ''
    # A line without an end was being written at an interruption, before any sample of its block
    rows = map(json.loads, text.split('\n')[:-1])
    return {row.pop('block'): FilterSummary(**row) for row in rows}
