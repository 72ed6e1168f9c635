"""Checkpoints by name: where each lies, and how any argument that means a checkpoint becomes a folder.

An argument is a folder, a name of this catalogue or an address on the hub, in this order: a folder that exists wins
over a name. Neither torch nor TorchGeo is imported, so that the command line lists checkpoints at once.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torchgeo_specdm.errors import CheckpointError
from torchgeo_specdm.hub import SCHEME, fetch

_PACKAGE = Path(__file__).parent
_DESCRIPTION = 'specdm.json'
# In a clone; an installation that is not editable cannot tell where that is
_OUTSIDE = 'examples/checkpoints'


@dataclass(frozen=True)
class Entry:
    """A checkpoint that has a name.

    Attributes:
        folder: Where it lies in an installation or in a checkout.
        preset: Name of the configuration in ``examples/conf`` that trains one of its kind.
        hub: Address from which it is fetched where the folder is missing; empty: it ships with the package.
    """

    folder: Path
    preset: str
    hub: str = ''

    @property
    def present(self) -> bool:
        """Whether the folder is there."""
        return (self.folder / _DESCRIPTION).is_file()

    @property
    def remedy(self) -> str:
        """Where it can be had when the folder is missing."""
        source = 'it ships with torchgeo-specdm: reinstall that'
        if self.hub:
            source = (
                f'in a clone, name its folder, {_OUTSIDE}/{self.folder.name}; elsewhere its first use '
                f'fetches {self.hub}'
            )
        return f'{source}; examples/conf/{self.preset}.yaml trains one'


CATALOGUE = {
    'indian-pines': Entry(_PACKAGE / 'checkpoints' / 'indian-pines', 'indian-pines'),
    'oscd-landcover': Entry(_PACKAGE / 'checkpoints' / 'oscd-landcover', 'oscd-landcover'),
    # The licence of OSCD's labels forbids commercial use, so it stays out of the package
    'oscd-change': Entry(_PACKAGE.parent / _OUTSIDE / 'oscd-change', 'oscd', hub='hf://torchgeo-specdm/oscd-change'),
}


def resolve(checkpoint: str | Path) -> Path:
    """The local folder of a checkpoint.

    Args:
        checkpoint: A folder, a name in :data:`CATALOGUE`, or ``hf://owner/name[@revision]``.

    Returns:
        A folder that exists; what is in it is not checked.

    Raises:
        CheckpointError: There is no such folder, name or address, or the hub's copy cannot be had.
    """
    text = os.fspath(checkpoint)
    if text.startswith(SCHEME):
        return fetch(text)
    if text.startswith('hf:'):
        raise CheckpointError(
            f'{text!r} is no address on the hub: give hf://owner/name as a string, a Path drops a slash'
        )
    folder, entry = Path(checkpoint), CATALOGUE.get(text)
    if folder.is_dir():
        # The folder of a run has its checkpoint below it
        if entry and not any((folder / part / _DESCRIPTION).is_file() for part in ('.', 'checkpoint')):
            raise CheckpointError(
                f'the folder {text} in {Path.cwd()} hides the checkpoint of that name and holds none: '
                'rename it, or run this elsewhere'
            )
        return folder
    if entry is None:
        raise CheckpointError(
            f'there is no checkpoint folder at {text}: train one ("specdm fit" writes the folder "checkpoint" of its '
            f'run), or take one that has a name: {", ".join(CATALOGUE)}'
        )
    if entry.present:
        return entry.folder
    if not entry.hub:
        raise CheckpointError(f'{text} is missing from {entry.folder.parent}: {entry.remedy}')
    try:
        return fetch(entry.hub)
    except CheckpointError as error:
        raise CheckpointError(
            f'{text} does not ship with the package: in a clone, name its folder, {_OUTSIDE}/{text}; {error}'
        ) from error


def listing() -> str:
    """All names as text: where each lies, what it imitates and under which licence."""
    lines: list[str] = []
    for name, entry in CATALOGUE.items():
        rows = _described(entry.folder) if entry.present else iter([('not here', entry.remedy)])
        lines += [name, *(f'    {label:9}{text}' for label, text in rows)]
    return '\n'.join([*lines, '', 'A CHECKPOINT is one of these names, a folder, or hf://owner/name[@revision].'])


def _described(folder: Path) -> Iterator[tuple[str, str]]:
    path = folder / _DESCRIPTION
    size = sum(file.stat().st_size for file in folder.rglob('*') if file.is_file())
    try:
        spec = json.loads(path.read_text(encoding='utf-8'))['spec']
        pixels = f'{spec["patch_size"]} x {spec["patch_size"]} px'
        what = f'{spec["name"]}: {spec["task"]}, {len(spec["bands"])} bands, {len(spec["classes"])} classes, {pixels}'
        licence = spec.get('licence', '')
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f'{path} describes no checkpoint ({error}): restore it from where it came') from error
    yield from (('folder', f'{folder} ({size / 1e6:.1f} MB)'), ('imitates', what), ('licence', licence))
