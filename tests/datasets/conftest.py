"""Fixtures of the tests of datasets."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from tests import disks
from tests.streams import Start
from torchgeo_specdm.pipeline import SpecDMPipeline


@pytest.fixture
def generated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], list[int]]:
    """The first index of each batch that this process or its children have generated."""
    log = tmp_path / 'generated'
    log.touch()
    sample = SpecDMPipeline.sample

    def record(self: SpecDMPipeline, indices: Sequence[int], **arguments: Any) -> dict[str, Tensor]:
        with log.open('a') as file:
            file.write(f'{indices[0]}\n')
        return sample(self, indices, **arguments)

    monkeypatch.setattr(SpecDMPipeline, 'sample', record)
    return lambda: [int(line) for line in log.read_text().split()]


@pytest.fixture
def fork() -> Iterator[Start]:
    """Runs work in a forked process, where PyTorch is imported already, until the test ends."""
    started: list[Any] = []

    def start(work: Callable[[], Any]) -> Any:
        process = multiprocessing.get_context('fork').Process(target=work)
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.join()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    with disks.small_disk(tmp_path / 'disk', '64k') as folder:
        yield folder
