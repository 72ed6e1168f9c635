"""Checkpoints that ship: each is complete, small, in half precision, described by its card and as free as its data."""

import json
import re
import shlex
from pathlib import Path

import pytest
from safetensors import safe_open

from torchgeo_specdm.card import _DATA, card, licence_text
from torchgeo_specdm.catalogue import CATALOGUE
from torchgeo_specdm.checkpoint import check_folder, folder_hash
from torchgeo_specdm.datasets import SpecDMSynthetic
from torchgeo_specdm.pipeline import SpecDMPipeline

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'torchgeo_specdm'
# Both folders as they lie here: what somebody adds is tested, with a name or without
FOLDERS = sorted(
    path.parent
    for place in (PACKAGE / 'checkpoints', ROOT / 'examples' / 'checkpoints')
    for path in place.glob('*/specdm.json')
)
# That of the clone is 20 MB of 2^20 bytes
MOST = {'checkpoints': 30e6, 'oscd-change': 20 * 2**20}

pytestmark = pytest.mark.parametrize('folder', FOLDERS, ids=lambda folder: folder.name)


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob('*') if path.is_file())


def test_it_has_a_name(folder: Path) -> None:
    assert CATALOGUE[folder.name].folder.parts[-3:] == folder.parts[-3:]


def test_it_loads_and_draws(folder: Path) -> None:
    check_folder(folder)
    dataset = SpecDMSynthetic(folder, 1, steps=1, batch_size=1, device='cpu')
    assert dataset[0]['image'].shape == dataset.spec.image_shape
    assert dataset[0]['image'].isfinite().all()
    assert dataset[0]['mask'].max() < dataset.spec.num_classes


def test_its_matrices_are_in_half_precision(folder: Path) -> None:
    for path in (folder / network / 'diffusion_pytorch_model.safetensors' for network in ('autoencoder', 'denoiser')):
        with safe_open(path, 'pt') as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        assert {part.get_dtype() for part in slices.values() if len(part.get_shape()) > 1} == {'F16'}, path


def test_it_is_small(folder: Path) -> None:
    # The limit of the package is for all that is in it
    counted = folder.parent if folder.parent.parent == PACKAGE else folder
    assert size(counted) <= MOST[counted.name]


def test_the_card_is_that_of_these_weights(folder: Path) -> None:
    """What ``specdm card FOLDER`` would write now: no figure in it was typed, none is of other weights."""
    text = (folder / 'README.md').read_text(encoding='utf-8')
    assert text == card(folder), f'run "specdm card {folder.relative_to(ROOT)}"'
    assert folder_hash(folder) in text
    assert f"SpecDMSynthetic('{folder.name}'" in text
    spec = SpecDMPipeline.read_spec(folder)
    assert _DATA[spec.name] in text
    assert spec.licence in text
    assert spec.attribution in text
    if spec.unit.startswith('Sentinel-2'):
        assert 'contains modified copernicus sentinel data' in text.lower()


def test_the_licence_lies_in_the_folder(folder: Path) -> None:
    spec = SpecDMPipeline.read_spec(folder)
    assert spec.licence
    assert (folder / 'LICENSE').read_text(encoding='utf-8') == licence_text(spec)
    # The package may be used commercially, with all that is in it
    assert '-NC' not in spec.licence or PACKAGE not in folder.parents


def test_the_training_command_names_a_preset_of_the_tree(folder: Path) -> None:
    command = json.loads((folder / 'specdm.json').read_text())['training']['command']
    assert command in (folder / 'README.md').read_text(encoding='utf-8')
    words = shlex.split(command)
    assert (Path(words[0]).name, words[1]) == ('specdm', 'fit')
    config = words[words.index('--config') + 1] if '--config' in words else words[words.index('-c') + 1]
    assert (ROOT / config).is_file()
    assert not re.search(r'(^|[ =])/', command), 'a path of the machine that trained it'


def test_only_what_a_checkpoint_is_made_of_is_in_it(folder: Path) -> None:
    """What is not matched would not come down from the hub either."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file()]
    assert [name for name in names if not re.fullmatch(r'.*\.(json|safetensors|md)|LICENSE', name)] == []
