"""Ranks agree, gather, wait, and notice when one of them is gone."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from torchgeo_specdm import ranks as ranks_module
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.ranks import Ranks, launch

ROOT = Path(__file__).parents[1]
TORCHRUN = {'TORCHELASTIC_RUN_ID': 'none', 'WORLD_SIZE': '1', 'RANK': '0', 'LOCAL_RANK': '0'}
SLURM = {
    'SLURM_NTASKS': '1',
    'SLURM_PROCID': '0',
    'SLURM_LOCALID': '0',
    'SLURM_NODEID': '0',
    'SLURM_JOB_NAME': 'sample',
}


def free_port() -> str:
    with socket.socket() as found:
        found.bind(('127.0.0.1', 0))
        return str(found.getsockname()[1])


def fork_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks are forked, where all is imported already; spawned ones are those of the command, in ``exporting``."""
    fabric = ranks_module._fabric
    starts = {'spawn': 'fork'}
    monkeypatch.setattr(ranks_module, '_fabric', lambda *given: fabric(*given[:3], starts.get(given[3], given[3])))


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Spawned processes find this module; what a launch says to the environment is forgotten."""
    monkeypatch.syspath_prepend(str(ROOT))
    for name in ('MASTER_ADDR', 'MASTER_PORT', 'NODE_RANK', 'LOCAL_RANK', 'WORLD_SIZE'):
        monkeypatch.setenv(name, '')
        monkeypatch.delenv(name)
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class Talk:
    """Writes down what a rank hears."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, ranks: Ranks) -> None:
        heard = ranks.agree(f'from {ranks.index}'), ranks.gather({ranks.index: ranks.number}), str(ranks.device)
        (self.folder / f'{ranks.index}').write_text(repr(heard))
        ranks.wait()
        assert len(list(self.folder.iterdir())) == ranks.number, 'all have been here'


class Leave:
    """Rank 1 does not come."""

    def __call__(self, ranks: Ranks) -> None:
        if ranks.index == 0:
            ranks.wait()


class Refuse:
    """Rank 1 finds something that a user can mend."""

    def __call__(self, ranks: Ranks) -> None:
        if ranks.index == 1:
            raise SpecDMError('the disk\nis full')
        ranks.wait()


def test_one_alone_agrees_with_itself() -> None:
    ranks = Ranks()
    ranks.wait()
    assert (ranks.agree(1), ranks.gather(2), ranks.index, ranks.number, ranks.device) == (1, [2], 0, 1, None)


@pytest.mark.parametrize(
    ('work', 'message', 'said'),
    [
        (Leave(), 'process 0 of 2 has failed and says above why', 'another process of this command has ended'),
        (Refuse(), 'process 1 of 2 has failed and says above why', 'specdm: error in process 1: the disk is full\n'),
    ],
)
def test_the_end_of_a_rank_is_told(
    work: Leave | Refuse, message: str, said: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fork_ranks(monkeypatch)
    monkeypatch.setattr(ranks_module, '_COURTESY', 1.0)
    with pytest.raises(SpecDMError, match=f'{message}, so the others were stopped; the same command resumes'):
        launch(work, 2, device='cpu')
    assert said in capfd.readouterr().err


@pytest.mark.parametrize('environment', [TORCHRUN, SLURM])
def test_processes_that_others_have_started_are_used(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': free_port()}
    for name, value in {**environment, **address}.items():
        monkeypatch.setenv(name, value)
    launch(Talk(tmp_path), 1, device='cpu')
    assert (tmp_path / '0').read_text() == repr(('from 0', [{0: 1}], 'cpu'))


def test_another_number_than_the_environment_has_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SpecDMError, match='does not match the world size'):
        launch(Talk(tmp_path), 2, device='cpu')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'devices': 0}, 'devices is 0'),
        ({'devices': 1, 'num_nodes': 0}, 'num_nodes is 0'),
        ({'devices': 2, 'device': 'cuda:1'}, "'cuda:1'; with a number of devices"),
        ({'devices': 99, 'device': 'cuda'}, '99 devices .cuda. cannot be used'),
    ],
)
def test_devices_that_cannot_be_are_refused(arguments: dict[str, int], message: str, tmp_path: Path) -> None:
    with pytest.raises(SpecDMError, match=message):
        launch(Talk(tmp_path), **arguments)
    assert not list(tmp_path.iterdir())
