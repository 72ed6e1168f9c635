"""Checkpoints on the Hugging Face hub: ``hf://owner/name`` or ``hf://owner/name@revision``.

Offline first: a complete snapshot in the hub's cache is used as it is, without the network. So a branch that has moved
since is not noticed; a revision names other weights. Only JSON, safetensors and texts are ever downloaded.
"""

import re
from pathlib import Path
from typing import NamedTuple

from torchgeo_specdm.errors import CheckpointError

SCHEME = 'hf://'
_PATTERNS = ['*.json', '*.safetensors', '*.md', 'LICENSE*']
_PARTS = (
    'specdm.json',
    'scheduler/scheduler_config.json',
    *(f'{network}/{file}' for network in ('autoencoder', 'denoiser')
      for file in ('config.json', 'diffusion_pytorch_model.safetensors')),
)  # fmt: skip
# As the hub allows; a revision becomes a path in the cache, so it must not lead out of it
_WORD = r'[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?'
_ADDRESS = re.compile(rf'hf://({_WORD}/{_WORD})(?:@([A-Za-z0-9][A-Za-z0-9_./-]*))?')
_CACHED = re.compile(r'models--(?:.+)--(.+)')


class Address(NamedTuple):
    """``owner/name`` of a repository, and a branch, tag or commit of it; None: its main branch."""

    repository: str
    revision: str | None


def parse_address(address: str) -> Address:
    """The parts of ``hf://owner/name[@revision]``.

    Raises:
        CheckpointError: It is no such address.
    """
    found = _ADDRESS.fullmatch(address)
    if not found or '..' in address or '--' in found[1] or found[1].endswith('.git') or len(found[1]) > 96:
        raise CheckpointError(
            f'{address!r} is no address on the hub: write hf://owner/name or hf://owner/name@revision'
        )
    return Address(found[1], found[2])


def fetch(address: str) -> Path:
    """The folder of a checkpoint in the hub's cache, downloaded if it is not there.

    Raises:
        CheckpointError: The address is none, the checkpoint is neither cached nor to be had, or it is incomplete.
    """
    import huggingface_hub
    from huggingface_hub.utils import HfHubHTTPError, LocalEntryNotFoundError  # type: ignore[attr-defined]

    repository, revision = parse_address(address)

    def snapshot(local_files_only: bool) -> Path:
        return Path(
            huggingface_hub.snapshot_download(
                repository, revision=revision, allow_patterns=_PATTERNS, local_files_only=local_files_only
            )
        )

    try:
        folder = snapshot(local_files_only=True)
        if not _lacking(folder):
            return folder
    except LocalEntryNotFoundError:
        pass
    # The bases are errors of the HTTP library below, which is another one in each major release of the hub's
    failures: tuple[type[Exception], ...] = (OSError, *HfHubHTTPError.__bases__)
    try:
        folder = snapshot(local_files_only=False)
    except failures as error:
        raise CheckpointError(_reason(address, error)) from error
    if lacking := _lacking(folder):
        raise CheckpointError(
            f'{address} has no {lacking[0]}: it is no checkpoint, or its download was interrupted; '
            'try again with a connection'
        )
    return folder


def folder_name(folder: Path) -> str:
    """What a reader calls a checkpoint's folder: in the hub's cache the name of the repository, not of a commit."""
    folder = folder.absolute()
    cached = _CACHED.fullmatch(folder.parent.parent.name) if folder.parent.name == 'snapshots' else None
    return cached[1] if cached else folder.resolve().name


def _lacking(folder: Path) -> list[str]:
    """Parts of a checkpoint that are not in the folder, of which older releases of the hub's library say nothing."""
    return [part for part in _PARTS if not (folder / part).is_file()]


def _reason(address: str, error: Exception) -> str:
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, GatedRepoError):
        return f'{address} is open only to those whom its owner admits: ask there, then log in with "hf auth login"'
    if isinstance(error, RepositoryNotFoundError):
        return f'{address} is not on the hub, or not open to you: check the name, or log in with "hf auth login"'
    if isinstance(error, RevisionNotFoundError):
        return f'{address} has no such revision: name a branch, a tag or a commit, or none'
    reason = (str(error).splitlines() or [''])[0] or type(error).__name__
    return f'{address} is not in the cache and cannot be downloaded ({reason}): connect, or copy its folder here'
