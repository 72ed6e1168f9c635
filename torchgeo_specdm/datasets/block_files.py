"""One block of samples as one file: safetensors, mapped into memory when it is read."""

import json
import os
import zlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from torchgeo_specdm.datasets.blocks import Block


class DamagedBlockError(Exception):
    """A file that is not the block that its name promises; says why."""


def write_block(path: Path, block: Block, key: str, number: int) -> None:
    """Write a block, so that the file is complete or absent. Only one process at a time may write it.

    Args:
        path: Where to; the folder exists.
        block: Tensors by name.
        key: Settings that the block was generated from.
        number: Of the block.

    Raises:
        OSError: The disk is full, or the file cannot be written.
    """
    block = {name: value.contiguous() for name, value in block.items()}
    told = {'settings': key, 'block': number, 'crc32': _checksum(block)}
    partial = path.with_suffix('.partial')
    try:
        # By Python, not by the library, whose errors do not tell a full disk from others
        with partial.open('wb') as file:
            # One entry: the library writes several in a random order
            file.write(save(block, {'specdm': json.dumps(told)}))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def read_block(path: Path, key: str, number: int, check: bool) -> Block:
    """Map a block; what is not looked at is not read.

    Args:
        path: The file.
        key: Settings of the block.
        number: Of the block.
        check: Whether to read it all and compare the checksum.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedBlockError: The file is torn, foreign or corrupt.
    """
    try:
        with safe_open(path, 'pt') as file:
            told = json.loads((file.metadata() or {}).get('specdm', '{}'))
            told = told if isinstance(told, dict) else {}
            block = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise DamagedBlockError(f'is torn ({error})') from error
    if (told.get('settings'), told.get('block')) != (key, number):
        raise DamagedBlockError('belongs to another dataset or another place in it')
    if check and told.get('crc32') != _checksum(block):
        raise DamagedBlockError('does not have the checksum that it was written with')
    return block


def _checksum(block: Block) -> int:
    """CRC-32 of names, types, shapes and values: fast, and it need not withstand anyone's intent."""
    found = 0
    for name, value in sorted(block.items()):
        found = zlib.crc32(json.dumps([name, str(value.dtype), *value.shape]).encode(), found)
        found = zlib.crc32(value.flatten().view(torch.uint8).numpy().data, found)
    return found
