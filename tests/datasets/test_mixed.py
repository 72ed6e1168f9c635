"""MixedDataset: how many, in which order, of which source, and what cannot be mixed."""

import dataclasses
import warnings
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import kornia.augmentation as K
import pytest
import torch
from torch import Tensor
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    IterableDataset,
    Subset,
    WeightedRandomSampler,
    default_collate,
    random_split,
)
from torchgeo import datasets as torchgeo_datasets

from tests.conftest import strict_filter, tiny_pipeline, tiny_spec
from tests.fake import FakePairs
from tests.forked import fork_producers
from torchgeo_specdm.datasets.mixed import MixedDataset
from torchgeo_specdm.datasets.order import MixedSampler
from torchgeo_specdm.datasets.synthetic import SpecDMSynthetic
from torchgeo_specdm.errors import SpecDMError, SpecMismatchError
from torchgeo_specdm.spec import DatasetSpec


@pytest.fixture(scope='module')
def checkpoint(tiny_segmentation_checkpoint: Path) -> Path:
    return tiny_segmentation_checkpoint


@pytest.fixture(scope='module', params=[None, 'aligned'])
def kept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[SpecDMSynthetic, list[Any]]:
    """A synthetic dataset, and its first samples as another one of the same settings serves them one by one."""
    folder = tmp_path_factory.mktemp('mixed') / 'checkpoint'
    spec = tiny_spec('segmentation')
    tiny_pipeline(spec).save_pretrained(folder)
    strict_filter(spec, folder / 'filter').save(folder / 'filter')
    dataset, alone = (SpecDMSynthetic(folder, keep=request.param, steps=1, batch_size=4, cache=None) for _ in range(2))
    return dataset, [alone[index] for index in range(24)]


@pytest.fixture
def synthetic(checkpoint: Path) -> SpecDMSynthetic:
    return SpecDMSynthetic(checkpoint, steps=1, batch_size=4)


def fake(task: str = 'segmentation', **changes: Any) -> FakePairs:
    arguments = {name: changes.pop(name) for name in ('length', 'transforms', 'with_spec') if name in changes}
    return FakePairs(dataclasses.replace(tiny_spec(task), **changes), **arguments)


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return set(a) == set(b) and all(torch.equal(a[key], b[key]) for key in a)


def crop(sample: dict[str, Tensor]) -> dict[str, Tensor]:
    return {'image': sample['image'][..., 4:12, 4:12] + 1, 'mask': sample['mask'][..., 4:12, 4:12].to(torch.uint8)}


@pytest.mark.parametrize('ratio', [0, 0.0, 0.1, 0.25, 0.35, 0.5, 1, 1.15, 1.5, 2.675, 5, 1e-05])
@pytest.mark.parametrize('reals', [1, 2, 3, 10, 30, 200])
def test_the_number_of_synthetic_samples_is_exact(ratio: float, reals: int, synthetic: SpecDMSynthetic) -> None:
    mixed = MixedDataset(fake(length=reals), synthetic, ratio)
    exact = Fraction(str(ratio)) * reals
    count = int(mixed.is_synthetic.sum())
    assert -Fraction(1, 2) < count - exact <= Fraction(1, 2)
    assert len(mixed) == reals + count == len(mixed.is_synthetic)
    assert mixed.is_synthetic.dtype == torch.bool


def test_every_sample_of_both_sources_is_there_once(synthetic: SpecDMSynthetic) -> None:
    real = fake(length=7)
    mixed = MixedDataset(real, synthetic, 1.5)
    samples = list(mixed)
    assert [bool(sample['synthetic']) for sample in samples] == mixed.is_synthetic.tolist()
    for source, size, flag in ((real, 7, False), (synthetic, 11, True)):
        found = [sample['image'] for sample in samples if bool(sample['synthetic']) == flag]
        places = [next(i for i in range(size) if torch.equal(source[i]['image'], image)) for image in found]
        assert sorted(places) == list(range(size))
        assert (places == sorted(places)) == flag, 'real samples are permuted, synthetic ones come block by block'
    batch = default_collate(samples)
    assert set(batch) == {'image', 'mask', 'synthetic'}
    assert batch['image'].shape == (18, 3, 16, 16)


def test_the_order_is_a_function_of_the_seed(synthetic: SpecDMSynthetic) -> None:
    flags = [MixedDataset(fake(length=30), synthetic, 1, seed=seed).is_synthetic for seed in (0, 0, 1)]
    assert torch.equal(flags[0], flags[1])
    assert not torch.equal(flags[0], flags[2])


def test_requests_keep_their_order_and_group_by_source(synthetic: SpecDMSynthetic) -> None:
    mixed = MixedDataset(fake(), synthetic, 1)
    wanted = [15, 0, 3, 3, -1, 7, 2]
    assert all(same(a, mixed[i]) for i, a in zip(wanted, mixed.__getitems__(wanted), strict=True))
    for index in (16, -17):
        with pytest.raises(IndexError):
            mixed[index]


