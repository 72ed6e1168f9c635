"""An export that was killed, or is asked for more, ends as one that ran undisturbed."""

import json
import multiprocessing
import os
import signal
import tarfile
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from torchgeo_specdm.cli import main
from torchgeo_specdm.datasets.exported import ExportedPairs
from torchgeo_specdm.datasets.synthetic import SpecDMSynthetic
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.export import export
from torchgeo_specdm.exporting.writing import Writing
from torchgeo_specdm.ranks import Ranks


def run(checkpoint: Path, folder: Path, count: int, **arguments: Any) -> None:
    export(checkpoint, folder, count, steps=1, batch_size=2, device='cpu', **arguments)


def contents(folder: Path) -> dict[str, bytes]:
    """Visible files."""
    paths = (path.relative_to(folder) for path in folder.rglob('*') if path.is_file())
    return {path.as_posix(): (folder / path).read_bytes() for path in paths if not path.name.startswith('.')}


def hidden(folder: Path) -> list[str]:
    """Files that are no samples."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob('.*'))


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
        # Of this run alone: what the one before has left is gone
        assert len(list((tmp_path / 'killed').glob('.partial-*'))) == 1
        whole = contents(tmp_path / 'whole')
        assert all(whole[path] == content for path, content in contents(tmp_path / 'killed').items())
    run(tiny_change_checkpoint, tmp_path / 'killed', 3, format=name, shard_size=shard)
    assert contents(tmp_path / 'killed') == contents(tmp_path / 'whole')
    assert hidden(tmp_path / 'killed') == ['.specdm.lock']
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


def test_a_second_export_in_one_folder_is_refused(
    tiny_segmentation_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also while a rank of the first one is still at work, maybe on another machine, after rank 0 was killed."""
    out = tmp_path / 'out'
    command = ['sample', str(tiny_segmentation_checkpoint), '--steps', '1', '--device', 'cpu', '--out', str(out)]
    assert main([*command, '--n', '1']) == 0
    (out / '.partial-0').write_text('a file that the first one writes')
    before = contents(out)
    for lock, message in (('.specdm.lock', 'another export is at work'), ('.specdm-1.lock', 'an earlier run is still')):
        capsys.readouterr()
        with FileLock(out / lock):
            assert main([*command, '--n', '2']) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
        assert 'name another folder with --out' in line
        assert contents(out) == before
        assert (out / '.partial-0').is_file()
    assert main([*command, '--n', '2']) == 0
    assert hidden(out) == ['.specdm.lock']


def test_what_another_run_did_meanwhile_is_seen(tiny_segmentation_checkpoint: Path, tmp_path: Path) -> None:
    """A run looks again at the folder that it has for itself."""
    late: list[Writing] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('torchgeo_specdm.export.launch', lambda one, *_: late.append(one))
        for seed in (0, 1):
            run(tiny_segmentation_checkpoint, tmp_path / 'out', 1, seed=seed, devices=2)
    run(tiny_segmentation_checkpoint, tmp_path / 'out', 2)
    before = contents(tmp_path / 'out')
    late[0](Ranks())
    with pytest.raises(SpecDMError, match='made with another seed: name another folder'):
        late[1](Ranks())
    assert contents(tmp_path / 'out') == before


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
