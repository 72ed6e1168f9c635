import dataclasses

import pytest
import torch
from torch import Tensor

from tests.evaluation.world import sides, world, world_spec
from torchgeo_specdm.evaluation.measure import Measure, Section
from torchgeo_specdm.evaluation.semantics import SemanticsObserver, measure_semantics
from torchgeo_specdm.functional.regions import merge_small_regions


def measured(mask: Tensor, task: str = 'segmentation') -> Section:
    return measure_semantics(sides([SemanticsObserver(world_spec(task))], (torch.zeros(len(mask), 0), mask), task))


def by_name(section: Section) -> dict[str, Measure]:
    return {measure.name: measure for measure in section.measures}


def flagged(section: Section) -> set[str]:
    return {measure.name for measure in section.measures if measure.flag}


def salted(mask: Tensor, share: float) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 3, mask.shape, generator=generator)
    return torch.where(torch.rand(mask.shape, generator=generator) < share, noise, mask)


def test_rows_of_a_known_mask() -> None:
    mask = torch.zeros(2, 8, 8, dtype=torch.long)
    mask[0, :, 6:] = 1
    mask[0, 0, 0], mask[0, 7, 7] = 2, 255
    spec = dataclasses.replace(world_spec(), patch_size=8)
    rows = SemanticsObserver(spec).observe(torch.zeros(2, 1, 4, 8, 8), mask)
    assert rows['pixels'].tolist() == [[47, 15, 1], [64, 0, 0]]
    assert rows['presence'].tolist() == [[True, True, True], [True, False, False]]
    assert rows['regions'].tolist() == [3, 1]
    assert rows['boundary'].tolist() == [7 + 1 + 2, 0]
    # Sizes 47 and 64, 15 and 1 by powers of two
    assert rows['sizes'].tolist() == [[1, 0, 0, 1, 0, 1, 0], [0, 0, 0, 0, 0, 0, 1]]


@pytest.mark.parametrize('task', ['segmentation', 'change'])
def test_new_real_masks_are_not_flagged(task: str) -> None:
    section = measured(world(60, 3, task)[1], task)
    assert section.title == 'Masks'
    assert section.flags == []


def test_train_masks_themselves_differ_by_nothing() -> None:
    found = by_name(measured(world(120, 1)[1]))
    for name, measure in found.items():
        expected = 1 if name.endswith('relative to real') else 0
        assert measure.value.value == pytest.approx(expected, abs=1e-12), name


def test_salt_and_pepper_masks_are_flagged_from_a_few_percent_on() -> None:
    mask = world(60, 3)[1]
    for share, wrong in ((0.03, {'mean region size'}), (0.1, {'mean region size', 'boundary length'})):
        assert flagged(measured(salted(mask, share))) >= {f'{name}, relative to real' for name in wrong}
    section = measured(salted(mask, 0.1))
    assert any('specks' in flag for flag in section.flags)
    # What a filter of small regions is for
    assert flagged(measured(merge_small_regions(salted(mask, 0.03), 4, 3))) == set()


def test_boundaries_grow_with_noise() -> None:
    mask = world(60, 3)[1]
    found = [by_name(measured(salted(mask, share))) for share in (0.0, 0.05, 0.2)]
    boundary = [measures['boundary length, relative to real'].value.value for measures in found]
    size = [measures['mean region size, relative to real'].value.value for measures in found]
    assert boundary == sorted(boundary)
    assert size == sorted(size, reverse=True)


def test_one_repeated_mask_is_flagged() -> None:
    assert measured(world(1, 3)[1].expand(60, -1, -1)).flags


def test_shares_and_co_occurrence_are_counted() -> None:
    mask = world(60, 3)[1]
    found = sides([SemanticsObserver(world_spec())], (torch.zeros(60, 0), mask))
    details = measure_semantics(found).details['synthetic']
    pixels = torch.tensor([(mask == label).sum() for label in range(3)]).double()
    torch.testing.assert_close(details['shares'], pixels / pixels.sum())
    both = [(mask == label).flatten(1).any(1) for label in (0, 2)]
    assert float(details['patches_with_both_classes'][0, 2]) == pytest.approx(
        float((both[0] & both[1]).double().mean())
    )


def test_a_class_that_is_never_made_is_flagged() -> None:
    mask = world(60, 3)[1]
    section = measured(mask.where(mask != 1, 0))
    found = by_name(section)['classes that no synthetic mask has']
    assert found.value.value == 1
    assert found.settings == {'classes': ['forest']}
    assert 'forest' in found.flag
    shares = by_name(section)['total variation distance of class shares']
    assert shares.flag
    train, made = (section.details[side]['shares'] for side in ('train', 'synthetic'))
    assert shares.value.value == pytest.approx(float((train - made).abs().sum() / 2))


def test_masks_without_boundaries_give_figures() -> None:
    section = measured(torch.zeros(30, 24, 24, dtype=torch.long))
    assert by_name(section)['boundary length, relative to real'].value == (0, 0, 0)
    assert any('too simple' in flag for flag in section.flags)
