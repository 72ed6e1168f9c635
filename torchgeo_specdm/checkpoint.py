"""Networks and their description on disk: JSON and safetensors, nothing that is unpickled.

A network folder is what diffusers users know: ``config.json`` and ``diffusion_pytorch_model.safetensors``.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from torchgeo_specdm.errors import CheckpointError

FORMAT = 1
WEIGHTS = 'diffusion_pytorch_model.safetensors'
# What belongs to a generator's folder but is no part of the generator: a filter, figures, texts
FILTER, QUALITY = 'filter', 'quality.json'
_PICKLES = {'.bin', '.ckpt', '.pickle', '.pkl', '.pt', '.pth', '.npy', '.npz', '.joblib'}


def write_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Fill ``folder`` by ``write``, so that it is either the old one or complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f'.{folder.name}.partial-{os.getpid()}')
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    write(partial)
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write indented JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2) + '\n', encoding='utf-8')


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        CheckpointError: The file is missing or holds no JSON object.
    """
    try:
        values = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError as error:
        raise CheckpointError(f'{path.parent} is no checkpoint: {path.name} is missing') from error
    except ValueError as error:
        raise CheckpointError(f'{path} is not readable as JSON ({error}); restore it from where it came') from error
    if not isinstance(values, dict):
        raise CheckpointError(f'{path} must hold a JSON object')
    return values


def check_folder(folder: Path) -> None:
    """Refuse a checkpoint folder that is missing or holds pickles, before any of it is read.

    Raises:
        CheckpointError: Says which file and why.
    """
    if not folder.is_dir():
        raise CheckpointError(f'there is no checkpoint folder at {folder}')
    for path in sorted(folder.rglob('*')):
        if path.suffix in _PICKLES:
            raise CheckpointError(f'{path} may hold a pickle, which can run code: refused unread; use safetensors')


def save_network(network: nn.Module, config: dict[str, Any], folder: Path, half_precision: bool = False) -> None:
    """Write a network's configuration and weights.

    In half precision, matrices and kernels become float16; vectors (biases, band offsets) need their digits.
    """
    write_json(folder / 'config.json', config)
    weights = {
        name: (value.half() if half_precision and value.ndim > 1 else value).detach().cpu().contiguous()
        for name, value in network.state_dict().items()
    }
    save_file(weights, folder / WEIGHTS, metadata={'format': 'pt'})


def load_network(folder: Path, build: Callable[[dict[str, Any]], nn.Module]) -> nn.Module:
    """Build a network from its configuration and load its weights.

    The network is built without memory first, so that a wrong configuration cannot ask for any.

    Args:
        folder: Holds ``config.json`` and the weights.
        build: Makes the network from its configuration.

    Raises:
        CheckpointError: A file is missing or damaged, or weights and configuration do not belong together.
    """
    config = read_json(folder / 'config.json')
    path = folder / WEIGHTS
    try:
        with torch.device('meta'):
            network = build(config)
        weights = load_file(path)
        # Half-precision weights save space on disk; networks compute in float32. Copies, because tensors on a mapped
        # file are aligned as the file is, and that changes the last bits of what some kernels compute.
        weights = {
            name: (value.float() if value.is_floating_point() else value).clone() for name, value in weights.items()
        }
        network.load_state_dict(weights, strict=True, assign=True)
    except FileNotFoundError as error:
        raise CheckpointError(f'{path} is missing; copy the checkpoint again') from error
    except SafetensorError as error:
        raise CheckpointError(f'{path} is truncated or damaged ({error}); copy the checkpoint again') from error
    except (RuntimeError, TypeError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f'{folder}: config.json and the weights do not belong together ({reason})') from error
    return network.eval().requires_grad_(False)


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
