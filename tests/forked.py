"""A producer that is forked, where all libraries are there already: it does what the real one does, at once."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import pytest

from torchgeo_specdm import producer
from torchgeo_specdm.datasets import producers


def fork_producers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers, and workers that are forked from here on, start such producers."""
    monkeypatch.setattr(producers, 'subprocess', _Subprocess)


class _Program:
    """What ``subprocess.Popen`` is for a producer: its input, its status and its end."""

    def __init__(self, command: Sequence[str], *, stderr: Any, pass_fds: Sequence[int], **_: Any) -> None:
        assert command[-1] == producer.__name__
        reads, writes = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _become_producer(reads, stderr.fileno(), pass_fds)
        os.close(reads)
        self.stdin = os.fdopen(writes, 'wb')
        self._status: int | None = None

    def poll(self) -> int | None:
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status

    def wait(self, timeout: float = 60.0) -> int:
        end = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired('producer', timeout)
            time.sleep(0.01)
        return status

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


class _Subprocess:
    Popen = _Program
    PIPE, DEVNULL, TimeoutExpired = subprocess.PIPE, subprocess.DEVNULL, subprocess.TimeoutExpired


def _become_producer(stdin: int, stderr: int, kept: Sequence[int]) -> None:
    """Never returns."""
    status = 1
    try:
        os.setsid()
        os.dup2(stdin, 0)
        os.dup2(stderr, 2)
        # As in a program: an end of its own input that is open here would keep it alive
        for before, after in itertools.pairwise([2, *sorted(kept), os.sysconf('SC_OPEN_MAX')]):
            os.closerange(before + 1, after)
        sys.stderr = os.fdopen(2, 'w', buffering=1)
        status = producer.main()
    finally:
        os._exit(status)
