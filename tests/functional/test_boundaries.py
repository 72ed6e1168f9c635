"""Edges are counted as a loop counts them, and the discriminant is that of an independent implementation."""

import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor

from torchgeo_specdm.functional.boundaries import boundary_features, count_edges, discriminants


def stripes(labels: list[int], height: int = 4) -> Tensor:
    """A mask whose rows are all alike, ``(1, H, W)``."""
    return torch.tensor(labels).expand(1, height, -1).contiguous()


def test_discriminants_are_those_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    mask = torch.randint(0, 3, (6, 8, 8), generator=generator)
    noise = torch.randn(6, 8, 8, 4, generator=generator) @ torch.randn(4, 4, generator=generator)
    features = (noise + 2 * torch.randn(3, 4, generator=generator)[mask]).movedim(-1, 1)
    ours = discriminants([(features[:2], mask[:2]), (features[2:], mask[2:])], 3)
    x, y = features.movedim(1, -1).reshape(-1, 4).double().numpy(), mask.flatten().numpy()
    fisher = LinearDiscriminantAnalysis(solver='lsqr').fit(x, y)
    theirs = torch.from_numpy(fisher.coef_)
    # The ridge of one hundredth turns the direction by little
    for a, b in ((0, 1), (1, 2), (0, 2)):
        cosine = torch.cosine_similarity(ours[b] - ours[a], theirs[b] - theirs[a], dim=0)
        assert cosine > 0.99


def test_a_constant_band_and_an_absent_class_do_no_harm() -> None:
    generator = torch.Generator().manual_seed(0)
    mask = stripes([0, 0, 1, 1]).where(torch.rand(1, 4, 4, generator=generator) > 0.2, 255)
    features = torch.stack([mask + torch.rand(1, 4, 4, generator=generator), torch.full((1, 4, 4), 7.0)], 1)
    weights = discriminants([(features, mask)], 3)
    assert weights[:2].isfinite().all()
    assert weights[1, 0] > weights[0, 0]
    assert weights[:2, 1].abs().max() < 1e-6
    assert weights[2].isnan().all()
    edges, _ = count_edges(features, stripes([0, 0, 2, 2]), weights)
    assert edges.sum() == 0


@pytest.mark.parametrize('seed', range(3))
def test_edges_are_counted_as_a_loop_counts_them(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.randint(0, 3, (2, 5, 6), generator=generator).repeat_interleave(2, 1).repeat_interleave(2, 2)
    mask[0, 0, 0] = 255
    features = torch.randn(2, 3, *mask.shape[1:], generator=generator)
    weights = torch.randn(3, 3, generator=generator).double()
    edges, agreeing = torch.zeros(2, 3, 3), torch.zeros(2, 3, 3)
    for n in range(2):
        for lines in ((mask[n], features[n]), (mask[n].T, features[n].mT)):
            for y in range(lines[0].shape[0]):
                for x in range(lines[0].shape[1] - 3):
                    a, a2, b2, b = lines[0][y, x : x + 4].tolist()
                    if a == b or a != a2 or b != b2 or 255 in (a, b):
                        continue
                    step = (lines[1][:, y, x + 3] - lines[1][:, y, x]).double()
                    for first, second in ((a, b), (b, a)):
                        edges[n, first, second] += 1
                        agreeing[n, first, second] += float((weights[b] - weights[a]) @ step > 0)
    found = count_edges(features, mask, weights)
    assert edges.sum() > 20
    torch.testing.assert_close(found[0], edges.double())
    torch.testing.assert_close(found[1], agreeing.double())


def test_a_right_edge_agrees_and_a_flipped_one_does_not() -> None:
    mask = stripes([0, 0, 0, 1, 1, 1])
    image = mask.unsqueeze(1).float()
    weights = torch.tensor([[0.0], [1.0]])
    edges, agreeing = count_edges(image, mask, weights)
    assert edges[0, 0, 1] == agreeing[0, 0, 1] == 4
    edges, agreeing = count_edges(image, 1 - mask, weights)
    assert (edges[0, 0, 1], agreeing[0, 0, 1]) == (4, 0)


def test_change_is_how_far_each_band_moved() -> None:
    image = torch.tensor([[5.0, 1.0], [2.0, 3.0]]).view(1, 2, 2, 1, 1)
    assert boundary_features(image).flatten().tolist() == [3.0, 2.0]
    assert boundary_features(image[:, :1]).flatten().tolist() == [5.0, 1.0]
