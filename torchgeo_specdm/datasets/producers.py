"""Processes that generate blocks for others, as those who start them see them.

A producer is ``python -m torchgeo_specdm.producer``, a program of its own: workers of a loader may not use a GPU, and a
thread or a fork of theirs may not either. It gets its job as one line of JSON and ends when its input does, which is
when the process that started it ends, in whatever way. It ends with the trainer, too: a worker that a server has forked
(``forkserver``) outlives a trainer that is killed, and notices nothing.
"""

import contextlib
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torchgeo_specdm.datasets.wishes import take_place
from torchgeo_specdm.errors import SpecDMError

_COMMAND = (sys.executable, '-P', '-m', 'torchgeo_specdm.producer')
# Producers that may be killed before a reader gives up
_DEATHS = 3
# How long a producer may take to end once its input has [s]
_LAST_WORDS = 5.0
# How often a reader looks whether there is a producer [s]
_INTERVAL = 0.5


class ProducerProcess:
    """A producer that this process has started.

    Args:
        job: JSON values, see :mod:`torchgeo_specdm.producer`.
    """

    def __init__(self, job: Mapping[str, Any]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        # It imports what this process would, in the same order
        path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
        trainer = multiprocessing.parent_process()
        # Ends when the trainer does; only here a process can take over what another one has open
        ends = [] if trainer is None or os.name != 'posix' else [trainer.sentinel]
        self._process = subprocess.Popen(
            _COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            env={**os.environ, 'PYTHONPATH': path},
            pass_fds=ends,
            # Ctrl-C is for the process that started it, whose end it notices
            start_new_session=True,
        )
        assert self._process.stdin is not None
        self._input = self._process.stdin
        with contextlib.suppress(BrokenPipeError):
            self._input.write(json.dumps({**job, 'ends': ends}).encode() + b'\n')
            self._input.flush()

    @property
    def status(self) -> int | None:
        """None while it runs; else its exit status, negative where a signal ended it."""
        return self._process.poll()

    def words(self) -> str:
        """What went wrong: the last line that it wrote, which is the message of its exception."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors='replace').strip().splitlines()
        return lines[-1] if lines else f'it ended with status {self.status}'

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(BrokenPipeError):
            self._input.close()
        try:
            self._process.wait(_LAST_WORDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()


class Producers:
    """Sees to it that somebody generates what this process wishes for.

    Args:
        folder: Of the dataset's blocks.
        job: What a producer is told.
        places: Most producers of the dataset at a time.
    """

    def __init__(self, folder: Path, job: Mapping[str, Any], places: int) -> None:
        self._folder, self._job, self._places = folder, job, places
        self._own: ProducerProcess | None = None
        self._looked = -_INTERVAL
        self._deaths = 0

    def ensure(self) -> None:
        """Start a producer if there is a place for one; look at most every half second.

        Raises:
            SpecDMError: The one that this process had started has failed, or was killed again and again.
        """
        if time.monotonic() - self._looked < _INTERVAL:
            return
        self._looked = time.monotonic()
        if self._own is not None:
            if self._own.status is None:
                return
            self._bury(self._own)
        lock = take_place(self._folder, self._places)
        if lock is not None:
            lock.release()
            self._own = ProducerProcess({**self._job, 'places': self._places})

    def succeeded(self) -> None:
        """A block has come: those that died before do not count."""
        self._deaths = 0

    def close(self) -> None:
        """End the producer that this process has started."""
        if self._own is not None:
            self._own.close()
            self._own = None

    def _bury(self, producer: ProducerProcess) -> None:
        status, words = producer.status or 0, producer.words()
        self.close()
        self._deaths += status < 0
        if status > 0 or self._deaths > _DEATHS:
            raise SpecDMError(f'the process that generates synthetic samples has failed: {words}')
