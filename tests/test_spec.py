import dataclasses
import json

import pytest
import torch
from torch.utils.data import ConcatDataset, Subset

from tests.conftest import tiny_spec
from tests.fake import FakePairs
from torchgeo_specdm.errors import SpecDMError, SpecMismatchError
from torchgeo_specdm.spec import DatasetSpec, class_index, find_spec, fold_dates, one_hot, unfold_dates


@pytest.mark.parametrize('task', ['segmentation', 'change'])
def test_json_round_trip(task: str) -> None:
    spec = dataclasses.replace(tiny_spec(task), ignore_index=255)
    assert DatasetSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize(
    'change',
    [
        {'task': 'detection'},
        {'classes': ('only one',), 'task': 'change'},
        {'wavelengths': (1.0,)},
        {'palette': ((0, 0, 0),)},
        {'patch_size': 0},
        {'value_range': (1.0, 1.0)},
    ],
)
def test_contradictions_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(SpecDMError):
        dataclasses.replace(tiny_spec('segmentation'), **change)  # type: ignore[arg-type]


def test_each_compared_field_is_named_with_both_sides() -> None:
    spec = tiny_spec('segmentation')
    changes: dict[str, object] = {
        'bands': ('B03', 'B02', 'B04'),
        'unit': 'W m-2 sr-1 um-1',
        'classes': ('a', 'b', 'c', 'd'),
        'patch_size': 32,
    }
    for field, value in changes.items():
        other = dataclasses.replace(spec, **{field: value})  # type: ignore[arg-type]
        with pytest.raises(SpecMismatchError, match=f'{field}: .* against'):
            spec.require_match(other)
    spec.require_match(dataclasses.replace(spec, name='renamed', gsd=20.0))


def test_undeclared_names_are_not_compared_but_counts_are() -> None:
    spec = tiny_spec('segmentation')
    sample = {'image': torch.zeros(spec.image_shape), 'mask': torch.zeros(spec.mask_shape)}
    spec.require_match(DatasetSpec.from_sample(sample))
    assert spec.differences(DatasetSpec.from_sample(sample | {'image': torch.zeros(4, 16, 16)}))
    assert DatasetSpec.from_sample({'image': torch.zeros(2, 3, 8, 8), 'mask': torch.zeros(1, 8, 8)}).task == 'change'


@pytest.mark.parametrize('shape', [(8, 8), (3, 3, 8, 8), (3, 8, 9)])
def test_shapes_that_are_no_image(shape: tuple[int, ...]) -> None:
    with pytest.raises(SpecDMError):
        DatasetSpec.from_sample({'image': torch.zeros(shape), 'mask': torch.zeros(8, 8)})


def test_specs_are_found_through_wrappers() -> None:
    dataset = FakePairs(tiny_spec('segmentation'))
    assert find_spec(ConcatDataset([Subset(dataset, [0]), dataset])) == dataset.spec
    assert find_spec([1, 2]) is None


def test_one_hot_and_class_index_are_inverse() -> None:
    mask = torch.randint(4, (2, 1, 5, 5))
    assert torch.equal(class_index(one_hot(mask, 4), 'change'), mask)
    assert torch.equal(class_index(one_hot(mask[:, 0], 4), 'segmentation'), mask[:, 0])
    mask[0, 0, 0, 0] = 255
    assert one_hot(mask, 4, 255)[0, :, 0, 0].sum() == 0


def test_dates_fold_and_unfold() -> None:
    image = torch.randn(2, 2, 3, 4, 4)
    assert torch.equal(unfold_dates(fold_dates(image), 2), image)
    assert torch.equal(fold_dates(image)[:, 3:], image[:, 1])
