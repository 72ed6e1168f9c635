"""An export that was killed, or is asked for more, ends as one that ran undisturbed."""

import json
import multiprocessing
import os
import signal
import tarfile
from pathlib import Path
from typing import Any

import pytest

from torchgeo_specdm.cli import main
from torchgeo_specdm.datasets.exported import ExportedPairs
from torchgeo_specdm.datasets.synthetic import SpecDMSynthetic
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.export import export


def run(checkpoint: Path, folder: Path, count: int, **arguments: Any) -> None:
    export(checkpoint, folder, count, steps=1, batch_size=2, device='cpu', **arguments)


def contents(folder: Path) -> dict[str, bytes]:
    """Visible files."""
    paths = (path.relative_to(folder) for path in folder.rglob('*') if path.is_file())
    return {path.as_posix(): (folder / path).read_bytes() for path in paths if not path.name.startswith('.')}


def run_and_die(file: int, *arguments: Any, **named: Any) -> None:
    """Export, and be killed when the file of this number is written but has no name yet."""
    moved = 0
    replace = Path.replace

    def dying(self: Path, target: Path) -> Path:
        nonlocal moved
        moved += 1
        if moved > file:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(self, target)

    Path.replace = dying  # type: ignore[method-assign]
    run(*arguments, **named)


@pytest.mark.skipif(os.name != 'posix', reason='needs fork and SIGKILL')
@pytest.mark.parametrize(('name', 'shard'), [('geotiff', None), ('webdataset', 2)])
def test_a_killed_export_resumes(
    name: str, shard: int | None, tiny_change_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tiny_change_checkpoint, tmp_path / 'whole', 3, format=name, shard_size=shard)
    fork = multiprocessing.get_context('fork')
    # The description, a file of a unit that is begun, and again a file of it
    for file in (0, 2, 0):
        arguments = (file, tiny_change_checkpoint, tmp_path / 'killed', 3)
        process = fork.Process(target=run_and_die, args=arguments, kwargs={'format': name, 'shard_size': shard})
        process.start()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
        whole = contents(tmp_path / 'whole')
        assert all(whole[path] == content for path, content in contents(tmp_path / 'killed').items())
    run(tiny_change_checkpoint, tmp_path / 'killed', 3, format=name, shard_size=shard)
    assert contents(tmp_path / 'killed') == contents(tmp_path / 'whole')
    # Nothing is missing, so that nothing is generated
    monkeypatch.setattr(SpecDMSynthetic, '__getitem__', None)
    run(tiny_change_checkpoint, tmp_path / 'killed', 3, format=name, shard_size=shard)


def test_a_short_shard_grows(tiny_segmentation_checkpoint: Path, tmp_path: Path) -> None:
    run(tiny_segmentation_checkpoint, tmp_path / 'once', 5, format='webdataset', shard_size=2)
    run(tiny_segmentation_checkpoint, tmp_path / 'twice', 3, format='webdataset', shard_size=2)
    kept = (tmp_path / 'twice' / '000000.tar').stat().st_mtime_ns
    run(tiny_segmentation_checkpoint, tmp_path / 'twice', 5, format='webdataset', shard_size=2)
    assert contents(tmp_path / 'twice') == contents(tmp_path / 'once')
    assert (tmp_path / 'twice' / '000000.tar').stat().st_mtime_ns == kept
    with tarfile.open(tmp_path / 'twice' / '000002.tar') as tar:
        assert tar.getnames() == ['000004.image.npy', '000004.mask.npy', '000004.json']
    with pytest.raises(SpecDMError, match='another shard_size'):
        run(tiny_segmentation_checkpoint, tmp_path / 'twice', 5, format='webdataset', shard_size=3)
    with pytest.raises(SpecDMError, match='only geotiff is read'):
        ExportedPairs(tmp_path / 'twice')


def test_the_command_writes_a_format_on_a_grid(tiny_change_checkpoint: Path, tmp_path: Path) -> None:
    command = ['sample', str(tiny_change_checkpoint), '--n', '1', '--steps', '1', '--device', 'cpu']
    place = ['--crs', 'EPSG:3035', '--transform', '20', '0', '-5', '0', '-20', '7']
    assert main([*command, '--out', str(tmp_path / 'npz'), '--format', 'npz', *place]) == 0
    description = json.loads((tmp_path / 'npz' / 'specdm.json').read_text())
    assert description['format'] == 'npz'
    assert description['grid'] == {'crs': 'EPSG:3035', 'transform': [20, 0, -5, 0, -20, 7]}
    assert (tmp_path / 'npz' / '000000.npz').is_file()


def test_a_checkpoint_that_does_not_fit_is_refused_before_anything_is_made(
    tiny_segmentation_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(SpecDMSynthetic, '__getitem__', None)
    out = tmp_path / 'out'
    assert main(['sample', str(tiny_segmentation_checkpoint), '--n', '1', '--out', str(out), '--format', 'oscd']) == 2
    assert 'does not fit the format oscd (task: change against segmentation' in capsys.readouterr().err
    assert not out.exists()
