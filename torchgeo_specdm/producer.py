"""``python -m torchgeo_specdm.producer``: generates blocks of synthetic samples for other processes.

Not for users: a dataset starts it. The first line of its input is its job, in JSON:

- what :meth:`BlockGenerator.job` says of the generator and of the cache;
- ``places``: serve the wishes of readers (:mod:`torchgeo_specdm.datasets.wishes`) as one of at most so many producers;
- ``fill``: or generate the first so many blocks, beside others that do so too;
- ``ends``: descriptors of pipes that end with the processes for which it works.

It ends with its input or with one of those, or after a minute without a wish. An error goes to the standard error
output as one line.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchgeo_specdm.datasets.wishes import POLL, Wishes, take_place
from torchgeo_specdm.errors import SpecDMError

if TYPE_CHECKING:
    from torchgeo_specdm.datasets.cache import BlockCache

# How long a producer waits for a wish [s], and for a place
_IDLE, _PATIENCE = 60.0, 1.0
_INPUT = 0


def main() -> int:
    """Do the job on the standard input; returns the exit status."""
    with open(_INPUT, 'rb', buffering=0, closefd=False) as lines:
        line = lines.readline()
    if not line:
        return 0
    job = json.loads(line)
    for pipe in (_INPUT, *job['ends']):
        threading.Thread(target=_end_with, args=(pipe,), daemon=True).start()
    try:
        work(job)
    except SpecDMError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def work(job: Mapping[str, Any]) -> None:
    """Do a job.

    Raises:
        SpecDMError: Blocks cannot be generated or written.
    """
    folder = Path(job['home']) / job['key']
    if 'fill' in job:
        _fill(_open(job), job['fill'])
        return
    # Before PyTorch is imported: that takes seconds, in which readers would start further producers
    place = take_place(folder, job['places'], _PATIENCE)
    if place is None:
        return
    try:
        _serve(_open(job), Wishes(folder))
    finally:
        place.release()


def _serve(cache: 'BlockCache', wishes: Wishes) -> None:
    last = time.monotonic()
    while time.monotonic() - last < _IDLE:
        if any(_make(cache, number) for number in wishes.wanted(cache.has)):
            last = time.monotonic()
        else:
            time.sleep(POLL)


def _fill(cache: 'BlockCache', count: int) -> None:
    for number in range(count):
        _make(cache, number)


def _make(cache: 'BlockCache', number: int) -> bool:
    from torch.cuda import OutOfMemoryError

    try:
        return cache.make(number)
    except OutOfMemoryError as error:
        raise SpecDMError(
            f'the GPU has too little free memory to generate {cache.size} samples at once: give the dataset a smaller '
            'batch_size'
        ) from error


def _open(job: Mapping[str, Any]) -> 'BlockCache':
    from torchgeo_specdm.datasets.cache import BlockCache
    from torchgeo_specdm.datasets.generation import BlockGenerator

    generate = BlockGenerator.from_job(job)
    return BlockCache(Path(job['home']), job['names'], job['sample_bytes'], generate, job['max_bytes'])


def _end_with(pipe: int) -> None:
    while os.read(pipe, 1024):
        pass
    # At once, whatever the main thread is at: what it has written is whole or has a temporary name
    os._exit(0)


if __name__ == '__main__':
    sys.exit(main())
