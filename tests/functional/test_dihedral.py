import torch

from torchgeo_specdm.functional import dihedral


def test_eight_different_orientations_that_keep_pairs_aligned() -> None:
    image = torch.arange(9.0).view(1, 1, 3, 3)
    turned = [dihedral(image, orientation) for orientation in range(8)]
    assert torch.equal(turned[0], image)
    assert len({tuple(t.flatten().tolist()) for t in turned}) == 8
    mask = image.long().squeeze(1)
    assert all(torch.equal(dihedral(mask, k).float(), turned[k].squeeze(1)) for k in range(8))
