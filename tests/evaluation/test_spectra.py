import dataclasses
import time

import numpy as np
import pytest
import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor

from tests.evaluation.world import SIZE, sides, world, world_spec
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.evaluation.measure import Measure, Section
from torchgeo_specdm.evaluation.observation import Sides
from torchgeo_specdm.evaluation.spectra import SpectraObserver, measure_spectra, physical_unit
from torchgeo_specdm.functional.spectra import band_wasserstein

Pairs = tuple[Tensor, Tensor]


def measured(synthetic: Pairs, task: str = 'segmentation') -> Section:
    return measure_spectra(sides([SpectraObserver(world_spec(task))], synthetic, task))


def by_name(section: Section) -> dict[str, Measure]:
    return {measure.name: measure for measure in section.measures}


def flagged(section: Section) -> set[str]:
    return {measure.name for measure in section.measures if measure.flag}


def test_drawn_pixels_are_labelled_and_the_same_in_any_batch() -> None:
    image, mask = world(6, 0)
    mask[0] = 255
    mask[0, 3, 4:9] = 2
    observer = SpectraObserver(world_spec())
    rows = observer.observe(image, mask)
    assert {name: tuple(values.shape) for name, values in rows.items()} == {
        'pixels': (6, 3),
        'sum': (6, 1, 3, 4),
        'squares': (6, 1, 3, 4),
        'drawn': (6, 32, 1, 4),
        'drawn_class': (6, 32),
        'roughness': (6, 1, 4),
    }
    alone = observer.observe(image[2:3], mask[2:3])
    assert all(alone[name].equal(rows[name][2:3]) for name in rows)
    assert sorted(rows['drawn_class'][0].tolist()) == [-1] * 27 + [2] * 5
    expected = {tuple(spectrum) for spectrum in image[0, 0, :, 3, 4:9].T.tolist()}
    found = rows['drawn'][0, rows['drawn_class'][0] == 2, 0]
    assert {tuple(spectrum) for spectrum in found.tolist()} == expected
    for label, spectrum in zip(rows['drawn_class'][1], rows['drawn'][1, :, 0], strict=True):
        assert (image[1, 0, :, mask[1] == label] == spectrum.unsqueeze(1)).all(0).any()


def test_a_patch_of_fewer_pixels_than_are_drawn() -> None:
    rows = SpectraObserver(world_spec()).observe(torch.ones(2, 1, 4, 3, 3), torch.zeros(2, 3, 3, dtype=torch.long))
    assert rows['drawn'].shape == (2, 32, 1, 4)
    assert (rows['drawn_class'] == 0).sum(1).tolist() == [9, 9]


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(SpecDMError, match='not finite'):
        SpectraObserver(world_spec()).observe(torch.full((1, 1, 4, 3, 3), torch.inf), torch.zeros(1, 3, 3).long())


@pytest.mark.parametrize('task', ['segmentation', 'change'])
def test_new_real_samples_are_not_flagged(task: str) -> None:
    section = measured(world(60, 3, task), task)
    assert section.flags == []
    assert all(measure.samples == 60 for measure in section.measures)
    assert all(m.value.low <= m.value.value <= m.value.high for m in section.measures)


def test_class_spectra_in_the_details_are_those_of_a_numpy_loop() -> None:
    image, mask = world(20, 3, 'change')
    details = measured((image, mask), 'change').details['classes']['synthetic']
    valid = (image.numpy() != 0).any(2).all(1)
    for label in range(2):
        chosen = (mask.numpy() == label) & valid
        assert details['pixels'][label] == chosen.sum()
        for date in range(2):
            spectra = image[:, date].movedim(1, -1).double().numpy()[chosen]
            np.testing.assert_allclose(details['mean'][date, label], spectra.mean(0))
            np.testing.assert_allclose(details['std'][date, label], spectra.std(0))


def test_train_samples_themselves_differ_by_nothing() -> None:
    found = by_name(measured(world(120, 1)))
    assert found['spectral angle, mean over classes'].value.value < 2e-6
    for name in ('correlation matrix distance', 'Wasserstein distance, mean over bands'):
        assert found[name].value.value == pytest.approx(0, abs=1e-9)
    assert found['roughness, relative to real'].value.value == pytest.approx(1)
    assert found['bands that look like another one'].value == (0, 0, 0)


def test_blur_and_noise_are_named() -> None:
    image, mask = world(60, 3)
    blurred = gaussian_blur2d(image.flatten(0, 1), (5, 5), (1.0, 1.0)).view_as(image)
    noisy = image + 600 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0)) * (image > 0)
    for one, word in ((blurred, 'blurred'), (noisy, 'noisy')):
        section = measured((one, mask))
        assert 'roughness, relative to real' in flagged(section)
        assert any(word in flag for flag in section.flags)
        assert 'bands that look like another one' not in flagged(section)


