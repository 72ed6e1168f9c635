"""Files that are complete or absent, and what killed processes leave of them."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from torchgeo_specdm.cli import main
from torchgeo_specdm.disk import sweep, write_whole
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.evaluation.cache import Cache
from torchgeo_specdm.experiments.bench import Store
from torchgeo_specdm.report import write_text

# No process has this number
DEAD = 2**22 + 1


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ('name', 'write'),
    [
        ('a[1].txt', lambda folder: write_text(folder / 'a[1].txt', 'new')),
        ('x', lambda folder: Cache(folder).save('x', {}, {'a': torch.zeros(1)})),
    ],
    ids=['report', 'evaluation'],
)
def test_what_killed_processes_left_is_removed(tmp_path: Path, name: str, write: Callable[[Path], None]) -> None:
    write(tmp_path)
    (path,) = tmp_path.iterdir()
    assert path.name.startswith(name)
    # That of a process at work stays
    for process in (DEAD, os.getpid(), os.getppid()):
        (tmp_path / f'.{path.name}.partial-{process}').write_text('half')
    write(tmp_path)
    assert names(tmp_path) == sorted([f'.{path.name}.partial-{os.getppid()}', path.name])


def test_the_state_of_a_finished_cell_is_gone_with_all_that_was_left_of_it(tmp_path: Path) -> None:
    def make(state: Path) -> dict[str, int]:
        for path in (state, state.with_name(f'.{state.name}.partial-{DEAD}')):
            path.write_text('half')
        return {'a': 1}

    Store(tmp_path).record('x', {}, make)
    assert {path.suffix for path in tmp_path.iterdir()} == {'.json', '.lock'}


def test_a_file_that_cannot_be_written_stays_what_it_was(tmp_path: Path) -> None:
    path = tmp_path / 'a'
    path.write_text('old')

    def fill(partial: Path) -> None:
        partial.write_text('half')
        raise OSError(errno.ENOSPC, 'No space left on device')

    with pytest.raises(SpecDMError, match=r'the disk of .* is full; what is complete is kept: make room there'):
        write_whole(path, fill)
    assert (names(tmp_path), path.read_text()) == (['a'], 'old')
    sweep(path)
    assert path.read_text() == 'old'


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_every_command_says_it_in_one_line(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number), str(tmp_path / 'x'))

    monkeypatch.setattr('torchgeo_specdm.card.write_card', fail)
    assert main(['card', str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f'specdm: error: {tmp_path / "x"} cannot be written ({os.strerror(number)}); what is ')
