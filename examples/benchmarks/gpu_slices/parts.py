"""Brings results back where only a few files of a limited size return: archives in shards, and how they are joined.

What is finished waits in ``outbox`` and goes to --out as far as the limits allow, the oldest first; the next call sends
what is left. ``slice-N-HASH.json`` says of which shards an archive is made and what its SHA-256 is. N is the order of
one machine; HASH, the first digits of that SHA-256, tells archives of several machines apart.
"""

import hashlib
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from torchgeo_specdm.checkpoint import read_json, write_json
from torchgeo_specdm.errors import SpecDMError

SHARD = 15 * 2**20
# What one call brings back
MOST_FILES, MOST_BYTES = 8, 62 * 2**20
# Of the SHA-256 in a name
_DIGITS = 8


def store(work: Path, files: Iterable[Path], outbox: Path) -> None:
    """Put files of ``work`` into the outbox as one archive; nothing for no files."""
    chosen = sorted(set(files))
    if not chosen:
        return
    outbox.mkdir(parents=True, exist_ok=True)
    number = len(list(outbox.glob('slice-*.json'))) + len(list((outbox / 'sent').glob('slice-*.json')))
    archive, shards = outbox / '.archive.tar', []
    with tarfile.open(archive, 'w') as tar:
        for path in chosen:
            tar.add(path, path.relative_to(work).as_posix())
    with archive.open('rb') as file:
        sha256 = hashlib.file_digest(file, 'sha256').hexdigest()
        name = f'slice-{number:03d}-{sha256[:_DIGITS]}'
        file.seek(0)
        while data := file.read(SHARD):
            shards.append(f'{name}.{len(shards):02d}')
            (outbox / shards[-1]).write_bytes(data)
    archive.unlink()
    write_json(outbox / f'{name}.json', {'sha256': sha256, 'shards': shards})


def send(outbox: Path, out: Path) -> list[str]:
    """Move what the limits allow from the outbox to ``out``, and keep a copy in ``outbox/sent``.

    Returns:
        What is left for the next call.
    """
    # The description of an archive goes first, so that whoever joins knows what is missing
    waiting = sorted(outbox.glob('slice-*'), key=lambda path: (path.stem, path.suffix != '.json', path.name))
    sent = outbox / 'sent'
    for folder in (out, sent):
        folder.mkdir(parents=True, exist_ok=True)
    files, size = 0, 0
    while waiting and files < MOST_FILES and size + waiting[0].stat().st_size <= MOST_BYTES:
        path = waiting.pop(0)
        files, size = files + 1, size + path.stat().st_size
        (out / path.name).write_bytes(path.read_bytes())
        path.rename(sent / path.name)
    return [path.name for path in waiting]


def send_again(outbox: Path) -> None:
    """Let everything wait again that was sent, because it did not arrive."""
    for path in (outbox / 'sent').glob('slice-*'):
        path.rename(outbox / path.name)


def join(folders: Sequence[Path], work: Path) -> list[str]:
    """Unpack all archives of which every shard has arrived below ``work``.

    Args:
        folders: Where shards lie, at any depth.
        work: Where results go.

    Returns:
        What is missing: shards, and the descriptions of archives.

    Raises:
        SpecDMError: An archive is damaged.
    """
    found = {path.name: path for folder in folders for path in folder.rglob('slice-*') if path.is_file()}
    missing = []
    described = {name.partition('.')[0] for name in found if name.endswith('.json')}
    missing += sorted({f'{name.partition(".")[0]}.json' for name in found if name.partition('.')[0] not in described})
    for name in sorted(described):
        values = read_json(found[f'{name}.json'])
        lacking = [shard for shard in values['shards'] if shard not in found]
        missing += lacking
        if not lacking:
            _unpack([found[shard] for shard in values['shards']], values['sha256'], work)
    return missing


def _unpack(shards: Sequence[Path], sha256: str, work: Path) -> None:
    work.mkdir(parents=True, exist_ok=True)
    archive, digest = work / '.archive.tar', hashlib.sha256()
    with archive.open('wb') as file:
        for path in shards:
            data = path.read_bytes()
            digest.update(data)
            file.write(data)
    try:
        if digest.hexdigest() != sha256:
            raise SpecDMError(f'{shards[0].parent}: the shards of {shards[0].stem} are damaged: copy them again')
        with tarfile.open(archive) as tar:
            tar.extractall(work, filter='data')
    finally:
        archive.unlink()
