"""The judge: shapes, padding, what it does not count, and its files."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from tests.conftest import tiny_spec
from torchgeo_specdm.alignment.judge import Judge
from torchgeo_specdm.checkpoint import WEIGHTS
from torchgeo_specdm.errors import CheckpointError, SpecDMError


@pytest.fixture(scope='module')
def judge() -> Judge:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        judge = Judge.for_spec(tiny_spec('segmentation'))
    judge.set_scaling(torch.tensor([1000.0, 1500.0, 2000.0]), torch.tensor([100.0, 200.0, 300.0]))
    return judge.eval()


def images(*shape: int) -> torch.Tensor:
    return 1500 + 300 * torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize('size', [16, 20, 33])
def test_any_patch_size_is_judged_as_its_padded_self(judge: Judge, size: int) -> None:
    image = images(2, 3, size, size)
    found = judge.log_probabilities(image)
    assert found.shape == (2, 4, size, size)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(2, size, size))
    padding = -size % 8
    padded = F.pad(image, (0, padding, 0, padding), mode='replicate')
    torch.testing.assert_close(found, judge.log_probabilities(padded)[..., :size, :size])


def test_both_shapes_of_one_date_are_one(judge: Judge) -> None:
    image = images(2, 3, 16, 16)
    assert torch.equal(judge.log_probabilities(image), judge.log_probabilities(image.unsqueeze(1)))


def test_images_are_raw_units(judge: Judge) -> None:
    """The judge of values times ten under a scale times ten is the same."""
    image = images(2, 3, 16, 16)
    ten = Judge.for_spec(tiny_spec('segmentation'))
    ten.load_state_dict(judge.state_dict())
    ten.set_scaling(10 * judge.mean, 10 * judge.std)
    torch.testing.assert_close(ten.eval().log_probabilities(10 * image), judge.log_probabilities(image))


@pytest.mark.parametrize('shape', [(2, 16, 16), (2, 1, 16, 16)])
def test_loss_is_the_cross_entropy_and_nan_without_a_label(judge: Judge, shape: tuple[int, ...]) -> None:
    image = images(2, 3, 16, 16)
    mask = torch.randint(4, shape, generator=torch.Generator().manual_seed(2))
    mask[0, ..., :3, :] = 255
    mask[1, ..., 0, 0] = -1
    found = judge.pixel_loss(image, mask)
    flat = mask.view(2, 16, 16)
    labelled = (flat >= 0) & (flat < 4)
    assert torch.equal(found.isnan(), ~labelled)
    target = flat.masked_fill(~labelled, -100)
    with torch.no_grad():
        expected = F.cross_entropy(judge(image), target, reduction='none')
    torch.testing.assert_close(found[labelled], expected[labelled])


def test_change_has_no_direction_and_is_none_between_equal_dates() -> None:
    torch.manual_seed(0)
    judge = Judge.for_spec(tiny_spec('change')).eval()
    image = torch.randn(2, 2, 3, 16, 16)
    found = judge.log_probabilities(image)
    torch.testing.assert_close(found, judge.log_probabilities(image.flip(1)))
    assert not torch.allclose(found[0], found[1])
    same = judge.log_probabilities(image[:, :1].expand_as(image))
    torch.testing.assert_close(same[0], same[1])


@pytest.mark.parametrize('shape', [(1, 4, 16, 16), (1, 2, 3, 16, 16), (1, 6, 16, 16)])
def test_other_bands_or_dates_are_refused(judge: Judge, shape: tuple[int, ...]) -> None:
    with pytest.raises(SpecDMError, match=r'1 date\(s\) of 3 bands'):
        judge.log_probabilities(torch.zeros(shape))


def test_files(judge: Judge, tmp_path: Path) -> None:
    judge.save_pretrained(tmp_path / 'full')
    judge.save_pretrained(tmp_path / 'half', half_precision=True)
    image = images(2, 3, 16, 16)
    exact, close = (Judge.from_pretrained(tmp_path / name).log_probabilities(image) for name in ('full', 'half'))
    assert torch.equal(exact, judge.log_probabilities(image))
    torch.testing.assert_close(close, exact, rtol=0, atol=0.05)
    weights = tmp_path / 'half' / WEIGHTS
    assert weights.stat().st_size < 2_000_000
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match='damaged'):
        Judge.from_pretrained(tmp_path / 'half')
    with pytest.raises(CheckpointError, match='no checkpoint folder'):
        Judge.from_pretrained(tmp_path / 'none')
