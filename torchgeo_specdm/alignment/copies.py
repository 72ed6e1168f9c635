"""Synthetic images that are copies of training patches, found in pixel space.

An image is reduced to its signature: the means of 8 x 8 blocks, in bands divided by their spread and, where there are
many, projected on their 12 principal components; then the mean of each band is subtracted and the rest scaled to
length 1. A signature shows the pattern of a patch, whatever its brightness and contrast, and the distance of two is
sqrt(2 - 2 r), r their correlation: 0 for a copy, 1.4 for unrelated patches. How near is too near depends on how much
patches resemble each other anyway, which :mod:`torchgeo_specdm.functional.nearest` takes into account.

Scaling to length 1 judges faint patterns (calm water) like strong ones. A patch without any pattern has no signature
and is never called a copy.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from torchgeo_specdm.datasets.ground import ground, overlapping
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.functional.dihedral import dihedral
from torchgeo_specdm.functional.near_duplicates import BLOCKS, block_means
from torchgeo_specdm.functional.nearest import Nearest, nearest
from torchgeo_specdm.spec import DatasetSpec

FORMAT = 1
COPY_RATIO = 1 / 3
_COMPONENTS = 12
# Rms of the pattern over that of an average training patch below which rounding is all that is left of it
_BLANK = 1e-3
# Spread of a band as a share of its values, below which it counts as constant
_CONSTANT = 1e-5
# Patches whose block means are worked on at once: of hundreds of bands, those of all patches take much memory
_PART = 64
# The orientation that undoes each
_INVERSE = (0, 3, 2, 1, 4, 5, 6, 7)


class TrainingIndex:
    """The signatures of training patches, which images are compared with.

    Attributes:
        projection: What bands are multiplied by, ``(C, K)`` in 1 / raw units.
        signatures: ``(N, T, K, 8, 8)`` float16, T dates.
        ground: Where each patch lies, ``(N, 3)``; see :mod:`torchgeo_specdm.datasets.ground`.
        indices: Index of each patch in its dataset, ``(N,)`` int64.
        patch_size: Height and width of a patch [px].
    """

    def __init__(
        self, projection: Tensor, signatures: Tensor, ground: Tensor, indices: Tensor, patch_size: int
    ) -> None:
        self.projection = projection
        self.signatures = signatures
        self.ground = ground
        self.indices = indices
        self.patch_size = patch_size

    @classmethod
    def build(cls, dataset: Any, indices: Sequence[int], spec: DatasetSpec) -> 'TrainingIndex':
        """Read training patches, each once.

        Args:
            dataset: The dataset that a generator learned from.
            indices: Its train samples.
            spec: Describes them.

        Raises:
            SpecDMError: No two of the patches show different ground, so that copies cannot be told.
        """
        places = ground(dataset, indices)
        if len(places) == 0 or overlapping(places[:1], places, spec.patch_size).all():
            raise SpecDMError(
                f'the {len(places)} training patches of {spec.name} all show the same ground, so that a copy cannot be '
                'told from a new sample: more or smaller patches are needed'
            )
        means = torch.empty(len(indices), spec.num_dates, spec.num_bands, BLOCKS, BLOCKS)
        for place, index in enumerate(indices):
            means[place] = _means(dataset[index]['image'][None], spec.num_bands)[0]
        projection = _projection(means)
        signatures = torch.cat([_signature(part, projection).half() for part in _parts(means)])
        return cls(projection, signatures, places, torch.tensor(list(indices)), spec.patch_size)

    def nearest(self, image: Tensor) -> Nearest:
        """The training patch that each image is nearest to, in any orientation.

        Args:
            image: ``(B, C, H, W)`` or ``(B, T, C, H, W)``, raw units.

        Returns:
            ``index`` and ``other_index`` count as the dataset does; ``dihedral(patch, orientation)`` is what resembles
            the image; a distance is that of two signatures, between 0 and 2. An image without a pattern has ratio 1.

        Raises:
            SpecDMError: Dates or bands are not those of the training patches.
        """
        means = _means(image, len(self.projection))
        if means.shape[1] != self.signatures.shape[1]:
            raise SpecDMError(f'the training patches have {self.signatures.shape[1]} date(s), not {means.shape[1]}')
        signature = _signature(means, self.projection)
        turned = torch.stack([dihedral(signature, orientation).flatten(1) for orientation in _INVERSE])
        found = nearest(
            turned,
            self.signatures.flatten(1),
            lambda index: overlapping(self.ground[index], self.ground, self.patch_size),
        )
        blank = signature.flatten(1).norm(dim=1) == 0
        other = torch.where(found.other_index < 0, -1, self.indices[found.other_index])
        return dataclasses.replace(
            found, ratio=found.ratio.masked_fill(blank, 1.0), index=self.indices[found.index], other_index=other
        )

    def copies(self, image: Tensor) -> Tensor:
        """Which images are copies of training patches, ``(B,)`` bool; see :meth:`nearest`."""
        return self.nearest(image).ratio < COPY_RATIO

    @property
    def digest(self) -> str:
        """SHA-256 over all that the index holds; equal digests mean equal answers."""
        digest = hashlib.sha256(str(self.patch_size).encode())
        for _, tensor in sorted(self._tensors().items()):
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write the index to one safetensors file."""
        described = json.dumps({'format': FORMAT, 'patch_size': self.patch_size})
        save_file(self._tensors(), path, metadata={'specdm_training_index': described})

    @classmethod
    def load(cls, path: Path) -> 'TrainingIndex':
        """Read what :meth:`save` wrote.

        Raises:
            SpecDMError: The file is missing, damaged or no index of this format.
        """
        try:
            with safe_open(path, framework='pt') as file:
                described = json.loads((file.metadata() or {}).get('specdm_training_index', '{}'))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, ValueError, RecursionError) as error:
            raise SpecDMError(f'{path} is no index of training patches ({error}): build it again') from error
        size = described.get('patch_size') if isinstance(described, dict) else None
        if type(size) is not int or described.get('format') != FORMAT or not _fit(tensors):
            raise SpecDMError(f'{path} is no index of training patches of format {FORMAT}: build it again')
        return cls(**tensors, patch_size=size)

    def _tensors(self) -> dict[str, Tensor]:
        return {name: getattr(self, name).contiguous() for name in ('projection', 'signatures', 'ground', 'indices')}


