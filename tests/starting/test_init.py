"""``specdm init``: what it writes says what it guessed, and trains."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from scipy.io import savemat

from tests.conftest import slow_but
from tests.data.torchgeo.data import (
    write_chabud,
    write_landslides,
    write_levircd,
    write_levircdplus,
    write_loveda,
)
from tests.datasets.test_scene import write as write_scene
from tests.rasters import NAMES, scene, write_folder, write_netcdf, write_tif
from tests.test_examples import TRAINER, shrunk
from torchgeo_specdm.cli import main
from torchgeo_specdm.evaluation.data import read_datamodule
from torchgeo_specdm.pipeline import SpecDMPipeline
from torchgeo_specdm.starting.drafts import Draft, add_overlap


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def folder() -> list[str]:
    write_folder(Path('data/fields'), [(40, 40)] * 10)
    return ['data/fields']


def valley() -> list[str]:
    write_scene(Path('data'))
    return ['data/image.tif', '--mask', 'data/mask.tif']


def loveda() -> list[str]:
    write_loveda(Path('data/loveda'))
    return ['torchgeo.datasets.LoveDA', '--arg', 'root=data/loveda', '--arg', 'scene=[urban]']


def levircd() -> list[str]:
    write_levircd(Path('data/levircd'))
    return ['torchgeo.datamodules.LEVIRCDDataModule', '--arg', 'root=data/levircd']


def levircdplus() -> list[str]:
    write_levircdplus(Path('data/levircdplus'))
    return ['torchgeo.datasets.LEVIRCDPlus', '--arg', 'root=data/levircdplus']


def chabud() -> list[str]:
    pytest.importorskip('h5py', reason='ChaBuD is HDF5')
    write_chabud(Path('data/chabud'))
    return ['torchgeo.datasets.ChaBuD', '--arg', 'root=data/chabud']


def landslides() -> list[str]:
    pytest.importorskip('h5py', reason='Landslide4Sense is HDF5')
    write_landslides(Path('data/TrainData'))
    return ['data/TrainData', '--image', 'img/image_*.h5', '--mask', 'mask/mask_*.h5']


def three_keys() -> list[str]:
    return ['tests.fake.ThreeKeys', '--arg', 'length=8']


def envi() -> list[str]:
    image, mask = scene(96, 96)
    write_tif(Path('data/valley.img'), image, driver='ENVI', unit='counts')
    write_tif(Path('data/classes.tif'), mask[None])
    return ['data/valley.img', '--mask', 'data/classes.tif']


def matlab() -> list[str]:
    image, mask = scene(96, 96)
    Path('data').mkdir()
    savemat('data/valley.mat', {'cube': image.transpose(1, 2, 0), 'gt': mask})
    return ['data/valley.mat#cube', '--mask', 'data/valley.mat#gt']


def numpy() -> list[str]:
    for number in range(8):
        for name, values in zip(('image', 'mask'), scene(32, 32, seed=number), strict=True):
            Path('data/fields', name).mkdir(parents=True, exist_ok=True)
            np.save(Path('data/fields', name, f'{number}.npy'), values)
    return ['data/fields']


def netcdf() -> list[str]:
    for number in range(8):
        image, mask = scene(32, 32, seed=number)
        write_netcdf(Path(f'data/fields/{number}.nc'), reflectance=image, label=mask)
    return ['data/fields', '--image', '*.nc#reflectance', '--mask', '*.nc#label']


def triples() -> list[str]:
    for number in range(8):
        (before, ground), (after, other) = scene(32, 32, seed=number), scene(32, 32, seed=100 + number)
        for name, values in {'A': before, 'B': after, 'label': (ground != other).astype(np.uint8)[None]}.items():
            write_tif(Path('data/places') / name / f'{number}.tif', values, unit='counts')
    return ['data/places']


def init(*arguments: str) -> str:
    assert main(['init', *arguments, '--out', 'mine.yaml']) == 0
    return Path('mine.yaml').read_text()


FOLDERS = [folder, numpy, netcdf, landslides, triples]
SCENES = [valley, envi, matlab]
CLASSES = [loveda, levircd, levircdplus, chabud, three_keys]
CHANGE = [levircd, levircdplus, chabud, three_keys, triples]


@pytest.mark.parametrize('dataset', slow_but([folder, valley, levircd, triples], FOLDERS + SCENES + CLASSES))
def test_what_it_writes_trains(dataset: Any) -> None:
    config = yaml.safe_load(init(*dataset()))
    small = shrunk(config)
    small['trainer'] |= TRAINER | {'logger': False}
    small['stages'] = small['stages'][:2]
    Path('small.yaml').write_text(yaml.safe_dump(small))
    assert main(['fit', '--config', 'small.yaml']) == 0
    spec = SpecDMPipeline.read_spec(Path(config['trainer']['default_root_dir']) / 'checkpoint')
    assert spec.patch_size == config['data']['init_args']['patch_size']
    assert spec.name == config['data']['init_args']['declared']['name']
    assert spec.task == ('change' if dataset in CHANGE else 'segmentation')


def test_measures_are_those_of_the_files() -> None:
    scenes = write_folder(Path('data/fields'), [(40, 40)] * 10)
    text = init('data/fields')
    counts = np.bincount(np.concatenate([mask.ravel() for _, mask in scenes]), minlength=3)
    for value, share in enumerate(counts / counts.sum()):
        assert f'{value}: {share:.1%}' in text
    module = read_datamodule(Path('mine.yaml'))
    module.setup('fit')
    train = module.train_dataset
    images = torch.stack([train[i]['image'] for i in range(len(train))])
    masks = torch.stack([train[i]['mask'] for i in range(len(train))])
    for band, name in enumerate(train.spec.bands):
        values = images[:, band]
        assert f'{name}: {values.min():g} to {values.max():g}' in text
    assert f'class 1: {(masks == 1).float().mean():.1%}' in text
    declared = yaml.safe_load(text)['data']['init_args']['declared']
    assert declared['value_range'] == [images.min(), images.max()]


def test_all_that_is_guessed_has_a_comment() -> None:
    write_scene(Path('data'), names=None, wavelengths=None, unit='')
    lines = [line.strip() for line in init('data/image.tif', '--mask', 'data/mask.tif').splitlines()]
    for key, word in {
        'classes': 'guessed',
        'splitter': 'guessed',
        'unit': 'to be declared',
        'band_names': 'numbered',
    }.items():
        place = next(number for number, line in enumerate(lines) if line.startswith(f'{key}:'))
        comment = ' '.join(line for line in lines[place - 4 : place] if line.startswith('#'))
        assert word in comment, key


@pytest.mark.parametrize(('size', 'files', 'overlap'), [(32, 10, None), (40, 10, 0.5), (640, 450, 0.0)])
def test_overlap_is_recommended_where_an_image_exceeds_a_patch(size: int, files: int, overlap: float | None) -> None:
    """Of 450 images of 640 px there are 11 250 patches of 128 px without; headers are read, no pixel."""
    draft = Draft('fields', 'FolderDataModule', {})
    add_overlap(draft, [(size, size)] * min(files, 200), files)
    assert draft.arguments.get('overlap') == overlap
    assert ('neighbour covers too' in draft.notes.get('overlap', '')) == (overlap is not None)


def test_good_news_is_said_of_each_split(capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(Path('data/fields'), [(32, 32)] * 10)
    init('data/fields')
    said = capsys.readouterr().out.splitlines()
    for name, count in {'train': 6, 'val': 2, 'test': 2}.items():
        news = said[said.index(f'{name}: {count} patches of 32 px') + 1]
        of = 'another train patch' if name == 'train' else 'a train patch'
        assert news == f'  blank or without a label: 0.0%; near-duplicates of {of}: 0 of {count}'


def test_what_is_not_checked_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(Path('data/fields'), [(6, 6)] * 10)
    init('data/fields')
    said = capsys.readouterr().out
    assert said.count(': not checked, for patches are smaller than 8 px') == 3
    assert said.count('blank or without a label: 0.0%') == 3


def test_blank_data_is_called_blank(capsys: pytest.CaptureFixture[str]) -> None:
    root = Path('data/fields')
    scenes = write_folder(root, [(32, 32)] * 10)
    for value, said in ((0, 'looked at are blank: nothing to learn'), (7, 'looked at are 7 or blank: nothing')):
        for number, (image, _) in enumerate(scenes):
            write_tif(root / 'image' / f'a{number}.tif', np.full_like(image, value), names=NAMES, unit='DN')
        assert main(['init', 'data/fields']) == 2
        assert said in capsys.readouterr().err


def test_bands_in_absorption_are_pointed_out() -> None:
    write_scene(Path('data'), wavelengths=(665, 1400, 1450, 1800))
    assert '3 bands lie where water vapour absorbs: [[1340, 1460], [1790, 1960]]' in ' '.join(
        line.strip(' #') for line in init('data/image.tif', '--mask', 'data/mask.tif').splitlines()
    )


def test_faults_are_pointed_out(capsys: pytest.CaptureFixture[str]) -> None:
    root = Path('data/fields')
    scenes = write_folder(root / 'train', [(32, 32)] * 5)
    other = write_folder(root / 'val', [(32, 32)] * 3)
    image, mask = scenes[2]
    # A turned copy of a train image, a blank image and a saturated pixel; class 2 is in no val mask
    write_tif(root / 'val' / 'image' / 'a0.tif', np.rot90(image, axes=(1, 2)), unit='DN')
    write_tif(root / 'val' / 'image' / 'a1.tif', np.zeros_like(image), unit='DN')
    other[2][0][0, 0, 0] = 65535
    write_tif(root / 'val' / 'image' / 'a2.tif', other[2][0], unit='DN')
    for number in range(3):
        write_tif(root / 'val' / 'mask' / f'a{number}.tif', mask.clip(0, 1)[None])
    for number, (each, _) in enumerate(scenes):
        write_tif(root / 'train' / 'image' / f'a{number}.tif', each, unit='DN')
    config = yaml.safe_load(init(str(root)))
    assert config['data']['init_args']['splitter']['class_path'].endswith('ByPattern')
    said = capsys.readouterr().out
    assert '1 of 2 val patches looked at nearly equal one of 5 train patches' in said
    assert 'not in the val patches looked at: class 2' in said
    assert '33% of the val patches looked at are of one value' in said
    assert 'of the val values are the largest of uint16' in said
    assert '5 train patches are few' in said


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['nowhere'], 'there is no folder or file nowhere'),
        (['torchgeo.datasets.Nothing'], 'no class path'),
        (['torchgeo.datasets.LoveDA', '--arg', 'root=nowhere'], 'Dataset not found'),
        (['torchgeo.datasets.LoveDA', '--arg', 'root'], '--arg takes NAME=VALUE'),
        (['data/image.tif'], 'name its mask with --mask'),
        (['data/image.tif', '--mask', 'data/image.tif'], 'too many for classes'),
        (['data/blank'], 'no mask that was looked at has a pixel with a label; data/blank/mask/2.tif is one'),
        (['data/single'], 'data/single has 1 pair, too few for train and val, test: add some'),
        (['data/many'], 'do not tell images from masks: name them with --image and --mask; it has a/*.tif (1 files)'),
        (['data/apart'], 'must match the same text. These patterns were guessed: name yours with --image and --mask'),
        (['data/image.tif', '--mask', 'data/mask.tif', '--out', 'data/mask.tif'], 'data/mask.tif exists already'),
    ],
)
def test_what_cannot_be_read_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, mask = write_scene(Path('data'))
    for name in ('a', 'b', 'c'):
        write_tif(Path('data/many') / name / '1.tif', mask[None])
    for name in ('blank', 'single'):
        for number in range(3 if name == 'blank' else 1):
            write_tif(Path('data') / name / 'image' / f'{number}.tif', mask[None])
            write_tif(Path('data') / name / 'mask' / f'{number}.tif', np.full_like(mask[None], 255), nodata=255)
    for number, name in enumerate(('image', 'mask')):
        write_tif(Path('data/apart') / name / f'{number}.tif', mask[None])
    assert main(['init', *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count('\n') == 1
    assert not list(Path().glob('*.yaml'))
