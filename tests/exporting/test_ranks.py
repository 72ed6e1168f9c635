"""Several processes write what one would have written, whoever of them is killed meanwhile."""

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import strict_filter, tiny_pipeline, tiny_spec
from tests.exporting.test_resume import contents, hidden
from tests.test_ranks import fork_ranks, free_port
from torchgeo_specdm.cli import main
from torchgeo_specdm.datasets.oscd import OSCD, oscd_spec
from torchgeo_specdm.datasets.segmunich import segmunich_spec
from torchgeo_specdm.datasets.synthetic import SpecDMSynthetic
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.export import export
from torchgeo_specdm.exporting import FORMATS, writing
from torchgeo_specdm.exporting.writing import Writing, share
from torchgeo_specdm.ranks import Ranks, launch

ROOT = Path(__file__).parents[2]
EXPORT_WRITING = 'torchgeo_specdm.export.Writing'


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spawned processes find this module; what a launch says to the environment is forgotten."""
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setenv('MASTER_PORT', free_port())


class One(Ranks):
    """One of two ranks whose other one is not there."""

    number = 2

    def __init__(self, index: int) -> None:
        self.index = index


class Killed(Writing):
    """Rank 1 is killed when its second sample is about to be written."""

    def __call__(self, ranks: Ranks) -> None:
        if ranks.index == 1:
            write, units = self.layout.write, []

            def dying(folder: Path, unit: int, items: Any) -> None:
                units.append(unit)
                if len(units) == 2:
                    os.kill(os.getpid(), signal.SIGKILL)
                write(folder, unit, items)

            self.layout.write = dying  # type: ignore[method-assign]
        super().__call__(ranks)


class Told(Writing):
    """Each rank notes what it writes."""

    def __call__(self, ranks: Ranks) -> None:
        write = self.layout.write

        def telling(folder: Path, unit: int, items: Any) -> None:
            with (folder.parent / f'rank{ranks.index}').open('a') as file:
                file.write(f'{unit}\n')
            write(folder, unit, items)

        self.layout.write = telling  # type: ignore[method-assign]
        super().__call__(ranks)


class All:
    """Several exports, one after the other, by the same ranks."""

    def __init__(self, exports: list[Writing]) -> None:
        self.exports = exports

    def __call__(self, ranks: Ranks) -> None:
        for one in self.exports:
            one(ranks)


def run(checkpoint: Path, folder: Path, count: int, **arguments: Any) -> None:
    export(checkpoint, folder, count, steps=1, batch_size=2, **{'device': 'cpu'} | arguments)


def work(checkpoint: Path, folder: Path, count: int = 5, **arguments: Any) -> Writing:
    """An export that has not begun."""
    found: list[Writing] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('torchgeo_specdm.export.launch', lambda one, *_: found.append(one))
        run(checkpoint, folder, count, devices=2, **arguments)
    return found[0]


def written_by(folder: Path, rank: int) -> set[int]:
    return {int(line) for line in (folder / f'rank{rank}').read_text().split()}


@pytest.mark.skipif(os.name != 'posix', reason='needs SIGKILL')
def test_a_killed_rank_is_named_and_only_what_is_missing_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the same ranks write every format."""
    fork_ranks(monkeypatch)
    spec = dataclasses.replace(tiny_spec('segmentation'), ignore_index=255)
    checkpoint = tmp_path / 'checkpoint'
    tiny_pipeline(spec).save_pretrained(checkpoint)
    strict_filter(spec, checkpoint / 'filter').save(checkpoint / 'filter')
    run(checkpoint, tmp_path / 'whole', 9, keep='aligned')
    whole = contents(tmp_path / 'whole')

    with monkeypatch.context() as patch:
        patch.setattr(EXPORT_WRITING, Killed)
        with pytest.raises(SpecDMError, match=r'process 1 of 2 was ended by SIGKILL.*the same command resumes'):
            run(checkpoint, tmp_path / 'parts', 9, keep='aligned', devices=2)
    parts = contents(tmp_path / 'parts')
    assert all(whole[name] == parts[name] for name in parts.keys() - {'blocks.jsonl', 'specdm.json'})
    # Samples 0 to 3 are the share of rank 0
    there = {int(Path(name).stem) for name in parts if name.startswith('mask/')}
    assert there <= {0, 1, 2, 3, 4}
    assert 4 in there

    with monkeypatch.context() as patch:
        patch.setattr(EXPORT_WRITING, Told)
        resumed = work(checkpoint, tmp_path / 'parts', 9, keep='aligned')
    launch(All([resumed, *every_format(tmp_path)]), 2, device='cpu')
    assert contents(tmp_path / 'parts') == whole
    first, second = (written_by(tmp_path, rank) for rank in (0, 1))
    assert first | second == set(range(9)) - there
    assert not first & second
    assert hidden(tmp_path / 'parts') == ['.specdm.lock']
    for name in FORMATS:
        assert contents(tmp_path / 'shared' / name) == contents(tmp_path / 'alone' / name), name


