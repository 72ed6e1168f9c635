"""Fixtures of the tests of datasets."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

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
