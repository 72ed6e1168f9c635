"""Archives: what leads out of a folder or fills the disk is refused before a file is written."""

import shutil
import stat
import struct
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import pytest
from torchgeo.datasets import DatasetNotFoundError

from torchgeo_specdm.datasets import OSCD, SegMunich, archives
from torchgeo_specdm.datasets.archives import extract_zip
from torchgeo_specdm.datasets.oscd import TITLE
from torchgeo_specdm.errors import SpecDMError


def archive(path: Path, *members: tuple[str, bytes]) -> Path:
    with ZipFile(path, 'w', ZIP_DEFLATED) as opened:
        opened.writestr('good/a.txt', b'good')
        for name, content in members:
            opened.writestr(name, content)
    return path


def refused(path: Path, message: str) -> None:
    before = sorted(path.parent.rglob('*'))
    with pytest.raises(SpecDMError, match=message) as caught:
        extract_zip(path, path.parent / 'out')
    assert len(str(caught.value).splitlines()) == 1
    assert [p for p in sorted(path.parent.rglob('*')) if p not in before and p.is_file()] == []


def test_what_is_in_it_is_extracted(tmp_path: Path) -> None:
    path = archive(tmp_path / 'a.zip', ('b/c/d..e.txt', b'other'), ('b/empty/', b''))
    extract_zip(path, tmp_path / 'out')
    found = {p.relative_to(tmp_path / 'out').as_posix(): p.read_bytes() for p in (tmp_path / 'out').rglob('*.txt')}
    assert found == {'good/a.txt': b'good', 'b/c/d..e.txt': b'other'}
    assert (tmp_path / 'out' / 'b' / 'empty').is_dir()


@pytest.mark.parametrize(
    'name', ['/etc/a', '../a', 'b/../../a', '..', r'..\a', r'b\a', 'C:/a', 'c:a', 'a\x00b', 'a\nb']
)
def test_paths_out_of_the_folder(tmp_path: Path, name: str) -> None:
    # The library that packs would cut a name at a NUL
    path = archive(tmp_path / 'a.zip', (name.replace('\x00', '*'), b'bad'))
    path.write_bytes(path.read_bytes().replace(b'*', b'\x00'))
    refused(path, 'leads out of the folder')


@pytest.mark.parametrize('kind', [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_links_and_what_is_no_file(tmp_path: Path, kind: int) -> None:
    member = ZipInfo('link')
    member.external_attr = (kind | 0o777) << 16
    path = archive(tmp_path / 'a.zip')
    with ZipFile(path, 'a') as opened:
        opened.writestr(member, '../../outside')
    refused(path, 'is a link or no file')


def test_bombs(tmp_path: Path) -> None:
    refused(archive(tmp_path / 'a.zip', ('zeros', bytes(120 * 2**20))), 'out of all proportion')


def test_more_than_is_declared_is_never_written(tmp_path: Path) -> None:
    """The size in the directory of the archive is a lie: 4 bytes for a megabyte."""
    path = archive(tmp_path / 'a.zip', ('zeros', bytes(2**20)))
    path.write_bytes(path.read_bytes().replace(struct.pack('<I', 2**20), struct.pack('<I', 4)))
    with pytest.raises(SpecDMError, match='is damaged'):
        extract_zip(path, tmp_path / 'out')
    assert sum(p.stat().st_size for p in (tmp_path / 'out').rglob('*') if p.is_file()) < 100


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, '_MOST_MEMBERS', 2)
    refused(archive(tmp_path / 'a.zip', ('b', b''), ('c', b'')), 'with 3 files')


def test_too_little_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: shutil._ntuple_diskusage(10, 10, 0))  # type: ignore[attr-defined]
    refused(archive(tmp_path / 'a.zip'), 'whose disk has 0.00 GB free')


def test_encrypted(tmp_path: Path) -> None:
    path = archive(tmp_path / 'a.zip')
    content = bytearray(path.read_bytes())
    # The flags of the first member, in the directory at the end
    content[content.index(b'PK\x01\x02') + 8] |= 1
    path.write_bytes(content)
    refused(path, 'is encrypted')


@pytest.mark.parametrize('cut', [10, 60, -30, -1])
def test_torn(tmp_path: Path, cut: int) -> None:
    path = archive(tmp_path / 'a.zip', ('b', bytes(range(256)) * 8))
    path.write_bytes(path.read_bytes()[:cut])
    refused(path, 'is damaged')


@pytest.mark.parametrize('kind', [OSCD, SegMunich])
def test_datasets_extract_by_it(tmp_path: Path, kind: type[OSCD] | type[SegMunich]) -> None:
    root = tmp_path / 'data'
    root.mkdir()
    name = f'{TITLE} - Images.zip' if kind is OSCD else 'TUM_128.zip'
    archive(root / name, ('../escaped.txt', b'bad'))
    with pytest.raises(SpecDMError, match='leads out of the folder') as caught:
        kind(root)
    assert not isinstance(caught.value, DatasetNotFoundError)
    assert [path.name for path in tmp_path.rglob('*')] == ['data', name]