@pytest.mark.parametrize('order', [[3, 0, 1, 2], [0, 2, 1, 3], [2, 1, 0, 3]])
def test_swapped_bands_are_named(order: list[int]) -> None:
    image, mask = world(60, 3)
    section = measured((image[:, :, order], mask))
    found = by_name(section)['bands that look like another one']
    assert found.value.value == sum(band != like for band, like in enumerate(order))
    bands = world_spec().bands
    first = next(band for band, like in enumerate(order) if band != like)
    assert f'{bands[first]} looks like {bands[order[first]]}' in found.flag


def test_a_wrong_spectrum_of_one_class_is_named() -> None:
    image, mask = world(60, 3)
    wrong = torch.where((mask == 1)[:, None, None], image.flip(2), image)
    assert 'spectral angle, forest' in flagged(measured((wrong, mask)))
    assert not {'spectral angle, water', 'spectral angle, town'} & flagged(measured((wrong, mask)))


def test_darker_images_are_flagged_in_reflectance() -> None:
    image, mask = world(60, 3)
    found = by_name(measured((image - 300 * (image > 300), mask)))['Wasserstein distance, mean over bands']
    assert found.flag
    assert found.unit == 'reflectance'
    assert found.value.value == pytest.approx(0.03, abs=0.005)


@pytest.mark.parametrize(
    ('unit', 'scale', 'expected'),
    [
        ('Sentinel-2 DN (reflectance x 10000)', 10_000.0, 'reflectance'),
        ('counts', 1.0, 'counts'),
        ('counts', 500.0, '500 x counts'),
        ('', 2.0, '2 x pixel value'),
    ],
)
def test_the_unit_is_the_declared_one(unit: str, scale: float, expected: str) -> None:
    assert physical_unit(dataclasses.replace(world_spec(), unit=unit, scale=scale)) == expected


def test_wasserstein_distances_are_those_of_the_drawn_pixels() -> None:
    observer = SpectraObserver(world_spec())
    found = sides([observer], world(30, 3))
    first, second = (
        rows['drawn'][rows['drawn_class'] >= 0, 0]
        for rows in (found.synthetic[observer.name], found.train[observer.name])
    )
    section = measure_spectra(found)
    expected = band_wasserstein(first, second) / 10_000
    torch.testing.assert_close(section.details['bands']['synthetic']['wasserstein'][0], expected)
    assert by_name(section)['Wasserstein distance, mean over bands'].value.value == pytest.approx(expected.mean())


def test_absent_classes_are_listed_and_not_averaged() -> None:
    image, mask = world(60, 3)
    mask = mask.where(mask != 2, 255)
    section = measured((image, mask))
    assert section.details['absent'] == {'synthetic': ['town'], 'train': []}
    assert 'No synthetic sample has town: left out.' in section.notes
    found = by_name(section)
    assert 'spectral angle, town' not in found
    assert section.details['classes']['synthetic']['mean'][0, 2].isnan().all()
    each = [found[f'spectral angle, {name}'].value.value for name in ('water', 'forest')]
    assert found['spectral angle, mean over classes'].value.value == pytest.approx(sum(each) / 2)


def test_dates_that_have_nothing_in_common_are_flagged() -> None:
    image, mask = world(60, 3, 'change')
    shuffled = torch.stack([image[:, 0], image[:, 1].roll(1, 0)], 1)
    assert flagged(measured((shuffled, mask), 'change')) >= {'correlation of the dates'}
    copied = torch.stack([image[:, 0], image[:, 0]], 1)
    assert flagged(measured((copied, mask), 'change')) >= {'correlation of the dates'}


def test_constant_images_give_figures() -> None:
    image, mask = torch.full((30, 1, 4, SIZE, SIZE), 700.0), world(30, 3)[1]
    section = measured((image, mask))
    assert all(np.isfinite(measure.value).all() for measure in section.measures)
    assert 'roughness, relative to real' in flagged(section)


def test_many_samples_take_seconds() -> None:
    generator = torch.Generator().manual_seed(0)

    def rows(count: int) -> dict[str, dict[str, Tensor]]:
        pixels = torch.randint(1, 100, (count, 3), generator=generator).double()
        mean = torch.rand(count, 1, 3, 4, generator=generator).double()
        drawn = torch.rand(count, 32, 1, 4, generator=generator)
        labels = torch.randint(0, 3, (count, 32), generator=generator)
        sums = {'pixels': pixels, 'sum': mean * pixels[:, None, :, None], 'squares': mean**2 * pixels[:, None, :, None]}
        return {'spectra': {**sums, 'drawn': drawn, 'drawn_class': labels, 'roughness': mean[:, :, 0]}}

    found = Sides(world_spec(), rows(1000), rows(200), rows(500), torch.arange(1000) // 500)
    start = time.process_time()
    measure_spectra(found)
    assert time.process_time() - start < 5
