import functools
import time
from typing import Any

import pytest
import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor
from torch.nn.functional import avg_pool2d, one_hot

from tests.evaluation.world import sides, world, world_spec
from torchgeo_specdm.evaluation import fidelity
from torchgeo_specdm.evaluation.fidelity import FeatureObserver, measure_fidelity
from torchgeo_specdm.evaluation.measure import Measure, Section
from torchgeo_specdm.evaluation.observation import Sides
from torchgeo_specdm.extractors.base import Extractor
from torchgeo_specdm.functional.distances import frechet_distance, kernel_distance


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fidelity, 'subsets', functools.partial(fidelity.subsets, resamples=30))


class Tiny(Extractor):
    """Mean and roughness of each band; class shares and class edges of masks."""

    name = 'tiny'
    dimensions, mask_dimensions = 8, 6

    @property
    def settings(self) -> dict[str, Any]:
        return {'resize': None}

    def images(self, image: Tensor) -> Tensor:
        roughness = image.diff(dim=-1).abs().mean((2, 3)) + image.diff(dim=-2).abs().mean((2, 3))
        return torch.cat([image.mean((2, 3)) / 1000, roughness / 100], 1)

    def masks(self, mask: Tensor) -> Tensor:
        classes = one_hot(mask.clamp_max(3), 4)[..., :3].movedim(-1, 1).float()
        return torch.cat([classes.mean((2, 3)), classes.diff(dim=-1).abs().mean((2, 3))], 1)


def measured(synthetic: tuple[Tensor, Tensor], task: str = 'segmentation') -> Section:
    return measure_fidelity(sides([FeatureObserver(Tiny(world_spec(task)))], synthetic, task))


def by_name(section: Section) -> dict[str, Measure]:
    return {measure.name: measure for measure in section.measures}


def flagged(section: Section) -> set[str]:
    return {measure.name for measure in section.measures if measure.flag}


def test_features_of_each_date_and_of_masks() -> None:
    image, mask = world(5, 0, 'change')
    observer = FeatureObserver(Tiny(world_spec('change')))
    rows = observer.observe(image, mask)
    assert observer.name == 'features/tiny'
    assert observer.settings == {'extractor': 'tiny', 'resize': None}
    assert {name: values.shape[1] for name, values in rows.items()} == {'date1': 8, 'date2': 8, 'mask': 6}
    assert rows['date2'].equal(Tiny(world_spec()).images(image[:, 1]))


def test_new_real_samples_are_not_flagged() -> None:
    for task in ('segmentation', 'change'):
        section = measured(world(60, 3, task), task)
        assert section.flags == []
        assert len(section.measures) == 6 * (2 if task == 'segmentation' else 3)


def test_a_figure_says_what_it_is_of() -> None:
    found = by_name(measured(world(50, 3)))['Fréchet distance of images, tiny']
    assert found.samples == 50
    assert found.reference_name == 'real train halves'
    assert found.settings.items() >= {'extractor': 'tiny', 'dimensions': 8, 'stream': 'date1'}.items()
    assert found.value.low <= found.value.value <= found.value.high


def test_value_and_floor_are_of_equally_many_samples() -> None:
    """Both against the first half, and both of as many samples as the smaller side has."""
    observer = FeatureObserver(Tiny(world_spec()))
    found = sides([observer], world(200, 3))
    section = measure_fidelity(found)
    assert {measure.samples for measure in section.measures} == {60}
    train = found.train[observer.name]['date1']
    floor = by_name(section)['Fréchet distance of images, tiny'].reference
    assert floor is not None
    assert floor.value == pytest.approx(frechet_distance(train[::2], train[1::2]))


def test_blur_is_far() -> None:
    image, mask = world(60, 3)
    blurred = gaussian_blur2d(image.flatten(0, 1), (7, 7), (1.0, 1.0)).view_as(image)
    found = flagged(measured((blurred, mask)))
    assert {'Fréchet distance of images, tiny', 'kernel distance (KID) of images, tiny'} <= found
    assert not any('masks' in name for name in found)


def test_distances_grow_with_blur() -> None:
    image, _ = world(60, 3)
    real, images = Tiny(world_spec()).images(world(60, 4)[0][:, 0]), [image[:, 0]]
    images += [avg_pool2d(images[0], width, 1, width // 2, count_include_pad=False) for width in (3, 5, 9)]
    for distance in (frechet_distance, kernel_distance):
        values = [distance(real, Tiny(world_spec()).images(blurred)) for blurred in images]
        assert values == sorted(values)


def test_one_repeated_sample_has_no_variety() -> None:
    image, mask = world(1, 3)
    section = measured((image.expand(60, -1, -1, -1, -1), mask.expand(60, -1, -1)))
    assert {f'{name} of {what}, tiny' for name in ('recall', 'coverage') for what in ('images', 'masks')} <= (
        flagged(section)
    )
    assert by_name(section)['recall of masks, tiny'].value == (0, 0, 0)


def test_noisy_masks_are_flagged_and_their_images_are_not() -> None:
    image, mask = world(60, 3)
    noise = torch.randint(0, 3, mask.shape, generator=torch.Generator().manual_seed(0))
    assert {name.split(', ')[0].split(' of ')[-1] for name in flagged(measured((image, noise)))} == {'masks'}


def test_too_few_samples_are_not_measured() -> None:
    section = measured(world(7, 3))
    assert section.measures == []
    assert section.notes == ['Not measured: 20 samples to compare are needed, not 7.']


def test_without_enough_held_out_samples_the_halves_are_the_only_reference() -> None:
    found = sides([FeatureObserver(Tiny(world_spec()))], world(60, 3))
    few = {name: {key: rows[:5] for key, rows in values.items()} for name, values in found.held_out.items()}
    section = measure_fidelity(Sides(found.spec, found.train, few, found.synthetic, found.halves))
    assert section.flags == []
    assert not any('held-out real' in measure.settings for measure in section.measures)


def test_rows_of_other_observers_are_left_alone() -> None:
    found = sides([FeatureObserver(Tiny(world_spec()))], world(60, 3))
    # As copying keeps them: train samples in eight orientations
    train = {**found.train, 'features/tiny/oriented': {'date1': torch.zeros(120, 8, 8), 'mask': torch.zeros(120, 8, 6)}}
    assert len(measure_fidelity(Sides(found.spec, train, found.held_out, found.synthetic, found.halves)).measures) == 12


def test_many_features_take_seconds() -> None:
    generator = torch.Generator().manual_seed(0)

    def rows(count: int) -> dict[str, dict[str, Tensor]]:
        return {'features/x': {'mask': torch.randn(count, 1280, generator=generator)}}

    start = time.process_time()
    found = Sides(world_spec(), rows(500), rows(10), rows(250), torch.arange(500) // 250)
    assert len(measure_fidelity(found).measures) == 6
    # With all 200 resamples, 500 samples and three streams, too, it stays below a minute
    assert time.process_time() - start < 5


def test_dates_are_named_where_there_are_two_and_few_samples_are_called_few() -> None:
    section = measured(world(60, 3, 'change'), 'change')
    assert {'recall of images of date 1, tiny', 'recall of images of date 2, tiny'} <= set(by_name(section))
    assert 'generate more' in section.notes[0]