def _fit(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are the tensors of an index, in its shapes and types."""
    if set(tensors) != {'projection', 'signatures', 'ground', 'indices'} or tensors['signatures'].ndim != 5:
        return False
    if tensors['projection'].ndim != 2:
        return False
    count, dates, components = tensors['signatures'].shape[:3]
    shapes = {'projection': (len(tensors['projection']), components), 'ground': (count, 3), 'indices': (count,)}
    shapes['signatures'] = (count, dates, components, BLOCKS, BLOCKS)
    floats = all(tensors[name].is_floating_point() for name in ('projection', 'signatures'))
    return floats and all(tuple(tensors[name].shape) == shape for name, shape in shapes.items())


def _means(image: Tensor, num_bands: int) -> Tensor:
    """Block means ``(B, T, C, 8, 8)`` of a batch in the contract's or an observer's shape."""
    if image.shape[-3] != num_bands or image.ndim not in (4, 5):
        raise SpecDMError(
            f'an image of shape {tuple(image.shape[1:])} cannot be compared with patches of {num_bands} band(s)'
        )
    dated = image if image.ndim == 5 else image[:, None]
    means = block_means(dated.flatten(0, 1).float())
    return means.view(*dated.shape[:3], BLOCKS, BLOCKS)


def _parts(means: Tensor) -> Iterator[Tensor]:
    return (means[start : start + _PART] for start in range(0, len(means), _PART))


def _projection(means: Tensor) -> Tensor:
    """``(C, K)``: divides bands by their spread within patches and keeps the principal components.

    Args:
        means: Block means ``(N, T, C, 8, 8)`` of training patches.
    """
    bands, rows = means.shape[2], means.numel() // means.shape[2]
    products, squares = torch.zeros(bands, bands, dtype=torch.float64), torch.zeros(bands, dtype=torch.float64)
    for part in _parts(means):
        values = part.double()
        deviation = (values - values.mean((-2, -1), keepdim=True)).movedim(2, -1).flatten(0, -2)
        products += deviation.T @ deviation
        squares += values.square().sum((0, 1, 3, 4))
    spread, level = (products.diag() / rows).sqrt(), (squares / rows).sqrt()
    # A band that never varies holds nothing but rounding
    weight = torch.where(spread > _CONSTANT * level, 1 / spread, 0.0)
    if bands <= _COMPONENTS:
        return weight.diag().float()
    # Eigenvalues ascend
    components: Tensor = torch.linalg.eigh(weight[:, None] * products * weight).eigenvectors[:, -_COMPONENTS:]
    return (components * weight[:, None]).float()


def _signature(means: Tensor, projection: Tensor) -> Tensor:
    """Signatures ``(B, T, K, 8, 8)`` of length 1, or 0 where there is no pattern."""
    deviation = means - means.mean((-2, -1), keepdim=True)
    pattern: Tensor = torch.einsum('btchw,ck->btkhw', deviation, projection)
    length: Tensor = pattern.flatten(1).norm(dim=1).view(-1, 1, 1, 1, 1)
    # Standardised bands have rms 1 on average over the training patches
    blank = _BLANK * (projection.shape[1] * means.shape[1] * BLOCKS**2) ** 0.5
    signature: Tensor = torch.where(length > blank, pattern / length.clamp_min(blank), 0.0)
    return signature
