"""Planted copies are found, new patches are not called copies; on fakes and on real crops that overlap by half."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.conftest import tiny_spec
from tests.fake import FakePairs
from torchgeo_specdm.alignment.copies import TrainingIndex, _projection
from torchgeo_specdm.datasets import OSCD, IndianPines
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.functional import dihedral


def images(dataset: Any, indices: list[int]) -> Tensor:
    return torch.stack([dataset[index]['image'] for index in indices])


def spread(batch: Tensor) -> Tensor:
    """Standard deviation of each band, ``(C, 1, 1)``."""
    return batch.movedim(-3, 0).flatten(1).std(1)[:, None, None]


def planted(batch: Tensor) -> dict[str, Tensor]:
    """The ways in which a generator may give back what it saw."""
    turned = torch.stack([dihedral(image, number % 8) for number, image in enumerate(batch)])
    noise = torch.randn(batch.shape, generator=torch.Generator().manual_seed(0))
    return {
        'same': batch,
        'turned': turned,
        'noisy': turned + 0.05 * spread(batch) * noise,
        'brighter': turned + 0.5 * spread(batch),
        'more contrast': turned * 1.2,
        'without detail': torch.nn.functional.interpolate(
            torch.nn.functional.avg_pool2d(turned.flatten(0, -4), 4), scale_factor=4.0
        ).view_as(turned),
    }


@pytest.fixture(scope='module')
def oscd(shared_data: Path) -> tuple[OSCD, OSCD]:
    """Real train crops that overlap by half, and those of another city."""
    others = ('abudhabi', 'aguasclaras', 'beirut', 'bordeaux', 'cupertino', 'hongkong', 'mumbai', 'nantes', 'paris')
    others += ('bercy', 'pisa', 'saclay_e')
    bands = ('B02', 'B08', 'B11')
    train = OSCD(shared_data / 'oscd', 'train', bands, patch_size=64, overlap=0.5, val_cities=others)
    return train, OSCD(shared_data / 'oscd', 'val', bands, patch_size=64, val_cities=('bercy', 'pisa'))


def test_real_copies_are_found_and_new_real_patches_are_none(oscd: tuple[OSCD, OSCD]) -> None:
    train, held_out = oscd
    index = TrainingIndex.build(train, range(len(train)), train.spec)
    chosen = list(range(0, len(train), 8))
    for name, batch in planted(images(train, chosen)).items():
        assert index.copies(batch).float().mean() >= 0.95, name
        assert (index.nearest(batch).index == torch.tensor(chosen)).float().mean() >= 0.95, name
    assert index.copies(images(held_out, list(range(len(held_out))))).float().mean() <= 0.02


def test_indian_pines_with_its_200_bands() -> None:
    train, test = IndianPines(), IndianPines('test')
    index = TrainingIndex.build(train, range(0, len(train), 2), train.spec)
    assert index.projection.shape == (200, 12)
    for name, batch in planted(images(train, list(range(0, 64, 2)))).items():
        assert index.copies(batch).all(), name
    assert index.copies(images(test, list(range(len(test))))).float().mean() <= 0.02


@pytest.mark.parametrize('task', ['segmentation', 'change'])
def test_fakes_of_both_tasks(task: str) -> None:
    spec = tiny_spec(task)
    train, held_out = FakePairs(spec, length=60), FakePairs(spec, 'val', length=60)
    indices = list(range(10, 60))
    index = TrainingIndex.build(train, indices, spec)
    batch = images(train, indices)
    found = index.nearest(batch)
    assert found.index.tolist() == indices
    assert index.copies(batch).all()
    assert index.copies(images(held_out, list(range(60)))).float().mean() <= 0.05
    # As an observer shows them
    dated = batch if task == 'change' else batch[:, None]
    assert torch.equal(index.nearest(dated).ratio, found.ratio)


def test_the_train_patch_turned_by_the_orientation_is_what_resembles_the_image() -> None:
    spec = tiny_spec('segmentation')
    train = FakePairs(spec, length=12)
    index = TrainingIndex.build(train, range(12), spec)
    for orientation in range(8):
        turned = dihedral(images(train, list(range(12))), orientation)
        assert (index.nearest(turned).orientation == orientation).all()


def test_patches_without_a_pattern_are_no_copies() -> None:
    spec = tiny_spec('segmentation')

    class WithBlank(FakePairs):
        def __getitem__(self, index: int) -> dict[str, Tensor]:
            sample = super().__getitem__(index)
            return sample if index else {**sample, 'image': torch.full_like(sample['image'], 1500.0)}

    train = WithBlank(spec, length=12)
    index = TrainingIndex.build(train, range(12), spec)
    blank = images(train, [0])
    assert index.nearest(torch.cat([blank, blank * 2, torch.zeros_like(blank)])).ratio.tolist() == [1, 1, 1]
    assert index.copies(images(train, list(range(1, 12)))).all()


def test_a_constant_band_changes_nothing() -> None:
    spec = tiny_spec('segmentation')

    class Constant(FakePairs):
        def __getitem__(self, index: int) -> dict[str, Tensor]:
            sample = super().__getitem__(index)
            sample['image'][1] = 1234.5
            return sample

    train = Constant(spec, length=12)
    index = TrainingIndex.build(train, range(12), spec)
    batch = images(train, list(range(12)))
    batch[:, 1] += 300 * torch.randn(12, 16, 16)
    assert index.copies(batch).all()


def test_training_patches_of_one_place_tell_nothing() -> None:
    spec = tiny_spec('segmentation')
    train = FakePairs(spec, length=4)
    train.windows = [(0, 0, 0), (0, 3, 3), (0, 5, 0), (0, 1, 1)]  # type: ignore[attr-defined]
    with pytest.raises(SpecDMError, match='all show the same ground'):
        TrainingIndex.build(train, range(4), spec)


def test_images_of_another_kind_are_refused() -> None:
    spec = tiny_spec('change')
    train = FakePairs(spec, length=4)
    index = TrainingIndex.build(train, range(4), spec)
    with pytest.raises(SpecDMError, match=r'2 date\(s\), not 1'):
        index.nearest(torch.zeros(1, 3, 16, 16))
    with pytest.raises(SpecDMError, match='3 band'):
        index.nearest(torch.zeros(1, 2, 4, 16, 16))


def test_written_and_read_it_answers_the_same(tmp_path: Path) -> None:
    spec = tiny_spec('change')
    train, held_out = FakePairs(spec, length=9), FakePairs(spec, 'val', length=5)
    index = TrainingIndex.build(train, range(9), spec)
    index.save(tmp_path / 'index.safetensors')
    again = TrainingIndex.load(tmp_path / 'index.safetensors')
    batch = images(held_out, list(range(5)))
    assert torch.equal(again.nearest(batch).ratio, index.nearest(batch).ratio)
    assert again.digest == index.digest
    assert again.digest != TrainingIndex.build(train, range(8), spec).digest


def test_files_that_are_no_index_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecDMError, match='build it again'):
        TrainingIndex.load(tmp_path / 'missing.safetensors')
    (tmp_path / 'damaged.safetensors').write_bytes(b'x' * 64)
    with pytest.raises(SpecDMError, match='build it again'):
        TrainingIndex.load(tmp_path / 'damaged.safetensors')
    from safetensors.torch import save_file

    save_file({'weight': torch.zeros(1)}, tmp_path / 'other.safetensors')
    with pytest.raises(SpecDMError, match='of format 1'):
        TrainingIndex.load(tmp_path / 'other.safetensors')


def test_the_projection_is_the_principal_components_of_all_patches() -> None:
    """More bands than components, more patches than are worked on at once; against a singular value decomposition."""
    random = np.random.default_rng(0)
    mixing = random.normal(size=(30, 30)) * np.geomspace(1, 100, 30)
    means = 500 + torch.from_numpy(random.normal(size=(150, 1, 8, 8, 30)) @ mixing).movedim(-1, 2).float()
    projection = _projection(means).double().numpy()
    deviation = (means - means.mean((-2, -1), keepdim=True)).movedim(2, -1).reshape(-1, 30).double().numpy()
    sigma = np.sqrt((deviation**2).mean(0))
    axes = np.linalg.svd(deviation / sigma, full_matrices=False)[2][:12]
    found = projection * sigma[:, None]
    # The axes may have another sign: what they span is the same
    np.testing.assert_allclose(found @ found.T, axes.T @ axes, atol=1e-5)
