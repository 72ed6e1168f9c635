"""The benchmark of loading prints all of its rows, and goes on where it stopped."""

import json
from pathlib import Path

import loading
import pytest
from loading_rows.measured import Times

from tests.conftest import tiny_pipeline
from torchgeo_specdm.datasets.oscd import oscd_spec
from torchgeo_specdm.sensors import SPECDM_BANDS


def test_all_rows_are_printed(
    tiny_segmentation_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change = tmp_path / 'change'
    tiny_pipeline(oscd_spec(SPECDM_BANDS, 32)).save_pretrained(change)
    arguments = ['--checkpoint', str(tiny_segmentation_checkpoint), '--change-checkpoint', str(change)]
    loading.main([*arguments, '--fast', '--out', str(tmp_path / 'out')])
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.split(' |')[0] for line in lines] == [
        "| pairs/s over diffusers' loop, DDPM, 1000 steps",
        "| pairs/s over diffusers' loop, DDIM, 50 steps",
        '| pairs/s over samples one by one',
        '| time of four times the blocks',
        '| first access [s]',
        '| warm epoch over real files, 0 workers',
        '| cold epoch, streamed, over generating',
        '| first batch, streamed, over a block',
    ]
    before = {path.name: path.read_text() for path in (tmp_path / 'out').iterdir()}
    assert set(before) == {'sampling.json', 'epochs.json'}
    loading.main([*arguments, '--fast', '--parts', 'sampling', '--out', str(tmp_path / 'out')])
    assert {path.name: path.read_text() for path in (tmp_path / 'out').iterdir()} == before
    assert capsys.readouterr().out.splitlines()[2:] == lines[:5]


def test_times_go_on_where_they_stopped(tmp_path: Path) -> None:
    seen: list[int] = []
    Times(tmp_path / 'times.json', 2).measure(work=lambda number: lambda: seen.append(number))
    Times(tmp_path / 'times.json', 5).measure(work=lambda number: lambda: seen.append(number))
    assert seen == [0, 1, 2, 3, 4]
    assert len(json.loads((tmp_path / 'times.json').read_text())['work']) == 5
