import sys
from itertools import combinations

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from torchgeo_specdm.datasets import indian_pines
from torchgeo_specdm.datasets.indian_pines import IGNORE_INDEX, IndianPines
from torchgeo_specdm.errors import SpecDMError

tensorly = pytest.importorskip('tensorly.datasets', reason="the scene needs the extra 'demo'")


@pytest.fixture(scope='module')
def scene() -> tuple[np.ndarray, np.ndarray]:
    """The scene as tensorly gives it: ``(145, 145, 200)`` and labels 0-16."""
    bunch = tensorly.load_indian_pines()
    return np.asarray(bunch.tensor), np.asarray(bunch.ticks[0]).astype(int)


def painted(dataset: IndianPines) -> np.ndarray:
    """The scene's pixels that the patches of a dataset touch, drawn patch by patch."""
    pixels = np.zeros((145, 145), int)
    for row, col in dataset.origins:
        pixels[row : row + dataset.patch_size, col : col + dataset.patch_size] += 1
    return pixels


@pytest.mark.parametrize('patch_size', [16, 32])
def test_splits_share_no_pixel(patch_size: int) -> None:
    pixels = [painted(IndianPines(split, patch_size)) > 0 for split in IndianPines.splits]
    assert all(p.any() for p in pixels)
    assert not any((a & b).any() for a, b in combinations(pixels, 2))


@pytest.mark.parametrize('split', ['val', 'test'])
@pytest.mark.parametrize('patch_size', [16, 32])
def test_each_held_out_pixel_is_labelled_once(
    split: str, patch_size: int, scene: tuple[np.ndarray, np.ndarray]
) -> None:
    dataset = IndianPines(split, patch_size)
    labels = scene[1][painted(dataset) > 0]
    once = np.bincount(labels, minlength=17)[1:]
    seen = torch.stack([sample['mask'] for sample in (dataset[i] for i in range(len(dataset)))])
    assert torch.bincount(seen[seen != IGNORE_INDEX], minlength=16).tolist() == once.tolist()
    assert list(dataset.class_counts().values()) == once.tolist()


@pytest.mark.parametrize('split', IndianPines.splits)
def test_patches_are_the_scene(split: str, scene: tuple[np.ndarray, np.ndarray]) -> None:
    dataset = IndianPines(split)
    image, labels = scene
    for index in (0, len(dataset) - 1):
        row, col = dataset.origins[index]
        window = slice(row, row + 32), slice(col, col + 32)
        sample = dataset[index]
        assert sample['image'].dtype == torch.float32
        assert sample['mask'].dtype == torch.int64
        assert sample['image'].shape == dataset.spec.image_shape
        assert sample['mask'].shape == dataset.spec.mask_shape
        assert np.array_equal(sample['image'].numpy(), image[window].transpose(2, 0, 1))
        mask = sample['mask'].numpy()
        labelled = mask != IGNORE_INDEX
        assert np.array_equal(mask[labelled] + 1, labels[window][labelled])


def test_splits_are_as_documented() -> None:
    datasets = [IndianPines(split) for split in IndianPines.splits]
    counts = [dataset.class_counts() for dataset in datasets]
    for name in IndianPines.classes:
        numbers = [count[name] for count in counts]
        assert numbers[0] > 0 < numbers[2], name
        # The docstring's table
        assert [name, *map(str, numbers)] in [line.split() for line in (IndianPines.__doc__ or '').splitlines()]
    assert [len(dataset) for dataset in datasets] == [213, 2, 16]
    assert set(IndianPines.classes) - set(IndianPines.test_classes()) == {
        'Alfalfa',
        'Grass-pasture-mowed',
        'Oats',
        'Stone-Steel-Towers',
    }


def test_spec_covers_the_scene(scene: tuple[np.ndarray, np.ndarray]) -> None:
    spec = IndianPines().spec
    low, high = spec.value_range
    assert low <= scene[0].min() <= scene[0].max() <= high
    assert spec.num_bands == 200
    assert len(set(spec.palette or ())) == spec.num_classes == 16
    assert {'b104', 'b108', 'b150', 'b163', 'b220'}.isdisjoint(spec.bands)
    # Up to the water bands tensorly's list of wavelengths is aligned with its bands
    assert spec.wavelengths is not None
    listed = tensorly.load_indian_pines().ticks[1]
    assert np.abs(np.subtract(spec.wavelengths, listed)[:103]).max() < 1


def test_band_statistics(scene: tuple[np.ndarray, np.ndarray]) -> None:
    dataset = IndianPines()
    pixels = scene[0][painted(dataset) > 0]
    mean, std = dataset.band_statistics()
    np.testing.assert_allclose(mean, pixels.mean(0), rtol=1e-4)
    np.testing.assert_allclose(std, pixels.std(0), rtol=1e-3)


def test_plot_and_transforms() -> None:
    dataset = IndianPines(transforms=lambda sample: sample | {'prediction': sample['mask']})
    figure = dataset.plot(dataset[0], suptitle='Indian Pines')
    assert [axis.get_title() for axis in figure.axes] == ['Image', 'Mask', 'Prediction']
    plt.close(figure)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'split': 'all'}, 'train, val, test'),
        ({'patch_size': 64, 'split': 'val'}, '64 px'),
        ({'overlap': 1}, 'overlap'),
    ],
)
def test_bad_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(SpecDMError, match=message):
        IndianPines(**arguments)  # type: ignore[arg-type]
    with pytest.raises(IndexError):
        IndianPines()[10_000]


def test_missing_tensorly(monkeypatch: pytest.MonkeyPatch) -> None:
    indian_pines._scene.cache_clear()
    monkeypatch.setitem(sys.modules, 'tensorly.datasets', None)
    with pytest.raises(SpecDMError, match=r"pip install 'torchgeo-specdm\[demo\]'"):
        IndianPines()
