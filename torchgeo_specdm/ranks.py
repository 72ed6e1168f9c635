"""Processes that share a piece of work, each with a device of its own. One of them is called a rank, from 0.

Lightning Fabric starts them: ``devices`` on this machine, and as many on each of ``num_nodes`` machines where the same
command runs with ``NODE_RANK``, ``MASTER_ADDR`` and ``MASTER_PORT``; or torchrun or SLURM has started them. What they
tell one another is a few words, so they do it through gloo, on GPUs too.
"""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from torchgeo_specdm.errors import USER_FILES, SpecDMError

if TYPE_CHECKING:
    from lightning.fabric import Fabric

_T = TypeVar('_T')
# Between ranks that work: the end of one is noticed at once, however long they may wait for one that is slow
_PATIENCE = timedelta(days=30)
# Before a rank ends because another has: whoever has started both is to see the other one first [s]
_COURTESY = 3.0


class _RankEndedError(SpecDMError):
    """Another rank is gone."""


class Ranks:
    """All ranks, as one of them sees them; here, one that is alone.

    Attributes:
        index: Of this rank.
        number: Of all ranks.
        device: Of this rank; None where it is free to choose.
    """

    index = 0
    number = 1
    device: torch.device | None = None

    def agree(self, value: _T) -> _T:
        """The value of rank 0.

        Raises:
            SpecDMError: Another rank has ended.
        """
        return value

    def gather(self, value: _T) -> list[_T]:
        """The values of all ranks.

        Raises:
            SpecDMError: Another rank has ended.
        """
        return [value]

    def wait(self) -> None:
        """Wait until every rank is here.

        Raises:
            SpecDMError: Another rank has ended.
        """


class _Launched(Ranks):
    def __init__(self, fabric: 'Fabric') -> None:
        self.index, self.number, self.device = fabric.global_rank, fabric.world_size, fabric.device

    def agree(self, value: _T) -> _T:
        values = [value]
        with _ended_ranks_are_errors():
            torch.distributed.broadcast_object_list(values)
        return values[0]

    def gather(self, value: _T) -> list[_T]:
        values = [value] * self.number
        with _ended_ranks_are_errors():
            torch.distributed.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        with _ended_ranks_are_errors():
            torch.distributed.monitored_barrier(timeout=_PATIENCE)


@contextmanager
def _ended_ranks_are_errors() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise _RankEndedError(
            'another process of this command has ended: see what it says; the same command resumes'
        ) from error


def started_together() -> int:
    """Processes that torchrun or SLURM's srun has started with this one, itself included."""
    # Of a step, not of a job: a batch script is one process, however many it may start
    return max(int(os.environ.get(name) or 1) for name in ('WORLD_SIZE', 'SLURM_STEP_NUM_TASKS'))


def launch(work: Callable[[Ranks], None], devices: int, num_nodes: int = 1, device: str | None = None) -> None:
    """Call ``work`` in each rank. A script that does so needs ``if __name__ == '__main__':``.

    Args:
        work: Is sent to the ranks, so it can be pickled.
        devices: Ranks on this machine, each with a GPU or on a core of the CPU.
        num_nodes: Machines.
        device: ``cpu`` or ``cuda``; by default GPUs where there are any.

    Raises:
        SpecDMError: There are fewer devices, the environment says another number, or a rank has ended early.
    """
    if devices < 1 or num_nodes < 1:
        raise SpecDMError(f'devices is {devices} and num_nodes is {num_nodes}; each must be at least 1')
    if device not in (None, 'cpu', 'cuda'):
        raise SpecDMError(f"device is '{device}'; with a number of devices it must be 'cpu' or 'cuda'")
    kind = device or ('cuda' if torch.cuda.is_available() else 'cpu')
    fabric = _fabric(kind, devices, num_nodes, 'popen')
    # Known to Fabric once it has a strategy
    if fabric.strategy.cluster_environment.creates_processes_externally:  # type: ignore[attr-defined]
        try:
            fabric.launch()
        except ValueError as error:
            raise SpecDMError(str(error)) from error
        work(_Launched(fabric))
    else:
        _spawn(work, _fabric(kind, devices, num_nodes, 'spawn'), devices)


def _fabric(kind: str, devices: int, num_nodes: int, start_method: Any) -> 'Fabric':
    from lightning.fabric import Fabric
    from lightning.fabric.strategies.ddp import DDPStrategy
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    strategy = DDPStrategy(process_group_backend='gloo', start_method=start_method)
    try:
        return Fabric(accelerator=kind, devices=devices, num_nodes=num_nodes, strategy=strategy)
    except (MisconfigurationException, RuntimeError) as error:
        raise SpecDMError(f'{devices} devices ({kind}) cannot be used: {error}') from error


def _spawn(work: Callable[[Ranks], None], fabric: 'Fabric', devices: int) -> None:
    from torch.multiprocessing.spawn import ProcessExitedException

    try:
        fabric.launch(partial(_run, work=work))
    except ProcessExitedException as error:
        end = f'was ended by {error.signal_name}' if error.signal_name else 'has failed and says above why'
        raise SpecDMError(
            f'process {error.error_index} of {devices} {end}, so the others were stopped; the same command resumes'
        ) from error
    except KeyboardInterrupt:
        for process in multiprocessing.active_children():
            process.terminate()
        raise


def _run(fabric: 'Fabric', work: Callable[[Ranks], None]) -> None:
    """What a rank does that was spawned."""
    ranks = _Launched(fabric)
    try:
        work(ranks)
    except (SpecDMError, *USER_FILES) as error:
        if isinstance(error, _RankEndedError):
            time.sleep(_COURTESY)
        # Here: the process that has spawned this one would show a traceback
        print(f'specdm: error in process {ranks.index}: {" ".join(str(error).split())}', file=sys.stderr, flush=True)
        sys.exit(2)
