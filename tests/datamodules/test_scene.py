from pathlib import Path

import torch
import yaml

from tests.datasets.test_scene import write
from torchgeo_specdm.datamodules import GeneratorDataModule, SceneDataModule
from torchgeo_specdm.evaluation.data import read_datamodule


def test_yaml_alone_describes_a_scene(tmp_path: Path) -> None:
    write(tmp_path)
    declared = {'classes': ['soil', 'crop', 'water'], 'value_range': [0, 5000], 'exclude': [[500, 600]]}
    given = {'root': str(tmp_path), 'image': 'image.tif', 'mask': 'mask.tif', 'patch_size': 16, 'declared': declared}
    given['splitter'] = {'class_path': 'torchgeo_specdm.datasets.areas.Blocks', 'init_args': {'test': 0.3, 'gap': 2}}
    path = tmp_path / 'config.yaml'
    path.write_text(yaml.safe_dump({'data': {'class_path': 'SceneDataModule', 'init_args': given}}))
    module = read_datamodule(path)
    assert isinstance(module, SceneDataModule)
    raw = GeneratorDataModule(module)
    raw.setup('fit')
    module.setup('test')
    assert raw.spec.bands == ('blue', 'red', 'nir')
    assert len(module.test_dataset) > len(module.val_dataset) > 0
    images = torch.stack(
        [sample['image'] for sample in (module.train_dataset[i] for i in range(len(module.train_dataset)))]
    )
    normalised = module.aug({'image': images})['image']
    assert normalised.mean((0, 2, 3)).abs().max() < 1e-3
