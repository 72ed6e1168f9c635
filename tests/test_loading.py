"""The benchmark of loading prints all of its rows, and goes on where it stopped."""

import json
from pathlib import Path

import loading
import pytest
from loading_rows import joint_pixels
from loading_rows.measured import Times

from tests.conftest import tiny_pipeline
from tests.forked import fork_producers
from torchgeo_specdm.datasets.oscd import oscd_spec
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.sensors import SPECDM_BANDS


def arguments(checkpoint: Path, folder: Path) -> list[str]:
    """Of a benchmark that takes seconds."""
    change = folder / 'change'
    tiny_pipeline(oscd_spec(SPECDM_BANDS, 32)).save_pretrained(change)
    return ['--checkpoint', str(checkpoint), '--change-checkpoint', str(change), '--fast', '--out', str(folder / 'out')]


@pytest.mark.slow
@pytest.mark.usefixtures('few_steps')
def test_all_rows_are_printed_and_kept(
    tiny_segmentation_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fork_producers(monkeypatch)
    told, kept = arguments(tiny_segmentation_checkpoint, tmp_path), tmp_path / 'out' / 'fast'
    # One worker shows what four would
    parts = ['diffusers', 'single', 'profile', 'precision', 'blocks', 'first-access', 'warm-0', 'cold']
    loading.main([*told, '--parts', *parts])
    lines = capsys.readouterr().out.splitlines()[2:]
    figures = [
        "pairs/s over diffusers' loop, DDPM, 1000 steps",
        "pairs/s over diffusers' loop, DDIM, 50 steps",
        'pairs/s over samples one by one',
        'a block [s]',
        '20 evaluations of the denoiser [s]',
        'the solver, noise of its steps included [s]',
        'decoding [s]',
        'writing it [s]',
        'reading it, checksum included [s]',
        'rest of a block [s]',
        'time of bf16-mixed over 32-true',
        'mask pixels that bf16-mixed leaves as they are',
        'RMS change of its images [standard deviations of a band]',
        'time of four times the blocks',
        'first access [s]',
        'warm epoch over real files, 0 workers',
        'cold epoch, streamed, over generating',
        'first batch, streamed, over a block',
    ]
    assert [line.split(' |')[0] for line in lines] == [f'| {figure}' for figure in figures]
    assert set(loading.PARTS) == {*parts, 'joint-pixels', 'warm-2', 'warm-4'}
    before = {path.name: path.read_text() for path in kept.iterdir()}
    assert set(before) == {'rows.json', *(f'{part}.json' for part in parts)}
    loading.main([*told, '--parts', 'blocks', 'single'])
    assert {path.name: path.read_text() for path in kept.iterdir()} == before, 'nothing is measured twice'
    assert capsys.readouterr().out.splitlines()[2:] == [lines[13], lines[2]]
    rows = json.loads(before['rows.json'])
    assert [row['figure'] for part in parts for row in rows[part]] == figures


def test_a_library_that_is_not_there(
    tiny_segmentation_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(joint_pixels, 'LIBRARY', 'specdm_is_not_there')
    with pytest.raises(SystemExit):
        loading.main(arguments(tiny_segmentation_checkpoint, tmp_path))
    error = capsys.readouterr().err
    assert 'pip install denoising-diffusion-pytorch, or --parts diffusers single profile precision blocks' in error
    assert not (tmp_path / 'out').exists(), 'nothing is measured before'


def test_joint_pixels(
    tiny_segmentation_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip(joint_pixels.LIBRARY)
    channels, parameters = 16, 9_500_000
    network = joint_pixels.equal_network(channels, parameters)
    assert abs(joint_pixels.count_parameters(network) / parameters - 1) < 0.05
    with pytest.raises(SpecDMError, match='no width'):
        joint_pixels.equal_network(channels, 1000)
    # The tiny generator is smaller than its smallest network
    monkeypatch.setattr(joint_pixels, '_TOLERANCE', 2.0)
    loading.main([*arguments(tiny_segmentation_checkpoint, tmp_path), '--parts', 'joint-pixels'])
    [line] = capsys.readouterr().out.splitlines()[2:]
    assert line.startswith('| pairs/s over denoising-diffusion-pytorch on joint pixels | ')
    assert 's for its 2 steps against' in line


def test_times_go_on_where_they_stopped(tmp_path: Path) -> None:
    seen: list[int] = []
    Times(tmp_path / 'times.json', 2).measure(work=lambda number: lambda: seen.append(number))
    Times(tmp_path / 'times.json', 5).measure(work=lambda number: lambda: seen.append(number))
    assert seen == [0, 1, 2, 3, 4]
    assert len(json.loads((tmp_path / 'times.json').read_text())['work']) == 5
