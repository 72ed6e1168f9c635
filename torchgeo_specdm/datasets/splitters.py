"""Which split each pair of files belongs to: a splitter has one method to override."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from torchgeo_specdm.errors import SpecDMError

SPLITS = ('train', 'val', 'test')


class Splitter(ABC):
    """Deals pairs of files to the splits, whole: patches of one file never lie in two."""

    @abstractmethod
    def assign(self, names: Sequence[str], root: Path) -> list[str | None]:
        """The split of each pair.

        Args:
            names: What the wildcards of the pattern matched, joined by ``/``; sorted.
            root: Folder of the dataset.

        Returns:
            ``train``, ``val`` or ``test`` for each name, or None for one that is left out.

        Raises:
            SpecDMError: The names cannot be split.
        """


class BySeed(Splitter):
    """Shares of the files at random. Where files show overlapping ground, their splits do too: use another splitter.

    Args:
        val: Share of the files.
        test: Share of the files.
        seed: Another seed is another split.

    Raises:
        SpecDMError: No share is left for train.
    """

    def __init__(self, val: float = 0.15, test: float = 0.15, seed: int = 0) -> None:
        if not (val >= 0 and test >= 0 and val + test < 1):
            raise SpecDMError(f'val is {val} and test {test}: they must be shares that leave something for train')
        self.val, self.test, self.seed = val, test, seed

    def assign(self, names: Sequence[str], root: Path) -> list[str | None]:
        """Each share rounded, but at least one file; train has the rest."""
        counts = {split: max(1, round(share * len(names))) for split, share in self._shares() if share > 0}
        if sum(counts.values()) >= len(names):
            raise SpecDMError(
                f'{root} has {len(names)} pair{"s" * (len(names) != 1)}, too few for train and {", ".join(counts)}: '
                'add some, set the share of test to 0, or cut a large raster as a scene (specdm init FILE --mask FILE)'
            )
        dealt = [split for split, count in counts.items() for _ in range(count)]
        splits: list[str | None] = ['train'] * len(names)
        for place, split in zip(np.random.default_rng(self.seed).permutation(len(names)).tolist(), dealt, strict=False):
            splits[place] = split
        return splits

    def _shares(self) -> list[tuple[str, float]]:
        return [('val', self.val), ('test', self.test)]


class ByPattern(Splitter):
    """Files whose names match a pattern: ``train/*`` is a sub-folder. A file that matches none is left out.

    Args:
        train: Pattern of names; ``*`` matches slashes too.
        val: Likewise.
        test: Likewise; empty for no such split.
    """

    def __init__(self, train: str = 'train/*', val: str = 'val/*', test: str = 'test/*') -> None:
        self.patterns = {'train': train, 'val': val, 'test': test}

    def assign(self, names: Sequence[str], root: Path) -> list[str | None]:
        """Raises an error where a name matches two patterns."""
        return [self._split(name) for name in names]

    def _split(self, name: str) -> str | None:
        found = [split for split, pattern in self.patterns.items() if pattern and fnmatchcase(name, pattern)]
        if len(found) > 1:
            raise SpecDMError(f'{name} is in {" and ".join(found)}: their patterns must match different files')
        return found[0] if found else None


class ByList(Splitter):
    """Text files that list the names of a split, one a line. A file that is in no list is left out.

    Args:
        train: File in the folder of the dataset.
        val: Likewise.
        test: Likewise; empty for no such split.
    """

    def __init__(self, train: str = 'train.txt', val: str = 'val.txt', test: str = '') -> None:
        self.files = {'train': train, 'val': val, 'test': test}

    def assign(self, names: Sequence[str], root: Path) -> list[str | None]:
        """Raises an error where a list is missing, lists what is not there, or what another list has."""
        splits: dict[str, str] = {}
        for split, file in self.files.items():
            for name in self._read(root / file) if file else ():
                if name not in names:
                    raise SpecDMError(f'{root / file} lists {name!r}, which is none of the names: {names[0]} is one')
                if splits.setdefault(name, split) != split:
                    raise SpecDMError(f'{root / file} lists {name!r}, which is in {splits[name]} too')
        return [splits.get(name) for name in names]

    @staticmethod
    def _read(path: Path) -> list[str]:
        if not path.is_file():
            raise SpecDMError(f'there is no list of files {path}')
        return [line.strip() for line in path.read_text(encoding='utf-8').splitlines() if line.strip()]
