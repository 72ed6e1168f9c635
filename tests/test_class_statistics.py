"""Statistics of classes agree with numpy over the pixels themselves."""

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from tests.conftest import tiny_spec
from torchgeo_specdm.class_statistics import (
    ClassStatistics,
    _broken,
    absent_classes,
    plot_shares,
    plot_spectra,
    spectral_angles,
)
from torchgeo_specdm.spec import DatasetSpec


def shown(spec: DatasetSpec, seed: int, classes: list[int]) -> tuple[ClassStatistics, np.ndarray, np.ndarray]:
    """Statistics of three random samples, their pixels ``(T, C, N)`` and labels ``(N,)``."""
    generator = torch.Generator().manual_seed(seed)
    statistics, images, masks = ClassStatistics(spec), [], []
    for _ in range(3):
        image = 1000 + 500 * torch.rand(spec.image_shape, generator=generator)
        mask = torch.tensor(classes)[torch.randint(len(classes), spec.mask_shape, generator=generator)]
        statistics.update({'image': image, 'mask': mask})
        images.append(image.view(spec.num_dates, spec.num_bands, -1).numpy())
        masks.append(mask.flatten().numpy())
    return statistics, np.concatenate(images, -1), np.concatenate(masks)


@pytest.mark.parametrize('task', ['segmentation', 'change'])
def test_agrees_with_numpy(task: str) -> None:
    spec = dataclasses.replace(tiny_spec(task), ignore_index=255)
    statistics, pixels, labels = shown(spec, 0, [0, 1, 255])
    for label in (0, 1):
        chosen = pixels[..., labels == label]
        assert statistics.pixels[label] == chosen.shape[-1]
        assert float(statistics.shares[label]) == pytest.approx((labels == label).sum() / (labels != 255).sum())
        np.testing.assert_allclose(statistics.mean[:, label], chosen.mean(-1), rtol=1e-6)
        np.testing.assert_allclose(statistics.std[:, label], chosen.std(-1), rtol=1e-5)


def test_sums_from_elsewhere() -> None:
    statistics, pixels, labels = shown(tiny_spec('change'), 0, [0, 1])
    chosen = [pixels[..., labels == label].astype(float) for label in (0, 1)]
    sums, squares = (torch.from_numpy(np.stack([(c**power).sum(-1) for c in chosen], 1)) for power in (1, 2))
    count = torch.tensor([c.shape[-1] for c in chosen])
    built = ClassStatistics.from_sums(statistics.spec, count, sums, squares)
    for name in ('shares', 'mean', 'std'):
        torch.testing.assert_close(getattr(built, name), getattr(statistics, name))


def test_absent_classes_have_no_spectrum() -> None:
    spec = tiny_spec('segmentation')
    first, second = shown(spec, 0, [0, 1])[0], shown(spec, 1, [1, 2])[0]
    assert first.mean[0, 2].isnan().all()
    angles = spectral_angles(first, second)[0]
    assert angles.isnan().tolist() == [True, False, True, True]
    u, v = first.mean[0, 1].numpy(), second.mean[0, 1].numpy()
    expected = np.arccos(u @ v / np.linalg.norm(u) / np.linalg.norm(v))
    assert float(angles[1]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize('task', ['segmentation', 'change'])
@pytest.mark.parametrize('count', [2, 3])
def test_one_panel_per_class_that_occurs_and_date(task: str, count: int) -> None:
    spec = tiny_spec(task)
    groups = {f'group {seed}': shown(spec, seed, [0, 1] if seed else [0])[0] for seed in range(count)}
    figure = plot_spectra(groups)
    titles = [axis.get_title() for axis in figure.axes if axis.axison]
    names = [name for name in spec.classes[:2] for _ in range(spec.num_dates)]
    assert len(titles) == len(names)
    for title, name in zip(titles, names, strict=True):
        assert title.startswith(name)
        # An angle for each further group, unless the first has no such class
        assert title.count(' / ') == (count - 2 if 'rad' in title else 0)
        assert ('rad' in title) == (name == spec.classes[0])
    shares = plot_shares(groups)
    assert [label.get_text() for label in shares.axes[0].get_yticklabels()] == list(spec.classes)
    assert [text.get_text() for text in shares.axes[0].get_legend().get_texts()] == list(groups)
    plt.close(figure)
    plt.close(shares)


def test_absent_classes_are_named() -> None:
    spec = tiny_spec('segmentation')
    assert absent_classes(shown(spec, 0, [0, 2])[0]) == ['forest', 'field']
    assert absent_classes(ClassStatistics(spec)) == list(spec.classes)
    plt.close(plot_spectra({'real': ClassStatistics(spec), 'synthetic': ClassStatistics(spec)}))


def test_no_line_crosses_bands_that_were_taken_out() -> None:
    spectrometer = np.concatenate([np.arange(400.0, 700, 10), np.arange(900.0, 1000, 10)])
    wave, values = _broken(spectrometer, np.ones(40))
    assert np.flatnonzero(np.isnan(wave)).tolist() == np.flatnonzero(np.isnan(values)).tolist() == [30]
    np.testing.assert_array_equal(wave[~np.isnan(wave)], spectrometer)
    sentinel = np.array([492.4, 559.8, 664.6, 704.1, 740.5, 782.8, 832.8, 864.7, 1613.7, 2202.4])
    assert np.isfinite(_broken(sentinel, sentinel)).all()