@pytest.mark.parametrize('transforms', [None, crop])
@pytest.mark.parametrize(
    ('ratio', 'include_real'), [(0, True), (0.4, True), (0.4, False), (1, True), (3, True), (3, False)]
)
def test_a_batch_is_what_the_sources_hold_in_any_order(
    ratio: float, include_real: bool, transforms: Any, kept: tuple[SpecDMSynthetic, list[Any]]
) -> None:
    dataset, alone = kept
    real = fake(transforms=transforms)
    mixed = MixedDataset(real, dataset, ratio, include_real=include_real)
    reals, expected, served = [real[index] for index in range(len(real))], [], 0
    places = []
    for index, flag in enumerate(mixed.is_synthetic.tolist()):
        if flag:
            sample, served = alone[served], served + 1
            sample = transforms(sample) if transforms else sample
        else:
            image = mixed[index]['image']
            places.append(next(place for place, one in enumerate(reals) if torch.equal(one['image'], image)))
            sample = reals[places[-1]]
        expected.append({key: sample[key] for key in ('image', 'mask')} | {'synthetic': torch.tensor(flag)})
    assert sorted(places) == (list(range(8)) if include_real else [])

    size, shuffle = len(mixed), torch.Generator().manual_seed(0)
    sampler = MixedSampler(mixed, 4)
    orders = [range(size), range(size - 1, -size - 1, -1), torch.randint(size, (9,), generator=shuffle).tolist()]
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    for order in orders:
        found = mixed.__getitems__(order)
        assert len(found) == len(order)
        assert all(same(sample, expected[index]) for index, sample in zip(order, found, strict=True))
    assert mixed.__getitems__([]) == []


def test_workers_change_nothing(synthetic: SpecDMSynthetic, monkeypatch: pytest.MonkeyPatch) -> None:
    fork_producers(monkeypatch)
    mixed = MixedDataset(fake(), synthetic, 1)
    epochs = [list(DataLoader(mixed, batch_size=5, num_workers=workers)) for workers in (2, 0)]
    assert all(same(a, b) for a, b in zip(*epochs, strict=True))


def test_the_ends_of_the_ratio(synthetic: SpecDMSynthetic, checkpoint: Path) -> None:
    assert not MixedDataset(fake(), synthetic, 0).is_synthetic.any()
    only = MixedDataset(fake(), synthetic, 2, include_real=False)
    assert len(only) == 16
    assert bool(only.is_synthetic.all())
    assert same(only[3], synthetic[3])
    with pytest.raises(SpecDMError, match='include_real'):
        MixedDataset(fake(), synthetic, 0.01, include_real=False)
    exact = SpecDMSynthetic(checkpoint, 16, steps=1)
    assert len(MixedDataset(fake(), exact, 2)) == 24
    with pytest.raises(SpecDMError, match='need 17 synthetic samples, but there are 16'):
        MixedDataset(fake(), exact, 2.1)


@pytest.mark.parametrize('ratio', [-1, -1e-9, float('nan'), float('inf'), 'many'])
def test_a_ratio_that_is_none(synthetic: SpecDMSynthetic, ratio: Any) -> None:
    with pytest.raises(SpecDMError, match='ratio is'):
        MixedDataset(fake(), synthetic, ratio)


def test_torch_utilities_work_on_it(synthetic: SpecDMSynthetic) -> None:
    mixed = MixedDataset(ConcatDataset([Subset(fake(), [0, 1, 2]), fake(length=5)]), synthetic, 1)
    train, val = random_split(mixed, [12, 4], torch.Generator().manual_seed(0))
    assert len(next(iter(DataLoader(train, batch_size=12)))['image']) == len(train)
    assert len(ConcatDataset([train, val])) == len(mixed)
    weights = torch.where(mixed.is_synthetic, 0.0, 1.0)
    sampler = WeightedRandomSampler(weights.tolist(), 10)
    assert not any(batch['synthetic'].any() for batch in DataLoader(mixed, batch_size=5, sampler=sampler))


class Chatty(FakePairs):
    def __getitem__(self, index: int) -> dict[str, Any]:
        return super().__getitem__(index) | {'filename': f'{index}.tif', 'image_id': torch.tensor(index)}


def test_other_keys_are_dropped(synthetic: SpecDMSynthetic) -> None:
    mixed = MixedDataset(Chatty(tiny_spec('segmentation')), synthetic, 1)
    assert all(set(sample) == {'image', 'mask', 'synthetic'} for sample in mixed)


@pytest.mark.parametrize('wrap', [lambda data: data, lambda data: Subset(data, range(4))])
def test_real_transforms_apply_to_synthetic_samples(synthetic: SpecDMSynthetic, wrap: Callable[[Any], Any]) -> None:
    real = wrap(fake(transforms=crop))
    mixed = MixedDataset(real, synthetic, 1, include_real=False)
    assert all(same(mixed[i], crop(synthetic[i]) | {'synthetic': torch.tensor(True)}) for i in range(len(real)))
    assert default_collate(list(MixedDataset(real, synthetic, 1)))['mask'].dtype == torch.uint8


def test_transforms_that_differ_are_refused(synthetic: SpecDMSynthetic) -> None:
    with pytest.raises(SpecDMError, match='different transforms'):
        MixedDataset(ConcatDataset([fake(transforms=crop), fake()]), synthetic, 1)


