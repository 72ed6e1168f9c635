"""Real and synthetic samples as one dataset."""

import warnings
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from torchgeo_specdm import compat
from torchgeo_specdm.datasets.wrapped import find_transforms, leaves
from torchgeo_specdm.errors import SpecDMError, SpecMismatchError
from torchgeo_specdm.spec import DatasetSpec, find_spec

_KEYS = ('image', 'mask')
_Base: Any = compat.non_geo_dataset()


class MixedDataset(_Base):
    """``ratio`` synthetic samples for each real one, in one seeded order.

    Samples hold exactly ``image``, ``mask`` and ``synthetic`` (0-d bool), whatever else the real dataset serves: a
    batch needs the same keys from both sources. The real dataset's ``transforms`` apply to synthetic samples too.

    Synthetic samples are exchangeable, so the order permutes where they stand, but takes them in the order of their
    index: read from start to end, each of their blocks is generated once. Real samples are permuted.

    Args:
        real: A map-style dataset of image-mask pairs.
        synthetic: A :class:`SpecDMSynthetic`, or any dataset of samples that carries a ``spec``.
        ratio: Synthetic samples per real one; the number is floor(ratio n + 1/2) of the decimal that ``ratio`` prints.
        seed: Seed of the order.
        include_real: Whether to serve the real samples too; without them, n still counts them.
        real_spec: Description of the real dataset, where it carries none or another one.

    Attributes:
        spec: Description of the samples before ``transforms``.
        is_synthetic: ``(len,)`` bool; where the synthetic samples stand (for weighted samplers).

    Raises:
        SpecMismatchError: The two datasets do not fit together, or a real sample is not what its spec says.
        SpecDMError: The ratio is negative, a dataset is of an unsuitable kind, or the synthetic one is too short.
    """

    def __init__(
        self,
        real: Dataset[Any],
        synthetic: Dataset[Any],
        ratio: float,
        *,
        seed: int = 0,
        include_real: bool = True,
        real_spec: DatasetSpec | None = None,
    ) -> None:
        share = parse_ratio(ratio)
        reals = _size(real)
        self.real = real
        self.synthetic = synthetic
        self.ratio = ratio
        self.seed = seed
        self.include_real = include_real
        self._transforms, self._batched = find_transforms(real)
        self.spec = self._match(real_spec or find_spec(real))
        self._expected = self._expect()
        self._check(real[0], 0)

        count = int(share * reals + Fraction(1, 2))
        _require_length(synthetic, count, f'{reals} real samples at ratio {ratio}')
        if not include_real and count == 0:
            raise SpecDMError(
                f'ratio {ratio} of {reals} real samples is no synthetic sample, and include_real is False'
            )
        self._order_sources(reals if include_real else 0, count)
        if callable(tell := getattr(synthetic, 'expect', None)):
            tell(count)

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.is_synthetic)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """All samples in order."""
        return (self[position] for position in range(len(self)))

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """The sample at ``index``.

        Raises:
            IndexError: There is no such sample.
            SpecMismatchError: A real sample does not fit together with the synthetic ones.
        """
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Tensor]]:
        """The samples at ``indices``, each source asked once.

        Raises:
            IndexError: There is no such sample.
            SpecMismatchError: A real sample does not fit together with the synthetic ones.
        """
        size = len(self)
        if any(not -size <= index < size for index in indices):
            raise IndexError(f'an index of {list(indices)} is out of range of {size} mixed samples')
        samples: list[dict[str, Tensor]] = [{}] * len(indices)
        for synthetic in (False, True):
            slots = [slot for slot, index in enumerate(indices) if bool(self.is_synthetic[index]) == synthetic]
            sources = [int(self._source[indices[slot]]) for slot in slots]
            found = _fetch(self.synthetic if synthetic else self.real, sources)
            for slot, source, sample in zip(slots, sources, found, strict=True):
                pair = (
                    self._transform(_pair(sample, type(self.synthetic).__name__))
                    if synthetic
                    else self._check(sample, source)
                )
                samples[slot] = pair | {'synthetic': torch.tensor(synthetic)}
        return samples

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch is read next, of which a synthetic dataset with ``fresh=True`` must know."""
        if callable(tell := getattr(self.synthetic, 'set_epoch', None)):
            tell(epoch)

    def plot(self, *args: Any, **kwargs: Any) -> Figure:
        """The real dataset's plot of a sample, or the synthetic one's where it has none."""
        plots = (getattr(leaf, 'plot', None) for side in (self.real, self.synthetic) for leaf in leaves(side))
        plot = next((plot for plot in plots if plot is not None), None)
        if plot is None:
            raise SpecDMError('neither the real nor the synthetic dataset can plot a sample')
        figure: Figure = plot(*args, **kwargs)
        return figure

    def _match(self, declared: DatasetSpec | None) -> DatasetSpec:
        """The spec of the real dataset, once it fits together with the synthetic one."""
        name = type(self.real).__name__
        synthetic = find_spec(self.synthetic)
        if synthetic is None:
            raise SpecDMError(f'the synthetic dataset {type(self.synthetic).__name__} carries no spec')
        found = declared or DatasetSpec.from_sample(_pair(self.real[0], name), name=name)
        found.require_match(synthetic, 'the real dataset', 'the synthetic dataset')
        if declared is None:
            warnings.warn(
                f'{name} declares no unit; its values are taken to be in the unit of {synthetic.name}: '
                f'{synthetic.unit or "unknown"}. Pass real_spec to declare it',
                stacklevel=4,
            )
        return declared or synthetic

    def _expect(self) -> dict[str, Tensor]:
        """A sample of the spec's shape as ``transforms`` leave it; only its shapes and types are used."""
        zeros = {'image': torch.zeros(self.spec.image_shape), 'mask': torch.zeros(self.spec.mask_shape).long()}
        with torch.random.fork_rng(devices=[]):
            return self._transform(zeros)

    def _transform(self, sample: dict[str, Tensor]) -> dict[str, Tensor]:
        """Apply the real dataset's ``transforms`` as the real dataset does."""
        if self._transforms is None:
            return sample
        if self._batched:
            sample = {key: value.unsqueeze(0) for key, value in sample.items()}
        sample = _pair(self._transforms(sample), f'after its transforms, {type(self.real).__name__}')
        return {key: value.squeeze(0) for key, value in sample.items()} if self._batched else sample

    def _check(self, sample: Any, index: int) -> dict[str, Tensor]:
        """Image and mask of a real sample, if they can stand in one batch with synthetic ones."""
        pair = _pair(sample, type(self.real).__name__)
        for key, value in pair.items():
            expected = self._expected[key]
            if value.shape != expected.shape or value.dtype != expected.dtype:
                raise SpecMismatchError(
                    f'{key} of sample {index} of the real dataset {type(self.real).__name__} is {_words(value)}, '
                    f'but synthetic ones are {_words(expected)}; change it in the transforms of the real dataset'
                )
        return pair

    def _order_sources(self, reals: int, count: int) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        self._source = torch.randperm(reals + count, generator=generator)
        self.is_synthetic = self._source >= reals
        self._source[self.is_synthetic] = torch.arange(count)


