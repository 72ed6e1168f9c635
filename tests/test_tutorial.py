"""The cells of docs/tutorial.md run as they stand, with what an installation holds."""

import re
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch

pytest.importorskip('tensorly.datasets', reason="the scene needs the extra 'demo'")
PAGE = Path(__file__).parents[1] / 'docs' / 'tutorial.md'


def cells() -> list[str]:
    return re.findall(r'^```\{code-cell\}.*?\n(.*?)^```$', PAGE.read_text(encoding='utf-8'), re.MULTILINE | re.DOTALL)


@pytest.mark.usefixtures('no_network')
def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    # It writes nothing but the cache, and least of all into a clone
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    with plt.rc_context({'backend': 'agg'}):
        for number, cell in enumerate(cells(), 1):
            exec(compile(cell, f'{PAGE.name}, cell {number}', 'exec'), names)
        plt.close('all')
    assert not list(tmp_path.iterdir())
    assert 'patch_size: 24' in capsys.readouterr().out
    assert torch.equal(names['again'][0]['mask'], names['synthetic'][0]['mask'])
    # Mean spectra of another unit would be far away
    assert float(names['of_synthetic'].mean()) == pytest.approx(float(names['of_real'].mean()), rel=0.2)
    assert set(names['scores']) == {0, 0.05}
    assert all(0 < score < 1 for score in names['scores'].values())
