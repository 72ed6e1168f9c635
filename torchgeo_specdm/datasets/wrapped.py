"""What lies inside of datasets that wrap others."""

from collections.abc import Iterator
from typing import Any

from torch.utils.data import Dataset

from torchgeo_specdm import compat
from torchgeo_specdm.errors import SpecDMError


def leaves(dataset: Any) -> Iterator[Any]:
    """The datasets inside ``Subset`` and ``ConcatDataset`` wrappers."""
    inner = getattr(dataset, 'datasets', [getattr(dataset, 'dataset', None)])
    inner = [member for member in inner if isinstance(member, Dataset)]
    for member in inner:
        yield from leaves(member)
    if not inner:
        yield dataset


def find_transforms(real: Dataset[Any]) -> tuple[Any, bool]:
    """The real dataset's transforms, and whether it hands them a batch of one.

    TorchGeo's OSCD does, as kornia's video transforms need the batch axis; no other dataset of TorchGeo does.

    Raises:
        SpecDMError: The datasets inside have different ones.
    """
    found = {(id(t), compat.is_oscd(leaf)): t for leaf in leaves(real) for t in [getattr(leaf, 'transforms', None)]}
    if len(found) > 1:
        raise SpecDMError('the real datasets have different transforms; give them one, which synthetic samples get too')
    [((_, batched), transforms)] = found.items()
    return transforms, batched
