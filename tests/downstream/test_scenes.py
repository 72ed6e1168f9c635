"""Scores of whole scenes, by models whose answer is known."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.data.oscd.data import write_oscd
from torchgeo_specdm.comparison import f1, mean_iou, sum_samples
from torchgeo_specdm.datamodules.oscd import MEAN, STD
from torchgeo_specdm.datasets import OSCD
from torchgeo_specdm.downstream import count_scenes, predict_scene
from torchgeo_specdm.errors import SpecDMError

ZERO, ONE = torch.zeros(3), torch.ones(3)


class Brighter(nn.Module):
    """Says *change* where the first band grew by more than a half: a pixel alone decides."""

    def forward(self, image: Tensor) -> Tensor:
        return (image[:, 1, :1] - image[:, 0, :1]) - 0.5


class RightInTheMiddle(nn.Module):
    """Says 1 in the middle columns of what it is shown, and -1 left and right of them."""

    def forward(self, image: Tensor) -> Tensor:
        logits = -torch.ones(len(image), 1, *image.shape[-2:])
        quarter = image.shape[-1] // 4
        logits[..., quarter:-quarter] = 1
        return logits


class Mean(nn.Module):
    """Two logits, that of class 1 the mean of what it is shown; in training it is another one."""

    def forward(self, image: Tensor) -> Tensor:
        mean = image.mean(tuple(range(1, image.ndim)), keepdim=True).view(-1, 1, 1, 1).expand(-1, 1, *image.shape[-2:])
        return torch.cat([0 * mean, -mean if self.training else mean], 1)


def scene(height: int, width: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(2, 3, height, width, generator=generator)
    return {'image': image, 'mask': (torch.rand(1, height, width, generator=generator) < 0.3).long()}


@pytest.mark.parametrize(('tile', 'overlap', 'batch_size'), [(16, 0.5, 4), (16, 0.0, 1), (13, 0.3, 100), (500, 0.5, 2)])
def test_counts_are_those_of_the_pixels(tile: int, overlap: float, batch_size: int) -> None:
    """Tiles do not matter to a model that sees pixels; each of these counts once, in scenes of any size."""
    scenes = [scene(40, 33, 0), scene(12, 50, 1)]
    counts = count_scenes(Brighter(), scenes, ZERO, ONE, tile=tile, overlap=overlap, batch_size=batch_size)
    assert counts.hit.shape == (2, 2)
    for i, each in enumerate(scenes):
        predicted = (each['image'][1, 0] - each['image'][0, 0] >= 0.5).long()
        truth = each['mask'][0]
        for k in (0, 1):
            assert counts.hit[i, k] == ((predicted == k) & (truth == k)).sum()
            assert counts.predicted[i, k] == (predicted == k).sum()
            assert counts.labelled[i, k] == (truth == k).sum()


def test_a_known_change_is_found_whole() -> None:
    sample = scene(40, 33, 0)
    sample['image'][1] = sample['image'][0] + sample['mask']
    counts = count_scenes(Brighter(), [sample], ZERO, ONE, tile=16)
    assert mean_iou(sum_samples(counts)) == 1
    # Nothing is found in units in which it is small
    counts = count_scenes(Brighter(), [sample], ZERO, 10 * ONE, tile=16)
    assert f1(sum_samples(counts))[1] == 0


def test_the_middle_of_a_tile_outweighs_borders() -> None:
    image = torch.zeros(2, 3, 16, 48)
    blended = predict_scene(RightInTheMiddle(), image, tile=16, overlap=0.5)
    assert (blended[..., 4:-4] > 0).all()
    cut = predict_scene(RightInTheMiddle(), image, tile=16, overlap=0.0)
    assert (cut[..., 12:20] < 0).all()


def test_blended_logits_are_means_of_those_of_tiles() -> None:
    image = torch.zeros(3, 16, 32)
    image[..., 16:] = 2
    logits = predict_scene(Mean().eval(), image, tile=16, overlap=0.5)
    assert logits.shape == (2, 16, 32)
    # Left and right of all borders one tile decides alone; in between the tiles' 0, 1 and 2 are mixed
    torch.testing.assert_close(logits[1, 3, 0], torch.tensor(0.0))
    torch.testing.assert_close(logits[1, 3, 31], torch.tensor(2.0))
    weights = torch.tensor([7.0, 2.0])
    torch.testing.assert_close(logits[1, 3, 9], (weights * torch.tensor([0.0, 1.0])).sum() / weights.sum())
    assert (logits[1, 3].diff() >= -1e-6).all()


def test_the_mode_of_the_model_is_restored() -> None:
    model = Mean().train()
    sample = {'image': torch.ones(3, 16, 16), 'mask': torch.ones(16, 16, dtype=torch.long)}
    counts = count_scenes(model, [sample], ZERO, ONE, tile=16)
    assert model.training
    assert counts.hit[0].tolist() == [0, 256]


def test_no_scene_is_refused() -> None:
    with pytest.raises(SpecDMError, match='there is no scene'):
        count_scenes(Brighter(), [], ZERO, ONE)


def test_cities_of_oscd(tmp_path: Path) -> None:
    write_oscd(tmp_path, test_cities=('dubai', 'rio'), height=40, width=52)
    cities: Any = OSCD(tmp_path, 'test', bands=('B04', 'B03', 'B02'), patch_size=None)
    mean, std = (torch.tensor([table[band] for band in cities.bands]) for table in (MEAN, STD))
    counts = count_scenes(Brighter(), [cities[i] for i in range(2)], mean, std, tile=32)
    assert counts.labelled.sum(1).tolist() == [mask.size for mask in cities.masks]
    assert counts.labelled[:, 1].tolist() == [int(mask.sum()) for mask in cities.masks]