def parse_ratio(ratio: float) -> Fraction:
    """The decimal that ``ratio`` prints, exactly: 0.1 means a tenth.

    Raises:
        SpecDMError: The ratio is negative or no number.
    """
    try:
        share = Fraction(str(ratio))
    except ValueError as error:
        raise SpecDMError(f'ratio is {ratio!r}; it must be a number of synthetic samples per real one') from error
    if share < 0:
        raise SpecDMError(f'ratio is {ratio}; it must not be negative')
    return share


def _size(real: Dataset[Any]) -> int:
    name = type(real).__name__
    if compat.is_geo_dataset(real):
        raise SpecDMError(f'{name} is sampled by location; mix a dataset of patches (NonGeoDataset) instead')
    if isinstance(real, IterableDataset) or not hasattr(real, '__len__') or not hasattr(real, '__getitem__'):
        raise SpecDMError(f'{name} is not map-style: the real dataset needs a length and samples by index')
    if len(real) == 0:
        raise SpecDMError(f'the real dataset {name} is empty')
    return len(real)


def _require_length(synthetic: Dataset[Any], count: int, why: str) -> None:
    try:
        size = len(synthetic)  # type: ignore[arg-type]
    except TypeError:
        return  # open-ended
    if size < count:
        raise SpecDMError(f'{why} need {count} synthetic samples, but there are {size}: use length={count} or None')


def _fetch(dataset: Any, indices: list[int]) -> list[Any]:
    if indices and callable(getattr(dataset, '__getitems__', None)):
        return list(dataset.__getitems__(indices))
    return [dataset[index] for index in indices]


def _pair(sample: Any, owner: str) -> dict[str, Tensor]:
    if not isinstance(sample, dict) or not all(isinstance(sample.get(key), Tensor) for key in _KEYS):
        found = ', '.join(map(str, sample)) if isinstance(sample, dict) else type(sample).__name__
        raise SpecDMError(f'{owner}: a sample needs the tensors image and mask; it has {found}')
    return {key: sample[key] for key in _KEYS}


def _words(value: Tensor) -> str:
    return f'{str(value.dtype).removeprefix("torch.")} {tuple(value.shape)}'
