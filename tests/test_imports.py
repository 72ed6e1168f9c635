import subprocess
import sys

import pytest

import torchgeo_specdm

HEAVY = "{'torch', 'torchgeo', 'lightning', 'numpy', 'rasterio', 'diffusers'} & set(sys.modules)"


@pytest.mark.parametrize(
    'action',
    [
        'import torchgeo_specdm; dir(torchgeo_specdm)',
        'from torchgeo_specdm.cli import main; main(["--help"])',
        'from torchgeo_specdm.cli import main; main(["sample", "--help"])',
        'from torchgeo_specdm.cli import main; main(["checkpoints"])',
    ],
)
def test_the_first_contact_is_fast(action: str) -> None:
    code = f"""
import sys, time
start = time.perf_counter()
try:
    {action}
except SystemExit as end:
    assert not end.code
assert not {HEAVY}, {HEAVY}
assert time.perf_counter() - start < 1
"""
    subprocess.run([sys.executable, '-c', code], check=True, stdout=subprocess.DEVNULL, timeout=60)


@pytest.mark.parametrize('name', torchgeo_specdm.__all__)
def test_public_names_load(name: str) -> None:
    assert getattr(torchgeo_specdm, name) is not None
    assert name in dir(torchgeo_specdm)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match='nothing'):
        _ = torchgeo_specdm.nothing
