"""Data as it comes: what is wrong with it is mended, or said in one line at the start."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from tests.test_examples import TRAINER
from torchgeo_specdm.cli import main
from torchgeo_specdm.datasets import Declared, DescribedDataset, FolderDataset, SceneDataset
from torchgeo_specdm.datasets.splitters import ByPattern
from torchgeo_specdm.pipeline import SpecDMPipeline

DTYPES = ['uint8', 'int8', 'uint16', 'int16', 'uint32', 'int32', 'uint64', 'int64', 'float16', 'float32', 'float64']
# Images and masks; of two dates, the later images too
Arrays = tuple[list[np.ndarray], ...]


def arrays(count: int = 6, bands: int = 3, size: int = 16, dtype: str = 'uint16', classes: int = 3) -> Arrays:
    random = np.random.default_rng(0)
    masks = [random.integers(classes, size=(size, size)) for _ in range(count)]
    return [(30 * mask + random.integers(30, size=(bands, size, size))).astype(dtype) for mask in masks], masks


def two_dates(changed: str) -> Arrays:
    """Six triples, of which those that ``changed`` names show a change in half of their pixels."""
    earlier, _ = arrays(6)
    masks = [np.full((16, 16), 0) for _ in earlier]
    for number in map(int, changed):
        masks[number][:8] = 1
    return earlier, masks, [image + 40 * mask.astype(image.dtype) for image, mask in zip(earlier, masks, strict=True)]


def write(root: Path, data: Arrays) -> None:
    for name, values in zip(('image', 'mask', 'later'), data, strict=False):
        (root / name).mkdir()
        for number, array in enumerate(values):
            np.save(root / name / f'{number}.npy', array)


def declared(data: Arrays, **changes: Any) -> dict[str, Any]:
    names = [f'b{number}' for number in range(len(data[0][0]) if data[0] else 1)]
    base = {'classes': {0: 'soil', 1: 'crop', 2: 'water'}, 'ignore': [9], 'value_range': [0, 100], 'unit': 'counts'}
    return base | {'band_names': names} | changes


def fit(root: Path, data: Arrays, patch_size: int | str = 16, split: dict[str, str] | None = None, **about: Any) -> int:
    """All stages, two steps each."""
    write(root, data)
    splitter = {'class_path': 'torchgeo_specdm.datasets.splitters.BySeed'}
    if split:
        splitter = {'class_path': 'torchgeo_specdm.datasets.splitters.ByPattern', 'init_args': split}  # type: ignore[dict-item]
    given = {'root': str(root), 'image': 'image/*.npy', 'mask': 'mask/*.npy', 'patch_size': patch_size}
    given |= {'later_image': 'later/*.npy'} if len(data) == 3 else {}
    given |= {'declared': declared(data, **about), 'batch_size': 2, 'splitter': splitter}
    models = {'AutoencoderTask': {'width': [8, 8], 'depth': 1}, 'LatentDiffusionTask': {'widths': [32], 'depth': 1}}
    config = {
        'trainer': TRAINER | {'default_root_dir': str(root / 'run'), 'max_steps': 2, 'logger': False},
        'data': {'class_path': 'FolderDataModule', 'init_args': given},
        'stages': [{'model': {'class_path': n, 'init_args': a}} for n, a in (models | {'JudgeTask': {}}).items()],
    }
    (root / 'config.yaml').write_text(yaml.safe_dump(config))
    return main(['fit', '--config', str(root / 'config.yaml')])


def with_gaps() -> Arrays:
    """A pixel, an image and a band that are not finite, a mask without a label and a saturated image."""
    images, masks = arrays(8, dtype='float64')
    images[0][0, 0, 0] = np.nan
    images[1][:] = np.inf
    images[2][1] = -np.inf
    images[3][2, 4, 4] = 1e300
    images[4][:] = np.finfo(np.float32).max / 1e30
    masks[5][:] = 9
    return images, masks


def absent_from_train() -> Arrays:
    images, masks = arrays(6)
    return images, [mask if number == 5 else mask.clip(0, 1) for number, mask in enumerate(masks)]


ONE_EACH = {'train': '0', 'val': '1', 'test': ''}
FIRST_FIVE = {'train': '[0-4]', 'val': '5', 'test': ''}
CHANGE = {'classes': ['no change', 'change'], 'split': FIRST_FIVE}


@pytest.mark.parametrize(
    ('data', 'options'),
    [
        (with_gaps, {'split': {'train': '[0-5]', 'val': '[67]', 'test': ''}}),
        (absent_from_train, {'split': FIRST_FIVE}),
        (lambda: arrays(2), {'split': ONE_EACH}),
        (lambda: arrays(bands=1), {}),
        (lambda: arrays(bands=400), {}),
        (lambda: arrays(size=7), {'patch_size': 'auto'}),
        (lambda: ([np.zeros((3, 16, 16), np.uint8)] * 6, arrays()[1]), {}),
        (lambda: two_dates('05'), CHANGE),
        (lambda: two_dates(''), CHANGE),
        (lambda: two_dates('5'), CHANGE),
    ],
    ids=[
        *('gaps', 'absent from train', 'one sample each', '1 band', '400 bands', '7 px', 'blank'),
        *('empty change masks', 'no change at all', 'change absent from train'),
    ],
)
def test_it_works(tmp_path: Path, data: Callable[[], Arrays], options: dict[str, Any]) -> None:
    made = data()
    assert fit(tmp_path, made, **options) == 0
    sample = SpecDMPipeline.from_pretrained(tmp_path / 'run' / 'checkpoint').sample([0, 1], steps=2)
    assert sample['image'].shape[-3] == len(made[0][0])
    assert sample['image'].isfinite().all()


@pytest.mark.parametrize(
    ('data', 'options', 'message'),
    [
        (lambda: ([], []), {}, 'no file in'),
        (lambda: arrays(1), {}, 'has 1 pair, too few for train and val, test: add some'),
        (lambda: arrays(2), {'split': {'train': '0', 'val': '7'}}, 'none of the 2 pairs in'),
        (
            lambda: (arrays()[0], [np.full((16, 16), 9)] * 6),
            {},
            'no pixel of the 4 train patches looked at has a label',
        ),
        (
            lambda: (arrays()[0], [*arrays()[1][:5], np.full((16, 16), 9)]),
            {'split': FIRST_FIVE},
            'no pixel of the 1 val patches looked at has a label',
        ),
        (lambda: ([np.full((3, 16, 16), np.nan)] * 6, arrays()[1]), {}, 'no pixel of the 4 train patches'),
        (lambda: arrays(classes=1), {'classes': ['soil']}, 'the data has 1 class'),
        (lambda: arrays(size=7), {'patch_size': 7}, 'patch_size 7 px is not divisible by the downsampling factor 4'),
        (lambda: arrays(size=7), {'patch_size': 8}, 'patch_size 8 px is larger than the scene of 7 x 7 px'),
        (lambda: arrays(size=3, bands=2), {'patch_size': 'auto'}, 'the smallest raster is 3 px'),
        (lambda: arrays(classes=4), {}, 'holds 3, which is neither among the classes nor ignored'),
    ],
    ids=[
        'none',
        'one',
        'no val',
        'no labels',
        'no val labels',
        'no values',
        'one class',
        '7',
        '8',
        '3',
        'class unknown',
    ],
)
def test_it_is_refused_in_one_line(
    tmp_path: Path,
    data: Callable[[], Arrays],
    options: dict[str, Any],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert fit(tmp_path, data(), **options) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith('specdm: error')]
    assert message in line
    assert not (tmp_path / 'run' / 'autoencoder').exists()


@pytest.mark.parametrize('dtype', DTYPES)
def test_values_of_any_type_are_served_as_they_are(tmp_path: Path, dtype: str) -> None:
    """The largest value of an integer type included: a saturated pixel is a value."""
    images, masks = arrays(1, size=32, dtype=dtype)
    if dtype[0] in 'ui':
        images[0][0, 0, 0] = np.iinfo(dtype).max
    write(tmp_path, (images, masks))
    about = Declared(**declared((images, masks)))
    folder = FolderDataset(tmp_path, 'image/*.npy', 'mask/*.npy', 16, about, splitter=ByPattern('*', '', ''))
    described = DescribedDataset([{'image': images[0], 'mask': masks[0]}], 16, about)
    for dataset in (folder, described):
        assert dataset.spec.dtype == dtype
        assert np.array_equal(dataset[0]['image'], images[0][:, :16, :16].astype(np.float32))
        assert np.array_equal(dataset[3]['mask'], masks[0][16:, 16:])


@pytest.mark.parametrize('bad', [np.nan, np.inf, 1e300])
def test_what_is_not_finite_has_neither_value_nor_label(tmp_path: Path, bad: float) -> None:
    images, masks = arrays(1, size=64, dtype='float64')
    images[0][1, 3, 5] = bad
    write(tmp_path, (images, masks))
    about = Declared(**declared((images, masks)))
    described = DescribedDataset([{'image': images[0], 'mask': torch.from_numpy(masks[0])}], 64, about)
    scenes = [SceneDataset(tmp_path, 'image/0.npy', 'mask/0.npy', 16, about, split=s) for s in SceneDataset.splits]
    found = [described[0]] + [scene[i] for scene in scenes for i in range(len(scene)) if scene.origins[i] == (0, 0)]
    assert len(found) == 2
    for sample in found:
        assert sample['image'].isfinite().all()
        assert sample['image'][1, 3, 5] == 0
        assert sample['mask'][3, 5] == 255
        assert sample['image'][0, 3, 5] == images[0][0, 3, 5].astype(np.float32)
        assert (sample['mask'][:8, :8] == 255).sum() == 1