class VideoPairs(FakePairs, torchgeo_datasets.OSCD):
    """TorchGeo's OSCD in all but its files: kornia's video transforms need a batch axis."""

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        transforms, self.transforms = self.transforms, None
        sample = super().__getitem__(index)
        self.transforms = transforms
        batch = transforms({key: value.unsqueeze(0) for key, value in sample.items()})
        return {key: value.squeeze(0) for key, value in batch.items()}


def test_oscd_transforms_see_a_batch(tiny_change_checkpoint: Path) -> None:
    synthetic = SpecDMSynthetic(tiny_change_checkpoint, steps=1)
    flip = K.AugmentationSequential(K.VideoSequential(K.CenterCrop(8)), data_keys=None, keepdim=True)
    real = VideoPairs(tiny_spec('change'), transforms=flip, length=2)
    batch = default_collate(list(MixedDataset(real, synthetic, 1)))
    assert batch['image'].shape == (4, 2, 3, 8, 8)
    assert batch['mask'].shape == (4, 1, 8, 8)
    inner = (..., slice(4, 12), slice(4, 12))
    only = MixedDataset(real, synthetic, 1, include_real=False)
    torch.testing.assert_close(only[0]['image'], synthetic[0]['image'][inner])
    assert torch.equal(only[1]['mask'], synthetic[1]['mask'][inner])


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'bands': ('B03', 'B02', 'B04')}, 'bands: B03 B02 B04 against B02 B03 B04'),
        ({'unit': 'reflectance'}, 'unit: reflectance against Sentinel-2 DN'),
        ({'scale': 1.0}, 'scale: 1.0 against 10000.0'),
        ({'classes': ('a', 'b', 'c', 'd')}, 'classes: a b c d against water'),
        ({'patch_size': 32}, 'patch_size: 32 against 16'),
    ],
)
def test_a_mismatch_names_both_sides(synthetic: SpecDMSynthetic, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecMismatchError, match=words) as error:
        MixedDataset(fake(**changes, name='mine'), synthetic, 1)
    assert 'mine' in str(error.value)
    assert 'tiny segmentation' in str(error.value)
    assert '\n' not in str(error.value)


def test_another_task_is_refused(tiny_change_checkpoint: Path) -> None:
    with pytest.raises(SpecMismatchError, match='task: segmentation against change'):
        MixedDataset(fake(), SpecDMSynthetic(tiny_change_checkpoint), 1)


def test_a_real_dataset_without_a_spec(synthetic: SpecDMSynthetic) -> None:
    with pytest.warns(UserWarning, match='declares no unit'):
        mixed = MixedDataset(fake(with_spec=False), synthetic, 1)
    assert mixed.spec == synthetic.spec
    with pytest.raises(SpecMismatchError, match='patch_size: 32 against 16'):
        MixedDataset(fake(with_spec=False, patch_size=32), synthetic, 1)
    declared = DatasetSpec.from_sample(fake()[0], name='declared', unit=synthetic.spec.unit, scale=10_000.0)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert MixedDataset(fake(with_spec=False), synthetic, 1, real_spec=declared).spec.name == 'declared'
    with pytest.raises(SpecMismatchError, match=r'scale: 1.0 against 10000'):
        MixedDataset(fake(with_spec=False), synthetic, 1, real_spec=dataclasses.replace(declared, scale=1.0))


class Odd(FakePairs):
    """Right at first, wrong from index 1 on."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = super().__getitem__(index)
        return sample | {'mask': sample['mask'].to(torch.uint8)} if index else sample


def test_a_real_sample_that_belies_the_spec(synthetic: SpecDMSynthetic) -> None:
    mixed = MixedDataset(Odd(tiny_spec('segmentation'), length=2), synthetic, 0)
    with pytest.raises(SpecMismatchError, match=r'mask of sample 1 .* Odd is uint8 .*, but synthetic ones are int64'):
        list(mixed)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(())


@pytest.mark.parametrize(
    ('real', 'words'),
    [
        (fake(length=0), 'is empty'),
        (Stream(), 'not map-style'),
        (torchgeo_datasets.Sentinel2.__new__(torchgeo_datasets.Sentinel2), 'by location'),
        (
            [{'image': torch.zeros(3, 16, 16), 'label': torch.tensor(1)}],
            'list: a sample needs the tensors image and mask; it has image, label',
        ),
    ],
)
def test_real_datasets_that_cannot_be_mixed(synthetic: SpecDMSynthetic, real: Any, words: str) -> None:
    with pytest.raises(SpecDMError, match=words):
        MixedDataset(real, synthetic, 1)


def test_plot_is_the_real_datasets(synthetic: SpecDMSynthetic, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fake()
    mixed = MixedDataset(Subset(real, [0]), synthetic, 1)
    assert mixed.plot(mixed[0]).axes
    monkeypatch.setattr(FakePairs, 'plot', lambda self, sample, **kwargs: (self, kwargs), raising=False)
    assert mixed.plot(mixed[0], suptitle='x') == (real, {'suptitle': 'x'})
