"""What the stages of a generator have left: whether they are finished, and were trained on what is asked for now.

A finished stage keeps what its data was, beside its state. Arguments that do not change a sample are left out: where
the files lie, how many are loaded at once. An argument that one of two releases does not have is not compared.
"""

import math
import os
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace

from torchgeo_specdm.checkpoint import read_json, write_json
from torchgeo_specdm.disk import write_whole
from torchgeo_specdm.errors import CheckpointError, SpecDMError
from torchgeo_specdm.tasks.generator import GeneratorTask

_ELSEWHERE = {'root', 'num_workers', 'batch_size', 'download', 'checksum'}


def is_finished(model: GeneratorTask, root: Path, last: Path | None) -> bool:
    """Whether the stage wrote its output after it last saved its state; a newer state is of a restarted run."""
    if not model.finished(root) or last is None or not last.is_file():
        return model.finished(root)
    return last.stat().st_mtime <= _written(root / model.output)


def _written(output: Path) -> float:
    """The time of the oldest file of an output: a filter is added to the folder of a generator later."""
    return min(path.stat().st_mtime for path in output.rglob('*') if path.is_file())


def check_settings(model: GeneratorTask, last: Path) -> int:
    """Refuse a state of a model with other settings; return its steps."""
    try:
        state = torch.load(last, weights_only=True, mmap=True)
        saved, steps = state['hyper_parameters'], int(state['global_step'])
    except (RuntimeError, KeyError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(f'{last} is damaged: remove it, or use --restart') from error
    different = [name for name, value in model.hparams.items() if name in saved and saved[name] != value]
    if different:
        raise SpecDMError(
            f'{last} was trained with another {", ".join(different)}: use the old settings, or --restart to discard it'
        )
    return steps


def record_data(path: Path, data: Namespace) -> None:
    """Write what a stage was trained on.

    Args:
        path: The file.
        data: The parsed ``data:`` of the configuration, with all defaults.
    """
    write_whole(path, lambda partial: write_json(partial, _plain(data)))


def require_recorded(path: Path, data: Namespace, output: Path) -> None:
    """Refuse data that a finished stage was not trained on; a stage without a record is of an earlier release.

    Args:
        path: The file of :func:`record_data`.
        data: The parsed ``data:`` of the configuration.
        output: What the stage has written.

    Raises:
        SpecDMError: Names the arguments that differ.
    """
    # An output that is newer was written by a run that was killed before it wrote a record
    if not path.is_file() or path.stat().st_mtime < _written(output):
        return
    if different := list(_differences(_plain(data), read_json(path), data)):
        raise SpecDMError(
            f'{output} was trained on data with another {", ".join(different[:5])}: use the old settings, or --restart '
            'to train it again'
        )


def _plain(value: Any) -> Any:
    """``value`` as JSON gives it back; what JSON does not know is left out, for its text may hold an address."""
    if isinstance(value, Namespace):
        found = {name: _plain(inner) for name, inner in vars(value).items() if name not in _ELSEWHERE}
        # Releases may move a class
        return found | {name: found[name].rpartition('.')[-1] for name in found.keys() & {'class_path'}}
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float) else None


def _differences(now: Any, then: Any, parsed: Any, name: str = '') -> Iterator[str]:
    """Dotted names of the arguments of a parsed configuration whose values differ."""
    if isinstance(parsed, Namespace) and isinstance(then, dict):
        for key in [key for key in now if key in then]:
            inner = name if key == 'init_args' else f'{name}.{key}'
            yield from _differences(now[key], then[key], getattr(parsed, key), inner)
    elif now != then:
        yield name.lstrip('.')
