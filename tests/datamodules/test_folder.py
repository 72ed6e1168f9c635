from pathlib import Path

import pytest
import torch
import yaml

from tests.rasters import write_folder
from torchgeo_specdm.datamodules import FolderDataModule, GeneratorDataModule
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.evaluation.data import read_datamodule


def write(folder: Path, **arguments: object) -> Path:
    """A configuration of 10 pairs of files, as a user writes it."""
    write_folder(folder / 'data', [(16, 24)] * 10)
    given = {
        'root': str(folder / 'data'),
        'image': 'image/*.tif',
        'mask': 'mask/*.tif',
        'patch_size': 16,
        'declared': {'classes': {0: 'soil', 1: 'crop', 2: 'water'}, 'value_range': [0, 5000], 'bands': ['red', 842]},
        'splitter': {
            'class_path': 'torchgeo_specdm.datasets.splitters.BySeed',
            'init_args': {'val': 0.2, 'test': 0.1},
        },
    }
    path = folder / 'config.yaml'
    path.write_text(yaml.safe_dump({'data': {'class_path': 'FolderDataModule', 'init_args': given | arguments}}))
    return path


def test_yaml_alone_describes_a_folder(tmp_path: Path) -> None:
    module = read_datamodule(write(tmp_path))
    assert isinstance(module, FolderDataModule)
    raw = GeneratorDataModule(module)
    raw.setup('fit')
    module.setup('test')
    assert (raw.spec.bands, raw.spec.classes) == (('red', 'nir'), ('soil', 'crop', 'water'))
    assert [len(module.train_dataset), len(module.val_dataset), len(module.test_dataset)] == [14, 4, 2]
    assert module.train_batch_size == 14


def test_batches_are_normalised_by_the_train_split(tmp_path: Path) -> None:
    module = read_datamodule(write(tmp_path))
    module.setup('fit')
    images = torch.stack([module.train_dataset[i]['image'] for i in range(14)])
    normalised = module.aug({'image': images, 'mask': torch.zeros(14, 16, 16)})['image']
    assert normalised.mean((0, 2, 3)).abs().max() < 1e-3
    torch.testing.assert_close(normalised.std((0, 2, 3)), torch.ones(2), rtol=1e-2, atol=0)


@pytest.mark.parametrize('name', ['images', 'patchsize'])
def test_a_misspelt_argument_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SpecDMError, match=name):
        read_datamodule(write(tmp_path, **{name: 1}))
