"""Where samples lie, which overlap, and halves that do not."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from tests.conftest import tiny_spec
from tests.data.oscd.data import write_oscd
from tests.fake import FakePairs
from torchgeo_specdm.datasets import OSCD, IndianPines
from torchgeo_specdm.datasets.ground import ground, overlapping, split_halves
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.functional import dihedral


def test_windows_of_a_dataset_are_found_through_subsets(tmp_path: Path) -> None:
    write_oscd(tmp_path)
    dataset = OSCD(tmp_path, patch_size=32, overlap=0.5)
    expected = torch.tensor(dataset.windows)
    assert torch.equal(ground(dataset), expected)
    nested = Subset(Subset(dataset, [9, 5, 3, 30]), [3, 1])
    assert torch.equal(ground(nested), expected[[30, 5]])
    assert torch.equal(ground(nested, [1]), expected[[5]])
    assert ground(dataset, []).shape == (0, 3)


def test_indian_pines_is_one_scene() -> None:
    dataset = IndianPines('test')
    places = ground(dataset)
    assert places.shape == (len(dataset), 3)
    row, col = places[4, 1:].tolist()
    assert torch.equal(dataset[4]['image'], dataset.image[:, row : row + 32, col : col + 32])
    assert not places[:, 0].any()


@pytest.mark.parametrize('task', ['segmentation', 'change'])
def test_samples_without_a_place_share_ground_with_their_turned_copies_alone(task: str) -> None:
    class Copied(Dataset[dict[str, Tensor]]):
        pairs = FakePairs(tiny_spec(task), length=4)

        def __len__(self) -> int:
            return 6

        def __getitem__(self, index: int) -> dict[str, Tensor]:
            sample = self.pairs[index % 4]
            return {name: dihedral(value, index) if index >= 4 else value for name, value in sample.items()}

    assert ground(Copied())[:, 0].tolist() == [0, 1, 2, 3, 0, 1]
    assert ground(Subset(Copied(), [5, 2, 1]))[:, 0].tolist() == [0, 1, 0]


def test_windows_that_are_no_triples_are_refused() -> None:
    dataset = FakePairs(tiny_spec('change'))
    dataset.windows = [(0, 1)] * 8  # type: ignore[attr-defined]
    with pytest.raises(SpecDMError, match='windows of FakePairs must be triples'):
        ground(dataset)


def test_patches_overlap_as_their_pixels_do() -> None:
    generator = torch.Generator().manual_seed(0)
    places = torch.cat([torch.randint(2, (40, 1), generator=generator), torch.randint(30, (40, 2))], dim=1)
    pixels = [{(s, r, c) for r in range(y, y + 7) for c in range(x, x + 7)} for s, y, x in places.tolist()]
    expected = torch.tensor([[bool(a & b) for b in pixels] for a in pixels[:9]])
    assert torch.equal(overlapping(places[:9], places, 7), expected)


@pytest.mark.parametrize('scenes', [1, 2, 3, 4, 7])
def test_halves_share_no_ground(scenes: int) -> None:
    rows, cols = torch.meshgrid(torch.arange(0, 96, 8), torch.arange(0, 48, 8), indexing='ij')
    corners = torch.stack([rows.flatten(), cols.flatten()], 1)
    places = torch.cat([torch.cat([torch.full((40 + s, 1), 10 * s), corners[: 40 + s]], dim=1) for s in range(scenes)])
    halves = split_halves(places, 16)
    first, second = (halves == 0).nonzero()[:, 0], (halves == 1).nonzero()[:, 0]
    assert not overlapping(places[first], places[second], 16).any()
    if scenes >= 4:
        assert (halves >= 0).all()
        assert abs(len(first) - len(second)) <= 43
    else:
        assert min(len(first), len(second)) > 0.3 * len(places)
        assert (halves == -1).any()
    assert torch.equal(halves, split_halves(places, 16))


def test_halves_of_indian_pines() -> None:
    halves = split_halves(ground(IndianPines()), 32)
    assert torch.bincount(halves + 1).min() > 50


def test_one_place_cannot_be_halved() -> None:
    with pytest.raises(SpecDMError, match='cannot be split'):
        split_halves(torch.zeros(5, 3, dtype=torch.long), 16)
