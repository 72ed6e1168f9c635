"""How the files of an export come about: which are missing, who writes them, and what is written last.

The missing units are dealt to the ranks, those that begin in one block to one rank, so that blocks are generated once
but for the few at the border of two shares. Rank 0 says what the folder holds, and writes what lists the samples once
all of them are there.
"""

import math
import time
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from tqdm import tqdm

from torchgeo_specdm.checkpoint import read_json, write_json
from torchgeo_specdm.datasets.exported import DESCRIPTION, is_count
from torchgeo_specdm.datasets.filtered import Verdict
from torchgeo_specdm.datasets.synthetic import SpecDMSynthetic
from torchgeo_specdm.disk import disk_errors
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.exporting.base import Format, Item
from torchgeo_specdm.exporting.block_log import BlockLog
from torchgeo_specdm.exporting.folder import at_work, is_begun, only_run, replace_file
from torchgeo_specdm.ranks import Ranks

# How long another machine may take to see a new file of a network's file system [s]
_NETWORK = 90.0

Units = Mapping[int, range]


class Writing:
    """Writes what is missing of an export. Each rank calls it.

    Args:
        dataset: Where the samples come from.
        layout: Which files there are.
        folder: Where they lie.
        count: Number of samples; there may be more already.
        settings: What the folder says of its samples, but for their number.
    """

    def __init__(
        self, dataset: SpecDMSynthetic, layout: Format, folder: Path, count: int, settings: Mapping[str, Any]
    ) -> None:
        self.dataset, self.layout, self.folder, self.count, self.settings = dataset, layout, folder, count, settings

    def __call__(self, ranks: Ranks) -> None:
        """Write the share of a rank.

        Raises:
            SpecDMError: Ranks would not write the same samples, or not to the same folder, or one of them has ended;
                the device cannot be used, or has too little memory; the disk is full or may not be written; another
                run is at work in the folder.
        """
        # Here: a process of its own says what went wrong in it
        with disk_errors(self.folder, 'the same command goes on, once it can'):
            if ranks.index == 0:
                with only_run(self.folder):
                    self._work(ranks)
            else:
                self._work(ranks)

    def _work(self, ranks: Ranks) -> None:
        if ranks.device is not None:
            self.dataset.device = ranks.device
        # One looks for all: others may be writing already when a rank that is late looks
        self.count, missing = ranks.agree(self._look())
        log = BlockLog(self.folder, ranks.index)
        if missing:
            self._require_same(ranks)
            size = self.dataset.block_size
            own = share(missing, size, ranks)
            self._begin(own, ranks)
            with at_work(self.folder, ranks.index):
                self._write(own, self.count - sum(map(len, missing.values())), log, ranks, size)
            # All files are there
            ranks.wait()
        counted = ranks.gather(log.blocks)
        if ranks.index == 0:
            self._finish(log, counted)

    def _look(self) -> tuple[int, Units]:
        """How many samples the folder is to hold, and which are missing."""
        count = max(self.count, claimed(self.folder, self.settings))
        return count, _missing(self.layout, self.folder, count)

    def _require_same(self, ranks: Ranks) -> None:
        """Refuse ranks whose samples differ, as those of another GPU do."""
        if ranks.number == 1:
            return
        own = self.dataset.settings.to_dict()
        first = ranks.agree(own)
        if different := [f'{name} {own[name]} against {first[name]}' for name in own if own[name] != first[name]]:
            raise SpecDMError(f'process {ranks.index} would write other samples than process 0: {"; ".join(different)}')

    def _begin(self, own: Units, ranks: Ranks) -> None:
        """Say what the folder holds once every rank has shown that its device and the solver work."""
        if own:
            self.dataset[next(iter(own.values()))[0]]
        ranks.wait()
        if ranks.index == 0:
            _describe(self.folder, {**self.settings, 'count': self.count})
        ranks.wait()
        latest = time.monotonic() + _NETWORK
        while not (self.folder / DESCRIPTION).is_file():
            if time.monotonic() > latest:
                raise SpecDMError(
                    f'{self.folder} is another folder for process {ranks.index} than for process 0: name one with '
                    '--out that all machines see'
                )
            time.sleep(1)

    def _write(self, own: Units, done: int, log: BlockLog, ranks: Ranks, size: int) -> None:
        dataset, tags = self.dataset, _tags(self.settings)
        left = sum(map(len, own.values()))
        with tqdm(desc='sampling', unit='image', initial=done, total=done + left, disable=ranks.index > 0) as bar:
            for unit, indices in own.items():
                items: list[Item] = []
                for index in indices:
                    sample, judged = dataset[index], {}
                    if dataset.filter is not None or ranks.number > 1:
                        _require_block_size(dataset, size)
                    if dataset.filter is not None:
                        log.add(index // size, dataset.filter_summary(index))
                        bar.set_postfix(rejected=f'{log.total.rejected_share:.0%}')
                        judged = _judged(dataset.verdict(index))
                    items.append(self.layout.item(index, sample, tags | judged))
                    bar.update()
                self.layout.write(self.folder, unit, items)

    def _finish(self, log: BlockLog, counted: list[dict[int, Any]]) -> None:
        """Write what is of all samples together."""
        self.layout.finish(self.folder, self.count)
        if self.dataset.filter is not None:
            log.merge({number: row for rows in counted for number, row in rows.items()})
            _describe(self.folder, {**self.settings, 'count': self.count, 'filtered': log.total.to_dict()})


def claimed(folder: Path, settings: Mapping[str, Any]) -> int:
    """How many samples of these settings the folder is meant to hold already.

    Args:
        folder: Of the export; it may be missing.
        settings: What its description says of its samples, but for their number.

    Raises:
        SpecDMError: It holds something else.
    """
    description = folder / DESCRIPTION
    if not description.is_file():
        if folder.exists() and (not folder.is_dir() or is_begun(folder)):
            raise SpecDMError(f'{folder} exists and holds no {DESCRIPTION}: name another folder with --out')
        return 0
    found = read_json(description)
    if different := [name for name, value in settings.items() if found.get(name) != value]:
        raise SpecDMError(
            f'{folder} holds samples made with another {", ".join(different)}: name another folder with --out'
        )
    count = found.get('count')
    if not is_count(count):
        raise SpecDMError(f'{description} does not say how many samples there are: name another folder with --out')
    return count


def share(missing: Units, block_size: int, ranks: Ranks) -> Units:
    """The units that a rank writes, next to one another; units that begin in one block stay together.

    Args:
        missing: Indices of the samples of each unit.
        block_size: Samples that are generated together.
        ranks: Who shares them.
    """
    groups = [list(units) for _, units in groupby(missing, lambda unit: missing[unit][0] // block_size)]
    first, end = (len(groups) * index // ranks.number for index in (ranks.index, ranks.index + 1))
    return {unit: missing[unit] for group in groups[first:end] for unit in group}


def _missing(layout: Format, folder: Path, count: int) -> Units:
    """The indices of each unit of ``count`` samples that is not there yet."""
    size = layout.unit_size
    units = {unit: range(unit * size, min((unit + 1) * size, count)) for unit in range(math.ceil(count / size))}
    return {unit: indices for unit, indices in units.items() if not layout.is_complete(folder, unit, len(indices))}


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


def _require_block_size(dataset: SpecDMSynthetic, expected: int) -> None:
    if dataset.block_size != expected:
        raise SpecDMError(
            f'the GPU has too little memory for {expected} samples at once, and filtered samples and those of several '
            f'devices do not go together in different batch sizes: use --batch-size {dataset.block_size}, and another '
            '--out if there are samples'
        )


def _describe(folder: Path, description: dict[str, Any]) -> None:
    path = folder / DESCRIPTION
    if not path.is_file() or read_json(path) != description:
        replace_file(folder, DESCRIPTION, write_json, description)
