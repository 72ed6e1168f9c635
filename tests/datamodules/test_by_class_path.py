"""Datasets that this package has never heard of, described in YAML alone."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from torchgeo.datasets import LEVIRCD, ChaBuD, LEVIRCDPlus, LoveDA

from tests.data.torchgeo.data import write_chabud, write_levircd, write_levircdplus, write_loveda
from torchgeo_specdm.cli import main
from torchgeo_specdm.datamodules import GeneratorDataModule, TorchGeoDataModule
from torchgeo_specdm.datasets.ground import ground, overlapping
from torchgeo_specdm.errors import RasterError, SpecDMError
from torchgeo_specdm.evaluation.data import read_datamodule
from torchgeo_specdm.pipeline import SpecDMPipeline

RGB = {'band_names': ['red', 'green', 'blue'], 'unit': 'digital numbers', 'value_range': [0, 255], 'dtype': 'uint8'}
LOVEDA = {
    'source': 'torchgeo.datasets.LoveDA',
    'arguments': {'scene': ['urban', 'rural']},
    'splits': {'train': 'train', 'val': 'val'},
    'patch_size': 16,
    'declared': RGB
    | {
        'classes': dict(enumerate(['background', 'building', 'road', 'water', 'barren', 'forest', 'agriculture'], 1)),
        'ignore': [0],
        'name': 'LoveDA',
        'gsd': 0.3,
    },
}
LEVIRCD_ = {
    'source': 'torchgeo.datasets.LEVIRCD',
    'patch_size': 16,
    'declared': RGB | {'classes': ['no change', 'change'], 'name': 'LEVIR-CD'},
}
CHABUD = {
    'source': 'torchgeo.datasets.ChaBuD',
    'splits': {'train': 'train', 'val': 'val'},
    'patch_size': 16,
    'declared': {
        'classes': ['no change', 'burned area'],
        'name': 'ChaBuD',
        'band_names': list(ChaBuD.all_bands),
        'unit': 'reflectance x 10000',
        'value_range': [0, 10000],
        'dtype': 'uint16',
    },
}
THREE_KEYS = {
    'source': 'tests.fake.ThreeKeys',
    'patch_size': 16,
    'image': 'image1',
    'later_image': 'image2',
    'splitter': {
        'class_path': 'torchgeo_specdm.datasets.splitters.BySeed',
        'init_args': {'val': 0.25, 'test': 0.25},
    },
    'declared': RGB | {'classes': ['no change', 'change'], 'value_range': [0, 1], 'dtype': 'float32'},
}
BY_SEED = {'class_path': 'torchgeo_specdm.datasets.splitters.BySeed', 'init_args': {'val': 0.5, 'test': 0}}


def configuration(folder: Path, given: dict[str, Any], **changes: Any) -> Path:
    arguments = given | changes
    if 'torchgeo' in arguments['source']:
        arguments['arguments'] = arguments.get('arguments', {}) | {'root': str(folder / 'data')}
    path = folder / 'config.yaml'
    path.write_text(yaml.safe_dump({'data': {'class_path': 'TorchGeoDataModule', 'init_args': arguments}}))
    return path


def opened(folder: Path, given: dict[str, Any], **changes: Any) -> TorchGeoDataModule:
    module = read_datamodule(configuration(folder, given, **changes))
    assert isinstance(module, TorchGeoDataModule)
    module.setup('fit')
    return module


def test_loveda_is_segmentation(tmp_path: Path) -> None:
    write_loveda(tmp_path / 'data')
    module = opened(tmp_path, LOVEDA)
    raw = LoveDA(str(tmp_path / 'data'))
    assert (len(module.train_dataset), len(module.val_dataset)) == (8 * 4, 4 * 4)
    for index, (row, col) in enumerate([(0, 0), (0, 16), (16, 0), (16, 16)], 4):
        window = (..., slice(row, row + 16), slice(col, col + 16))
        sample = module.train_dataset[index]
        assert torch.equal(sample['image'], raw[1]['image'][window])
        mask = raw[1]['mask'][window]
        assert torch.equal(sample['mask'], torch.where(mask == 0, 255, mask - 1))
    spec = module.train_dataset.spec
    assert (spec.task, spec.bands, spec.dtype, spec.gsd) == ('segmentation', ('red', 'green', 'blue'), 'uint8', 0.3)
    assert spec.classes[0] == 'background'
    module.setup('test')
    assert module.test_dataset is None


def test_levircd_is_change_detection_with_bands_chosen(tmp_path: Path) -> None:
    write_levircd(tmp_path / 'data')
    module = opened(tmp_path, LEVIRCD_, declared=LEVIRCD_['declared'] | {'bands': ['blue', 'red']})
    module.setup('test')
    raw = LEVIRCD(str(tmp_path / 'data'))
    sample = module.train_dataset[1]
    assert torch.equal(sample['image'], raw[0]['image'][:, [2, 0], :16, 16:])
    assert torch.equal(sample['mask'], raw[0]['mask'][:, :16, 16:])
    assert [len(d) for d in (module.train_dataset, module.val_dataset, module.test_dataset)] == [24, 8, 8]
    GeneratorDataModule(module).setup('fit')


def test_levircdplus_has_no_val_split(tmp_path: Path) -> None:
    write_levircdplus(tmp_path / 'data')
    given = LEVIRCD_ | {'source': 'torchgeo.datasets.LEVIRCDPlus', 'splits': {'train': 'train', 'test': 'test'}}
    module = opened(tmp_path, given, splitter=BY_SEED)
    module.setup('test')
    parts = [module.train_dataset, module.val_dataset, module.test_dataset]
    raw = {split: LEVIRCDPlus(str(tmp_path / 'data'), split=split) for split in ('train', 'test')}
    for part, served in zip(parts, [raw['train'], raw['train'], raw['test']], strict=True):
        sample = served[part.numbers[0]]
        assert torch.equal(part[3]['image'], sample['image'][..., 16:, 16:])
        assert torch.equal(part[3]['mask'], sample['mask'][..., 16:, 16:])
    assert sorted(parts[0].numbers + parts[1].numbers) == list(range(6))
    assert parts[0].spec.task == 'change'
    # The datamodule deals them itself, by a seed
    own = opened(tmp_path, LEVIRCD_, source='torchgeo.datamodules.LEVIRCDPlusDataModule')
    assert len(own.train_dataset) + len(own.val_dataset) == 6 * 4


def test_chabud_is_change_detection_in_twelve_bands(tmp_path: Path) -> None:
    pytest.importorskip('h5py', reason='ChaBuD is HDF5')
    write_chabud(tmp_path / 'data')
    module = opened(tmp_path, CHABUD)
    raw = ChaBuD(str(tmp_path / 'data'))
    # A place without a first date is left out by the class
    assert [len(d) for d in (module.train_dataset, module.val_dataset)] == [7 * 4, 2 * 4]
    sample = module.train_dataset[6]
    assert torch.equal(sample['image'], raw[1]['image'][..., 16:, :16])
    assert torch.equal(sample['mask'], raw[1]['mask'][..., 16:, :16])
    spec = module.train_dataset.spec
    assert (spec.task, spec.bands, spec.image_shape) == ('change', ChaBuD.all_bands, (2, 12, 16, 16))
    module.setup('test')
    assert module.test_dataset is None
    GeneratorDataModule(module).setup('fit')


def test_a_datamodule_serves_what_its_datasets_serve(tmp_path: Path) -> None:
    write_levircd(tmp_path / 'data')
    dataset = opened(tmp_path, LEVIRCD_)
    module = opened(tmp_path, LEVIRCD_, source='torchgeo.datamodules.LEVIRCDDataModule')
    for split in ('train_dataset', 'val_dataset'):
        mine, other = getattr(module, split), getattr(dataset, split)
        assert len(mine) == len(other)
        assert all(torch.equal(mine[i]['image'], other[i]['image']) for i in range(len(mine)))
    assert module.train_dataset.windows == dataset.train_dataset.windows


def test_a_dataset_without_splits_is_dealt_without_common_ground(tmp_path: Path) -> None:
    module = opened(tmp_path, THREE_KEYS)
    module.setup('test')
    parts = [module.train_dataset, module.val_dataset, module.test_dataset]
    # Two overlapping patches of each sample of 16 x 24 px
    assert [len(part) for part in parts] == [8, 4, 4]
    for number, part in enumerate(parts):
        assert part[0]['image'].shape == part.spec.image_shape
        assert part[0]['mask'].shape == part.spec.mask_shape
        assert not any(overlapping(ground(part), ground(other), 16).any() for other in parts[:number])


def test_a_missing_split_is_dealt_from_train(tmp_path: Path) -> None:
    write_levircd(tmp_path / 'data')
    splits = {'train': 'train', 'test': 'test'}
    module = opened(tmp_path, LEVIRCD_, splits=splits, splitter=BY_SEED)
    module.setup('test')
    parts = [module.train_dataset, module.val_dataset, module.test_dataset]
    assert [len(set(part.numbers)) for part in parts] == [3, 3, 2]
    assert not {place[0] for place in parts[0].windows} & {place[0] for part in parts[1:] for place in part.windows}


def test_a_generator_is_fitted_from_yaml(tmp_path: Path) -> None:
    write_loveda(tmp_path / 'data')
    config = yaml.safe_load(configuration(tmp_path, LOVEDA, batch_size=4).read_text())
    trainer = {'default_root_dir': str(tmp_path / 'run'), 'accelerator': 'cpu', 'limit_val_batches': 2}
    trainer |= {'max_steps': 2, 'num_sanity_val_steps': 0, 'logger': False, 'enable_progress_bar': False}
    config['trainer'] = trainer
    small = {'class_path': 'AutoencoderTask', 'init_args': {'width': [8, 8], 'depth': 1}}
    denoiser = {'class_path': 'LatentDiffusionTask', 'init_args': {'widths': [32], 'depth': 1}}
    config['stages'] = [{'model': small}, {'model': denoiser}]
    (tmp_path / 'config.yaml').write_text(yaml.safe_dump(config))
    assert main(['fit', '--config', str(tmp_path / 'config.yaml')]) == 0
    pipeline = SpecDMPipeline.from_pretrained(tmp_path / 'run' / 'checkpoint')
    sample = pipeline.sample([0], steps=2)
    assert pipeline.spec.name == 'LoveDA'
    assert torch.equal(sample['image'], sample['image'].round().clamp(0, 255))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'source': 'torchgeo.datasets.LoveDa'}, 'torchgeo.datasets.LoveDA is one'),
        ({'source': 'LoveDA'}, 'torchgeo.datasets.LoveDA is one'),
        ({'source': 'no_such_torchgeo.LoveDA'}, 'cannot be imported'),
        ({'source': 'torchgeo.datasets.NAIP'}, 'no class path of a NonGeoDataset'),
        ({'arguments': {'scenes': ['urban']}}, "arguments of LoveDA: got an unexpected keyword argument 'scenes'"),
        ({'splits': {'train': 'training', 'val': 'val'}}, "LoveDA refuses the split 'training'"),
        ({'splits': {'train': 'train'}}, 'no val split of LoveDA is declared'),
        ({'splits': {'val': 'val'}}, "what the class calls 'train'"),
        ({'splits': {'train': 'train', 'dev': 'val'}}, 'splits names dev'),
        ({'splits': {'train': 'train', 'val': 'val'}, 'splitter': BY_SEED}, 'deals samples to val, which LoveDA has'),
        ({'patch_size': 33}, r'sample 0 of LoveDA: patch_size 33 px is larger'),
        ({'mask': 'label'}, "sample 0 of LoveDA has no 'label'; it has image, mask"),
        ({'declared': LOVEDA['declared'] | {'unit': ''}}, 'does not say what its values are: declare the unit'),
        ({'declared': LOVEDA['declared'] | {'band_names': None}}, 'no name: declare band_names'),
        ({'declared': LOVEDA['declared'] | {'dtype': 'uint7'}}, 'dtype'),
    ],
)
def test_what_cannot_work_is_said_in_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_loveda(tmp_path / 'data')
    with pytest.raises(SpecDMError, match=message):
        opened(tmp_path, LOVEDA, **changes)


def test_a_library_that_a_class_needs_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, 'h5py', None)
    assert main(['init', 'torchgeo.datasets.ChaBuD', '--arg', f'root={tmp_path}', '--out', str(tmp_path / 'a')]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('specdm: error: ChaBuD lacks a library: h5py is not installed')
    assert 'pip install h5py' in line


def test_samples_must_be_alike_and_hold_declared_values(tmp_path: Path) -> None:
    write_loveda(tmp_path / 'data')
    with pytest.raises(RasterError, match=r'sample \d of LoveDA holds 0, which is neither among the classes nor'):
        opened(tmp_path, LOVEDA, declared=LOVEDA['declared'] | {'ignore': []})
    for path in (tmp_path / 'data' / 'Train').glob('*/*_png/*1.png'):
        with Image.open(path) as image:
            image.crop((0, 0, 32, 24)).save(path)
    with pytest.raises(RasterError, match=r'sample \d of LoveDA has images \[\(3, 24, 32\)\], the first sample'):
        opened(tmp_path, LOVEDA)
