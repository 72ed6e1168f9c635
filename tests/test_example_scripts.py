"""The scripts in examples/ that show other pipelines run, in small; those of TorchGeo's are in test_examples.py."""

import dataclasses
import importlib.util
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch
from PIL import Image

from tests.conftest import tiny_pipeline, tiny_spec
from tests.data.oscd.data import write_oscd
from tests.fake import FakePairs
from tests.rasters import write_tif
from torchgeo_specdm.datasets import OSCD, IndianPines
from torchgeo_specdm.functional.dihedral import ORIENTATIONS, dihedral
from torchgeo_specdm.spec import DatasetSpec

EXAMPLES = Path(__file__).parents[1] / 'examples'


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    plt.close('all')


@pytest.fixture(scope='module')
def pines(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint for patches of Indian Pines that is untrained, so that it takes no time."""
    return small(IndianPines(patch_size=32).spec, tmp_path_factory.mktemp('pines'))


def small(spec: DatasetSpec, folder: Path) -> str:
    tiny_pipeline(spec).save_pretrained(folder / 'checkpoint')
    return str(folder / 'checkpoint')


def run(name: str, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that the script leaves."""
    monkeypatch.setattr('sys.argv', [name, *arguments])
    return runpy.run_path(str(EXAMPLES / name), run_name='__main__')


def test_a_plain_loop(pines: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = '--checkpoint', pines, '--ratio', '0.5', '--steps', '2'
    names = run('pytorch_loop.py', *arguments, monkeypatch=monkeypatch)
    assert names['step'] == 2
    assert torch.isfinite(names['loss'])
    assert 0 <= float(names['score'].compute()) <= 1
    assert int(names['train'].is_synthetic.sum()) == (len(names['real']) + 1) // 2
    assert 'mIoU on real test patches' in capsys.readouterr().out


def test_a_loop_of_lightning(pines: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = '--checkpoint', pines, '--ratio', '0.5', '--max-steps', '2', '--out', str(tmp_path / 'runs')
    names = run('lightning_loop.py', *arguments, monkeypatch=monkeypatch)
    assert names['trainer'].global_step == 2
    assert list(tmp_path.rglob('*.ckpt'))
    # A synthetic patch counts half, and a patch without a label not at all
    module = names['trainer'].lightning_module.eval()
    batch = torch.utils.data.default_collate([names['train'][i] for i in range(4)])
    batch['synthetic'] = torch.tensor([True, False, False, False])
    batch['mask'][3] = 255
    with torch.inference_mode():
        each, mean = module.loss(batch), module.training_step(batch)
    assert float(each[3]) == 0
    torch.testing.assert_close(mean, (0.5 * each[0] + each[1] + each[2]) / 3.5)


def test_utilities_of_torch(pines: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    names = run('data_utilities.py', '--checkpoint', pines, '--n', '24', monkeypatch=monkeypatch)
    synthetic, both, some, held_out = (names[name] for name in ('synthetic', 'both', 'some', 'held_out'))
    real = len(both) - 24
    assert torch.equal(both[real + 7]['image'], synthetic[7]['image'])
    assert torch.equal(some[2]['mask'], synthetic[6]['mask'])
    assert torch.equal(held_out[0]['image'], synthetic[held_out.indices[0]]['image'])
    assert set(held_out.indices).isdisjoint(names['fitted'].indices)
    printed = dict(line.split(': ') for line in capsys.readouterr().out.splitlines() if ': ' in line and 'them' in line)
    assert printed['ConcatDataset'] == f'{real + 24} samples, 24 of them synthetic'
    assert printed['Subset'] == '8 samples, 8 of them synthetic'
    assert printed['random_split'] == '6 samples, 6 of them synthetic'
    # 256 draws of a fair coin are within five standard deviations
    drawn = int(printed['WeightedRandomSampler'].split()[2])
    assert abs(drawn - 128) < 40


def test_pairs(pines: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run('pairs.py', pines, '--n', '4', monkeypatch=monkeypatch)
    assert 'above 4 real train pairs' in capsys.readouterr().out
    # Two rows of images and two of masks, four columns
    picture = Image.open('pairs.png')
    assert picture.width == pytest.approx(picture.height, rel=0.05)


def test_augmentations_of_one_date(pines: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run('augmentations.py', '--checkpoint', pines, monkeypatch=monkeypatch)
    assert Image.open('augmented.png').width > 500
    for samples in names['groups'].values():
        assert len({sample['image'].numpy().tobytes() for sample in samples}) > 1
        assert {sample['mask'].dtype for sample in samples} == {torch.int64}
    image = torch.rand(8, 3, 16, 16)
    turned = names['turns']()({'image': image, 'mask': (image[:, 0] > 0.5).long()})
    assert torch.equal(turned['mask'], (turned['image'][:, 0] > 0.5).long())
    assert not torch.equal(turned['image'], image)


def test_augmentations_of_two_dates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_oscd(tmp_path / 'oscd', test_cities=())
    checkpoint = small(OSCD(tmp_path / 'oscd', patch_size=32).spec, tmp_path)
    arguments = '--oscd', str(tmp_path / 'oscd'), '--checkpoint', checkpoint
    names = run('augmentations.py', *arguments, monkeypatch=monkeypatch)
    assert Image.open('augmented.png').width > 500
    assert names['mixed'].spec.task == 'change'
    for samples in names['groups'].values():
        assert len({sample['image'].numpy().tobytes() for sample in samples}) > 1
    # Both dates and their mask are turned alike, each pair of the batch another way
    first = torch.rand(16, 1, 3, 16, 16)
    batch = {'image': torch.cat([first, first + 1], 1), 'mask': (first[:, 0, :1] > 0.5).long()}
    turned = names['TwoDates'](names['turns']())(batch)
    assert turned['image'].shape == batch['image'].shape
    torch.testing.assert_close(turned['image'][:, 1], turned['image'][:, 0] + 1)
    assert torch.equal(turned['mask'], (turned['image'][:, 0, :1] > 0.5).long())
    kinds = {way for pair, other in zip(batch['image'], turned['image'], strict=True) for way in ways(pair, other)}
    assert len(kinds) > 1


def ways(image: torch.Tensor, turned: torch.Tensor) -> list[int]:
    """The orientations that make one image of the other."""
    # Quarter turns are interpolated, so that the last digits of a value move
    return [way for way in range(ORIENTATIONS) if torch.allclose(dihedral(image, way), turned, atol=1e-4)]


@pytest.mark.skipif(not importlib.util.find_spec('terratorch'), reason='needs terratorch; it takes minutes to import')
def test_terratorch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = dataclasses.replace(tiny_spec('segmentation'), patch_size=32)
    for split in ('train', 'val'):
        pairs = FakePairs(spec, split, 8)
        for number in range(len(pairs)):
            write_tif(tmp_path / split / 'image' / f'{number}.tif', pairs[number]['image'].numpy())
            write_tif(tmp_path / split / 'mask' / f'{number}.tif', pairs[number]['mask'].numpy()[None].astype('uint8'))
    arguments = str(tmp_path), small(spec, tmp_path), '--ratio', '0.5', '--max-steps', '3', '--out', str(tmp_path)
    names = run('terratorch_mixed.py', *arguments, monkeypatch=monkeypatch)
    trainer = names['trainer']
    assert trainer.global_step == 3
    assert trainer.datamodule.train_dataset.is_synthetic.tolist().count(True) == 4
    assert {'train/loss', 'val/loss'} <= {*trainer.callback_metrics} | {*trainer.logged_metrics}
    # Real and synthetic values reach the task in one unit; without a training, there is no split to normalise for
    trainer.training = True
    batch = trainer.datamodule.on_after_batch_transfer(next(iter(trainer.datamodule.train_dataloader())), 0)
    assert sorted(batch) == ['image', 'mask']
    assert batch['image'].max() <= 65535 / spec.scale
