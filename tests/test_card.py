"""A card is a function of its folder: figures are those of these weights, and the licence is that of the data."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from tests.conftest import tiny_pipeline, tiny_spec
from torchgeo_specdm.card import card, write_card
from torchgeo_specdm.checkpoint import folder_hash
from torchgeo_specdm.cli import main
from torchgeo_specdm.errors import CheckpointError, SpecDMError

OSCD_LICENCE = 'CC BY-NC-SA 4.0 (labels); Copernicus Sentinel data terms (imagery)'
EMPTY = {'value': [None, None, None], 'real': None, 'samples': 0, 'extractor': '', 'bar': '', 'met': None}
ROWS: list[dict[str, Any]] = [
    {'figure': 'KID', 'value': [0.123456, 0.1, 0.2], 'real': [0.05, None, None], 'samples': 300, 'extractor': 'lite0',
     'bar': '≤ 0.1', 'met': False},
    EMPTY | {'figure': 'copies', 'value': [0.0, 0.0, 0.013], 'samples': 300},
    EMPTY | {'figure': 'gain', 'bar': '> 0'},
    EMPTY | {'figure': 'nothing'},
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return checkpoint(tmp_path / 'checkpoint', licence=OSCD_LICENCE, attribution='Contains modified Copernicus data')


def checkpoint(folder: Path, **declared: Any) -> Path:
    tiny_pipeline(dataclasses.replace(tiny_spec('change'), **declared)).save_pretrained(folder)
    return folder


def measured(folder: Path, rows: Any = ROWS, **more: Any) -> Path:
    path = folder.parent / 'quality.json'
    path.write_text(
        json.dumps({'checkpoint': folder_hash(folder), 'command': 'python quality.py', 'rows': rows} | more)
    )
    return path


def test_the_card_tells_what_the_folder_holds(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['card', str(folder)]) == 0
    assert str(folder / 'README.md') in capsys.readouterr().out
    text = (folder / 'README.md').read_text(encoding='utf-8')
    training = json.loads((folder / 'specdm.json').read_text())['training']
    for expected in (OSCD_LICENCE, 'Contains modified Copernicus data', training['command'], folder_hash(folder)):
        assert expected in text
    assert 'change detection: 3 bands, 16 x 16 px' in text
    assert 'Not measured.' in text
    licence = (folder / 'LICENSE').read_text()
    assert OSCD_LICENCE in licence
    assert 'https://creativecommons.org/licenses/by-nc-sa/4.0/legalcode' in licence


def test_the_hub_reads_the_front_matter(folder: Path) -> None:
    data = huggingface_hub.ModelCard(card(folder)).data.to_dict()
    assert data['license'] == 'cc-by-nc-sa-4.0'
    assert data['library_name'] == 'torchgeo-specdm'
    assert data['datasets'] == ['tiny-change']
    assert {'change-detection', 'multispectral'} <= set(data['tags'])


@pytest.mark.parametrize(
    ('licence', 'expected'),
    [
        ('CC BY 3.0', {'license': 'cc-by-3.0'}),
        (
            'Copernicus Sentinel data terms',
            {'license': 'other', 'license_name': 'copernicus-sentinel-data-terms', 'license_link': 'LICENSE'},
        ),
        ('', {'license': 'unknown'}),
    ],
)
def test_licences_in_the_words_of_the_hub(licence: str, expected: dict[str, str], tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / 'checkpoint', licence=licence)
    write_card(folder)
    data = huggingface_hub.ModelCard((folder / 'README.md').read_text(encoding='utf-8')).data.to_dict()
    assert {key: value for key, value in data.items() if key.startswith('license')} == expected
    assert (folder / 'LICENSE').exists() == bool(licence)


def test_cards_leave_a_checkpoint_what_it_was(folder: Path) -> None:
    before = folder_hash(folder)
    write_card(folder, measured(folder))
    for name in ('LICENSE.md', '.gitattributes', '.cache/huggingface/download/x.json'):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('{}')
    assert folder_hash(folder) == before
    (folder / 'scheduler' / 'more.json').write_text('{}')
    assert folder_hash(folder) != before


def test_figures_come_from_the_file(folder: Path) -> None:
    write_card(folder, measured(folder, degenerate={'blur': ROWS}))
    text = (folder / 'README.md').read_text(encoding='utf-8')
    assert '```bash\npython quality.py\n```' in text
    assert '| KID | 0.123 [0.1, 0.2] | 0.05 | 300 | lite0 | ≤ 0.1 | not met |' in text
    assert '| copies | 0 [0, 0.013] |  | 300 |  |  |  |' in text
    # What has a bar and was not measured is said, what has none is left out
    assert '| gain |  |  |  |  | > 0 | not measured |' in text
    assert '| nothing |' not in text
    assert set(json.loads((folder / 'quality.json').read_text())) == {'checkpoint', 'command', 'rows'}
    # Written again without the file, the figures stay
    write_card(folder)
    assert text == card(folder) == (folder / 'README.md').read_text(encoding='utf-8')


def test_bars_of_other_data_are_not_shown(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / 'checkpoint', unit='counts')
    write_card(folder, measured(folder))
    text = (folder / 'README.md').read_text(encoding='utf-8')
    assert '| KID | 0.123 [0.1, 0.2] | 0.05 | 300 | lite0 |\n' in text
    assert '≤ 0.1' not in text
    assert '| gain |' not in text


def test_figures_of_other_weights_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = measured(folder)
    write_card(folder, path)
    other = checkpoint(folder.parent / 'other')
    assert main(['card', str(other), '--metrics', str(path)]) == 2
    error = capsys.readouterr().err
    assert 'was measured on other weights' in error
    assert error.count('\n') == 1
    assert not (other / 'README.md').exists()
    # Weights that are replaced below their figures
    (folder / 'specdm.json').write_text((other / 'specdm.json').read_text())
    with pytest.raises(SpecDMError, match=r'quality\.json was measured on other weights'):
        card(folder)


@pytest.mark.parametrize('rows', [None, {}, [{}], [{'value': [1, 2, 3]}], ['KID'], [ROWS[0] | {'value': 3}]])
def test_what_are_no_figures(rows: Any, folder: Path) -> None:
    with pytest.raises(SpecDMError, match=r'quality\.json') as error:
        write_card(folder, measured(folder, rows))
    assert '\n' not in str(error.value)
    assert not (folder / 'quality.json').exists()


def test_a_folder_that_is_no_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['card', str(tmp_path)]) == 2
    assert 'specdm.json is missing' in capsys.readouterr().err
    with pytest.raises(CheckpointError):
        write_card(tmp_path / 'nowhere')
    assert not list(tmp_path.iterdir())
