"""A few hundred spoilt files, always the same ones; see ``tests/fuzz.py`` for more of them."""

from pathlib import Path

import pytest

from tests.fuzz import TARGETS, fuzz_in_child
from tests.mutations import Edit, spoil_bytes
from torchgeo_specdm.errors import SpecDMError

# Files that once ended with an error of another library
FOUND: list[tuple[str, Edit]] = [
    ('mat', ('insert', 0.234375, b'\x00' * 4)),
    ('mat', ('insert', 0.0, b'\x00' * 4)),
    ('mat', ('overwrite', 0.234375, b'\x00' * 8)),
    ('mat', ('overwrite', 0.25, b'\x00')),
    ('mat', ('overwrite', 0.0, b'\x00' * 3)),
    ('mat, packed', ('overwrite', 0.5, b'\x00')),
    ('npy', ('overwrite', 0.125, b'\x00')),
]


@pytest.mark.parametrize('name', TARGETS)
def test_spoilt_files_are_read_right_or_refused(name: str) -> None:
    if name == 'hdf5':
        pytest.importorskip('h5py')
    # A command line takes a second to parse
    assert fuzz_in_child(name, examples=5 if name.startswith(('evaluate', 'fit')) else 15) == 0


@pytest.mark.parametrize(('name', 'edit'), FOUND)
def test_what_was_found(tmp_path: Path, name: str, edit: Edit) -> None:
    target = TARGETS[name]
    target.make(tmp_path)
    target.attempt(tmp_path)
    path = tmp_path / target.file
    path.write_bytes(spoil_bytes(path.read_bytes(), [edit]))
    with pytest.raises(SpecDMError, match='damaged'):
        target.attempt(tmp_path)


def test_tags_that_are_no_utf8(tmp_path: Path) -> None:
    """Of NetCDF, whose texts once were in any encoding."""
    target = TARGETS['netcdf']
    target.make(tmp_path)
    path = tmp_path / target.file
    assert path.read_bytes().count(b'reflectance') == 1
    path.write_bytes(path.read_bytes().replace(b'reflectance', 'réflectanc'.encode('latin-1') + b' '))
    with pytest.raises(SpecDMError, match=r"a\.nc cannot be read as a raster \('utf-8' codec"):
        target.attempt(tmp_path)
