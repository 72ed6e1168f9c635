"""Checkpoints from strangers: what could do harm is refused before any of it is read.

- Files that could run code (pickles, Python), links that leave the folder, and pipes, which could be read for ever.
- JSON that is larger than any description, or that holds a number which is none.
- A configuration that asks for more tensors than the file of weights holds.

Nothing in a checkpoint names a class: a ``kind`` is looked up in this package, arguments are compared with those of its
constructor (:mod:`torchgeo_specdm.typed`).
"""

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from torchgeo_specdm.errors import CheckpointError, SpecDMError

_PICKLES = {'.bin', '.ckpt', '.dill', '.joblib', '.npy', '.npz', '.pickle', '.pkl', '.pt', '.pth'}
_CODE = {'.py', '.pyc', '.so', '.dll', '.dylib', '.pyd'}
# The largest description that ships has 30 kB
_JSON_BYTES = 16 * 2**20
# Sizes without a weight of their own (a patch, a number of classes in bits) are never larger
_ANY_SIZE = 2**16


def check_folder(folder: Path) -> None:
    """Refuse a checkpoint folder that is missing or holds what could do harm, before any of it is read.

    Raises:
        CheckpointError: Says which file and why.
    """
    if not folder.is_dir():
        raise CheckpointError(f'there is no checkpoint folder at {folder}')
    homes = [Path(os.path.realpath(home)) for home in (folder, *_blobs(folder))]
    for path in sorted(folder.rglob('*')):
        suffix = path.suffix.lower()
        if suffix in _PICKLES:
            raise CheckpointError(f'{path} may hold a pickle, which can run code: refused unread; use safetensors')
        if suffix in _CODE:
            raise CheckpointError(f'{path} is code, which no checkpoint needs: refused unread; delete it')
        # Also of what lies behind a folder that is a link
        if not any(Path(os.path.realpath(path)).is_relative_to(home) for home in homes):
            raise CheckpointError(f'{path} is a link out of the checkpoint: refused unread; copy the file itself')
        if not path.is_file() and not path.is_dir():
            raise CheckpointError(f'{path} is no file: refused unread; copy the checkpoint again')


def _blobs(folder: Path) -> Iterator[Path]:
    """Where the hub's cache keeps the files that a snapshot links to."""
    absolute = folder.absolute()
    for snapshot in (absolute, *absolute.parents):
        repository = snapshot.parent.parent
        if snapshot.parent.name == 'snapshots' and repository.name.startswith('models--'):
            yield repository / 'blobs'


def parse_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        FileNotFoundError: It is missing.
        ValueError: It is too large for a description, or no JSON. NaN and infinity are none.
        RecursionError: It is nested deeper than any description.
    """
    with path.open('rb') as file:
        text = file.read(_JSON_BYTES + 1)
    if len(text) > _JSON_BYTES:
        raise ValueError(f'it has more than {_JSON_BYTES // 2**20} MB')
    return json.loads(text.decode('utf-8'), parse_constant=_no_number)


def _no_number(text: str) -> None:
    raise ValueError(f'{text} is no number of JSON')


def build_bounded(
    build: Callable[[dict[str, Any]], nn.Module], config: dict[str, Any], shapes: Mapping[str, Sequence[int]]
) -> nn.Module:
    """Build a network without memory, and with no more tensors than there are weights for.

    Args:
        build: Makes the network from its configuration.
        config: The configuration.
        shapes: Shape of each tensor in the file of weights.

    Raises:
        SpecDMError: The configuration asks for more.
    """
    values = sum(math.prod(shape) for shape in shapes.values())
    for name, value in config.items():
        for number in value if isinstance(value, list) else [value]:
            if name != 'ignore_index' and isinstance(number, int) and not 0 <= number <= max(values, _ANY_SIZE):
                raise SpecDMError(f'{name} is out of proportion to {values} weights')
    # A judge is built with layers that it then does without
    with _at_most(3 * len(shapes) + 100), torch.device('meta'):
        return build(config)


@contextmanager
def _at_most(limit: int) -> Iterator[None]:
    """Networks built inside may have so many tensors."""
    built = 0

    def count(*_: Any) -> None:
        nonlocal built
        built += 1
        if built > limit:
            raise SpecDMError('config.json describes more layers than there are weights')

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()
