import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torchgeo.datasets import RGBBandsMissingError

from tests.conftest import tiny_spec
from tests.fake import FakePairs
from torchgeo_specdm.datasets.plotted import Plotted
from torchgeo_specdm.plotting import (
    false_color_bands,
    mask_edges,
    plot_pairs,
    plot_sample,
    rgb_bands,
    to_colors,
    to_rgb,
)
from torchgeo_specdm.spec import DatasetSpec


def test_colours_are_chosen_by_wavelength() -> None:
    spec = tiny_spec('segmentation')
    assert rgb_bands(spec) == (2, 1, 0)
    # Red is not near infrared
    assert false_color_bands(spec) is None
    assert false_color_bands(dataclasses.replace(spec, wavelengths=None)) is None
    infrared = dataclasses.replace(spec, wavelengths=(832.8, 559.8, 664.6))
    assert false_color_bands(infrared) == (0, 2, 1)
    image = torch.rand(spec.image_shape)
    np.testing.assert_array_equal(
        to_rgb(image, infrared, bands=(0, 2, 1)), to_rgb(image[[0, 2, 1]], spec, bands=(0, 1, 2))
    )


def test_edges_are_where_pixels_differ() -> None:
    mask = torch.zeros(5, 6).long()
    mask[1:3, 2:5] = 1
    edges = mask_edges(mask)
    assert len(edges) == 2 * (2 + 3)
    assert (np.abs(edges[:, 0] - edges[:, 1]).sum(-1) == 1).all()
    # Column and row of the square's corners, half a pixel outside its centres
    assert edges.reshape(-1, 2).min(0).tolist() == [1.5, 0.5]
    assert edges.reshape(-1, 2).max(0).tolist() == [4.5, 2.5]
    assert len(mask_edges(torch.zeros(1, 4, 4))) == 0


def test_dates_share_a_stretch_so_that_a_change_of_brightness_shows() -> None:
    spec = tiny_spec('change')
    image = 1000 + torch.rand(spec.image_shape)
    image[1] += 500
    figure = plot_sample({'image': image, 'mask': torch.zeros(spec.mask_shape).long()}, spec)
    first, second = (axis.images[0].get_array() for axis in figure.axes[:2])
    assert first is not None
    assert second is not None
    assert first.mean() < 0.1
    assert second.mean() > 0.9
    plt.close(figure)


def test_bands_are_stretched_one_by_one() -> None:
    spec = tiny_spec('segmentation')
    image = torch.rand(spec.image_shape) + torch.tensor([0.0, 100.0, 10_000.0]).view(3, 1, 1)
    np.testing.assert_allclose(to_rgb(image, spec).mean((0, 1)), 0.5, atol=0.15)
    assert np.isfinite(to_rgb(torch.zeros(spec.image_shape), spec)).all()


def test_unlabelled_pixels_are_white() -> None:
    colors = to_colors(torch.tensor([[0, 255], [3, -1]]), tiny_spec('segmentation'))
    assert (colors[0, 1] == 1).all()
    assert (colors[1, 1] == 1).all()
    assert not (colors[0, 0] == colors[1, 0]).all()


def test_a_row_of_pairs_for_each_group_and_part() -> None:
    for task, rows in (('segmentation', 4), ('change', 6)):
        pairs = FakePairs(tiny_spec(task))
        figure = plot_pairs({'real': [pairs[0], pairs[1]], 'synthetic': [pairs[2]]}, pairs.spec)
        assert len(figure.axes) == 2 * rows
        plt.close(figure)


class Pairs(Plotted):
    """Any dataset with a spec."""

    def __init__(self, spec: DatasetSpec) -> None:
        self.spec = spec

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {'image': torch.rand(self.spec.image_shape), 'mask': torch.zeros(self.spec.mask_shape).long()}


@pytest.mark.parametrize(('task', 'panels'), [('segmentation', 2), ('change', 3)])
def test_a_dataset_draws_what_its_spec_says(task: str, panels: int) -> None:
    dataset = Pairs(tiny_spec(task))
    sample = dataset[0]
    assert len(dataset.plot(sample).axes) == panels
    figure = dataset.plot(sample | {'prediction': sample['mask']}, show_titles=False, suptitle='a pair')
    assert [axis.get_title() for axis in figure.axes] == [''] * (panels + 1)
    assert figure.get_suptitle() == 'a pair'
    plt.close('all')


def test_a_dataset_that_names_its_visible_bands_is_not_drawn_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Pairs(tiny_spec('segmentation'))
    monkeypatch.setattr(Pairs, 'rgb_bands', ('B04', 'B08'))
    with pytest.raises(RGBBandsMissingError):
        dataset.plot(dataset[0])
