"""Networks and their description on disk: JSON and safetensors, nothing that is unpickled.

A network folder is what diffusers users know: ``config.json`` and ``diffusion_pytorch_model.safetensors``. Whatever is
read may come from a stranger: see :mod:`torchgeo_specdm.strangers`.
"""

import glob
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from torchgeo_specdm.disk import is_at_work
from torchgeo_specdm.errors import CheckpointError, SpecDMError
from torchgeo_specdm.strangers import build_bounded, check_folder, parse_json

FORMAT = 1
WEIGHTS = 'diffusion_pytorch_model.safetensors'
# What belongs to a generator's folder but is no part of the generator: a filter, figures, texts
FILTER, QUALITY = 'filter', 'quality.json'


def write_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Fill ``folder`` by ``write``, so that it is either the old one or complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f'.{folder.name}.partial-{os.getpid()}')
    for left in folder.parent.glob(f'.{glob.escape(folder.name)}.*-*'):
        if not is_at_work(left.name.rpartition('-')[2]):
            shutil.rmtree(left)
    partial.mkdir()
    try:
        write(partial)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    old = folder.with_name(f'.{folder.name}.old-{os.getpid()}')
    if folder.exists():
        # A renaming takes no time in which a run could be killed, as a deletion does
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write indented JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2) + '\n', encoding='utf-8')


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        CheckpointError: The file is missing or holds no JSON object, or a number that is none.
    """
    try:
        values = parse_json(path)
    except FileNotFoundError as error:
        raise CheckpointError(f'{path.parent} is no checkpoint: {path.name} is missing') from error
    except (ValueError, RecursionError, IsADirectoryError) as error:
        raise CheckpointError(f'{path} is not readable as JSON ({error}); restore it from where it came') from error
    if not isinstance(values, dict):
        raise CheckpointError(f'{path} must hold a JSON object')
    return values


def save_network(network: nn.Module, config: dict[str, Any], folder: Path, half_precision: bool = False) -> None:
    """Write a network's configuration and weights.

    In half precision, matrices and kernels become float16; vectors (biases, band offsets) need their digits.
    """
    write_json(folder / 'config.json', config)
    weights = {
        name: (value.half() if half_precision and value.ndim > 1 else value).detach().cpu().contiguous()
        for name, value in network.state_dict().items()
    }
    # By Python, not by the library, whose errors do not tell a full disk from others
    (folder / WEIGHTS).write_bytes(save(weights, {'format': 'pt'}))


def load_network(folder: Path, build: Callable[[dict[str, Any]], nn.Module]) -> nn.Module:
    """Build a network from its configuration and load its weights.

    The network is built without memory first and compared with what the file holds, so that a wrong configuration
    cannot ask for any.

    Args:
        folder: Holds ``config.json`` and the weights.
        build: Makes the network from its configuration.

    Raises:
        CheckpointError: A file is missing, damaged or unsafe, or weights and configuration do not belong together.
    """
    check_folder(folder)
    config = read_json(folder / 'config.json')
    path = folder / WEIGHTS
    try:
        with safe_open(path, 'pt') as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            network = build_bounded(build, config, shapes)
            _compare({name: tuple(value.shape) for name, value in network.state_dict().items()}, shapes)
            weights = {name: _as_computed(file.get_tensor(name), name) for name in shapes}
        network.load_state_dict(weights, strict=True, assign=True)
    except FileNotFoundError as error:
        raise CheckpointError(f'{path} is missing; copy the checkpoint again') from error
    except (SafetensorError, IsADirectoryError) as error:
        raise CheckpointError(f'{path} is truncated or damaged ({error}); copy the checkpoint again') from error
    except CheckpointError as error:
        raise CheckpointError(f'{path} {error}') from error
    except (RuntimeError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
        # What the layers of a network raise for sizes that make no sense is theirs to choose
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f'{folder}: config.json and the weights do not belong together ({reason})') from error
    return network.eval().requires_grad_(False)


def _compare(expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]) -> None:
    if odd := sorted(expected.keys() ^ found.keys()):
        raise SpecDMError(f'{odd[0][:60]} is in one of them only')
    if wrong := [name for name in expected if expected[name] != found[name]]:
        name = wrong[0]
        raise SpecDMError(f'{name} is {expected[name]} in the one, {found[name]} in the other')


def _as_computed(value: Tensor, name: str) -> Tensor:
    """A tensor of the file as networks compute with it.

    Half-precision weights save space on disk; networks compute in float32. A copy, because tensors on a mapped file are
    aligned as the file is, and that changes the last bits of what some kernels compute.
    """
    value = (value.float() if value.is_floating_point() else value).clone()
    if not value.isfinite().all():
        raise CheckpointError(f'holds values in {name} that are not finite: train it again, or copy it again')
    return value


def folder_hash(folder: Path) -> str:
    """SHA-256 over names and contents of a folder's files: two folders with one hash are one checkpoint.

    The folder ``filter`` in it is left out: adding one does not change a generator, and it has a hash of its own. So
    are card, licence and figures (``README.md``, ``LICENSE*``, ``quality.json``), and hidden files, which are those of
    git and of the hub.
    """
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob('*') if p.is_file() and _is_generator(p.relative_to(folder))):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _is_generator(path: Path) -> bool:
    """Whether a file, relative to the folder, makes a checkpoint what it is."""
    about = path.name in ('README.md', QUALITY) or path.name.startswith('LICENSE')
    return not (about or path.parts[0] == FILTER or any(part.startswith('.') for part in path.parts))
