"""Archives of datasets, of which nobody knows who packed them: looked at as a whole before anything is extracted."""

import re
import shutil
import stat
import zipfile
import zlib
from pathlib import Path
from zipfile import ZipFile, ZipInfo

from torchgeo_specdm.errors import SpecDMError

# Rasters of one value shrink to a hundredth; the rest is for archives of a few small ones
_RATIO, _SPARE = 100, 100 * 2**20
_MOST_MEMBERS = 1_000_000
# An absolute path, one with a drive, a way up, or what is no part of a name
_OUTSIDE = re.compile(r'^/|^[A-Za-z]:|(^|/)\.\.(/|$)|[\\\x00-\x1f\x7f]')
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)


def extract_zip(archive: Path, folder: Path) -> None:
    """Extract a zip archive.

    A member never yields more than the size that the archive declares for it, so what is declared is what is checked.

    Args:
        archive: The file.
        folder: Where to; files in it are replaced.

    Raises:
        SpecDMError: A member would lie outside of ``folder``, is a link or encrypted, there are too many or too large
            ones, or the disk has too little space: nothing was written. Or the archive is damaged.
    """
    try:
        with ZipFile(archive) as opened:
            members = opened.infolist()
            _check(archive, members, folder)
            opened.extractall(folder, members)
    except _DAMAGE as error:
        raise SpecDMError(f'{archive} is damaged ({error}): delete it and download it again') from error


def _check(archive: Path, members: list[ZipInfo], folder: Path) -> None:
    size, packed = sum(member.file_size for member in members), archive.stat().st_size
    if len(members) > _MOST_MEMBERS or size > _RATIO * packed + _SPARE:
        raise SpecDMError(
            f'{archive} has {packed} bytes and would fill {size} with {len(members)} files, out of all proportion: '
            'nothing was extracted; download it from its authors'
        )
    for member in members:
        if reason := _harm(member):
            raise SpecDMError(
                f'{archive} holds {member.orig_filename[:80]!r}, which {reason}: nothing was extracted; '
                'download it from its authors'
            )
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if size > free:
        raise SpecDMError(f'{archive} needs {size / 1e9:.2f} GB in {folder}, whose disk has {free / 1e9:.2f} GB free')


def _harm(member: ZipInfo) -> str:
    """Why a member is not to be extracted; empty where nothing is wrong with it."""
    # As it was stored: the library cuts names at a NUL
    if _OUTSIDE.search(member.orig_filename):
        return 'leads out of the folder'
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return 'is a link or no file'
    return 'is encrypted' if member.flag_bits & 1 else ''