def every_format(folder: Path) -> list[Writing]:
    """Exports into ``folder/shared`` that have not begun; those into ``folder/alone`` are done."""
    specs = {'segmunich': segmunich_spec(), 'oscd': oscd_spec(OSCD.all_bands, 16)}
    exports = []
    for name in FORMATS:
        checkpoint = folder / 'checkpoints' / name
        tiny_pipeline(specs.get(name, tiny_spec('change'))).save_pretrained(checkpoint)
        # Shards of three and blocks of two: the border of the shares lies within a block
        shape = {'format': name, 'shard_size': 3 if name == 'webdataset' else None}
        run(checkpoint, folder / 'alone' / name, 5, **shape)
        exports.append(work(checkpoint, folder / 'shared' / name, 5, **shape))
    return exports


@pytest.mark.slow
def test_two_machines_fill_one_folder(
    tiny_segmentation_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command, once for each machine; both are this one, and one of them is this process and forks."""
    fork_ranks(monkeypatch)
    command = ['sample', str(tiny_segmentation_checkpoint), '--n', '5', '--steps', '1', '--batch-size', '2']
    assert main([*command, '--device', 'cpu', '--out', str(tmp_path / 'alone')]) == 0
    command += ['--device', 'cpu', '--out', str(tmp_path / 'shared'), '--devices', '1', '--num-nodes', '2']
    monkeypatch.setenv('MASTER_ADDR', '127.0.0.1')
    other = subprocess.Popen(
        [sys.executable, '-m', 'torchgeo_specdm', *command],
        cwd=ROOT,
        env=os.environ | {'NODE_RANK': '1', 'OMP_NUM_THREADS': '1'},
    )
    try:
        monkeypatch.setenv('NODE_RANK', '0')
        assert main(command) == 0
        assert other.wait(60) == 0
    finally:
        other.kill()
    assert contents(tmp_path / 'shared') == contents(tmp_path / 'alone')


def test_ranks_that_would_write_other_samples_are_refused(tiny_change_checkpoint: Path, tmp_path: Path) -> None:
    class OnAnotherGPU(One):
        def agree(self, value: Any) -> Any:
            return value | {'device': 'cuda A100'} if 'device' in value else value

    with pytest.raises(SpecDMError, match=r'process 1 would write other samples.*: device cpu .* cuda A100'):
        work(tiny_change_checkpoint, tmp_path / 'out')(OnAnotherGPU(1))
    assert not (tmp_path / 'out').exists()


def test_ranks_that_see_another_folder_are_refused(
    tiny_change_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, '_NETWORK', 0)
    with pytest.raises(SpecDMError, match=r'another folder for process 1 than for process 0: name one with --out'):
        work(tiny_change_checkpoint, tmp_path / 'out')(One(1))
    assert not (tmp_path / 'out').exists()


def test_a_rank_with_too_little_memory_is_refused(
    tiny_change_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = SpecDMSynthetic.__getitem__

    def halve(self: SpecDMSynthetic, index: int) -> dict[str, Any]:
        if index == 1:
            self.batch_size, self._settings, self._blocks = 1, None, None
        return read(self, index)

    monkeypatch.setattr(SpecDMSynthetic, '__getitem__', halve)
    with pytest.raises(SpecDMError, match=r'too little memory for 2 samples.*--batch-size 1'):
        work(tiny_change_checkpoint, tmp_path / 'out')(One(0))


def test_machines_without_devices_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['sample', 'indian-pines', '--n', '1', '--out', str(tmp_path / 'out'), '--num-nodes', '2']) == 2
    assert '--num-nodes needs --devices' in capsys.readouterr().err


@pytest.mark.parametrize('name', ['WORLD_SIZE', 'SLURM_STEP_NUM_TASKS'])
def test_several_processes_without_devices_are_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, '4')
    assert main(['sample', 'indian-pines', '--n', '1', '--out', str(tmp_path / 'out')]) == 2
    assert '4 processes were started at once' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_shares_are_whole_blocks() -> None:
    """Each missing unit has one rank; where units are samples, so has each block."""
    for unit_size, block_size, count in ((1, 4, 23), (3, 4, 50), (10, 4, 91), (1, 64, 100), (100, 8, 250)):
        units = {u: range(u * unit_size, min((u + 1) * unit_size, count)) for u in range(-(-count // unit_size))}
        missing = {unit: indices for unit, indices in units.items() if unit % 5 != 1}
        for number in (1, 2, 3, 40):
            shares = []
            for index in range(number):
                ranks = One(index)
                ranks.number = number
                shares.append(share(missing, block_size, ranks))
            assert [unit for part in shares for unit in part] == list(missing)
            blocks = [{i // block_size for indices in part.values() for i in indices} for part in shares]
            twice = sum(map(len, blocks)) - len(set().union(*blocks))
            assert twice <= (0 if unit_size == 1 else number - 1)
