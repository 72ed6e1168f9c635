import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import torchgeo_specdm

LAZY = ('datamodules', 'datasets', 'tasks')
HEAVY = "{'torch', 'torchgeo', 'lightning', 'numpy', 'rasterio', 'diffusers'} & set(sys.modules)"


@pytest.mark.parametrize(
    'action',
    [
        'import torchgeo_specdm; dir(torchgeo_specdm)',
        'from torchgeo_specdm.cli import main; main(["--help"])',
        'from torchgeo_specdm.cli import main; main(["sample", "--help"])',
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


# What a machine that only trains may lack
ABSENT = ('torchgeo', 'rasterio', 'kornia', 'segmentation_models_pytorch', 'jsonargparse', 'platformdirs')


def test_a_generator_is_trained_and_sampled_without_torchgeo(tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules.update(dict.fromkeys({ABSENT!r}))

from pathlib import Path

import numpy as np
from lightning.pytorch import Trainer

from torchgeo_specdm.datamodules import PackedDataModule
from torchgeo_specdm.datasets.pack import Scene, write_pack
from torchgeo_specdm.pipeline import SpecDMPipeline
from torchgeo_specdm.spec import DatasetSpec
from torchgeo_specdm.tasks import AutoencoderTask, LatentDiffusionTask

spec = DatasetSpec('two bands', 'segmentation', ('a', 'b'), ('one', 'other'), patch_size=16, dtype='uint16')
drawn = np.random.default_rng(0)
images = drawn.integers(1000, 2000, size=(3, 1, 2, 32, 48)).astype(np.uint16)
scenes = [Scene(str(number), 'train', image, image[0, 0] % 2) for number, image in enumerate(images)]
write_pack('pack', scenes, spec)
for task in (
    AutoencoderTask(latent_channels=(2, 1), width=(16, 16), depth=1),
    LatentDiffusionTask(widths=(32, 32), depth=1),
):
    data = PackedDataModule('pack', patch_size=16, val_scenes=['2'], batch_size=4)
    trainer = Trainer(accelerator='cpu', max_steps=3, logger=False, enable_progress_bar=False)
    trainer.fit(task, task.wrap_datamodule(data, Path()))
made = SpecDMPipeline.from_pretrained('checkpoint').sample(range(2), steps=2)
assert made['image'].shape == (2, 2, 16, 16)
"""
    done = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True, timeout=180)
    assert not done.returncode, done.stderr


@pytest.mark.parametrize('package', ['torchgeo_specdm', *(f'torchgeo_specdm.{n}' for n in LAZY)])
def test_lazy_names_are_those_that_type_checkers_see(package: str) -> None:
    module = importlib.import_module(package)
    source = ast.parse(Path(str(module.__file__)).read_text(encoding='utf-8'))
    homes = {
        name.name: node.module
        for node in ast.walk(source)
        if isinstance(node, ast.ImportFrom) and node.module != 'torchgeo_specdm.lazy' and node.module != 'typing'
        for name in node.names
    }
    assert sorted(homes) == sorted(set(module.__all__) - {'__version__'})
    for name, home in homes.items():
        assert getattr(module, name) is getattr(importlib.import_module(str(home)), name)
