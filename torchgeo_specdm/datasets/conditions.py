"""What samples of a synthetic dataset are asked to be: class shares, streams of real samples, sides that agree.

A condition turns the indices of a batch into arguments of :meth:`SpecDMPipeline.sample`. To add one, subclass
:class:`Condition`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchgeo_specdm.description import Description, known_conditions, read_description
from torchgeo_specdm.diffusion import index_generator
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.pipeline import SpecDMPipeline
from torchgeo_specdm.spec import DatasetSpec, find_spec

# The purpose of the draws of classes; the pipeline has those of 0, 1 and 3
_CLASS_DRAW = 2
# Given samples whose bytes tell one dataset from another: all of most, as reading them takes less time than generating
_PROBES = 1024


class Condition:
    """A request that depends on the index of a sample alone.

    Attributes:
        guidance: Towards it, where the user names none; None for the pipeline's.
    """

    guidance: float | None = None

    def identity(self) -> dict[str, Any]:
        """JSON values that tell this condition from any other: blocks in a cache are found by them."""
        raise NotImplementedError

    def arguments(self, indices: Sequence[int], pipeline: SpecDMPipeline, seed: int) -> dict[str, Any]:
        """Arguments of :meth:`SpecDMPipeline.sample` for the samples at ``indices`` of the dataset of ``seed``."""
        raise NotImplementedError


class ClassShares(Condition):
    """The same share of pixels for a class in every sample.

    Args:
        classes: Share of pixels by class name; classes that are not named are free.
        spec: Of the generator.

    Raises:
        SpecDMError: There is no such class, or the shares cannot be.
    """

    def __init__(self, classes: Mapping[str, float], spec: DatasetSpec) -> None:
        if unknown := [name for name in classes if name not in spec.classes]:
            raise SpecDMError(f'there is no class {unknown[0]!r}; the classes are {", ".join(spec.classes)}')
        if any(not 0 <= share <= 1 for share in classes.values()) or sum(classes.values()) > 1 + 1e-6:
            raise SpecDMError(f'shares of pixels lie between 0 and 1 and add up to at most 1, not {dict(classes)}')
        self.shares = torch.tensor([classes.get(name, torch.nan) for name in spec.classes])
        self._asked = {name: float(share) for name, share in classes.items()}

    def identity(self) -> dict[str, Any]:
        """The shares by class name."""
        return {'classes': self._asked}

    def arguments(self, indices: Sequence[int], pipeline: SpecDMPipeline, seed: int) -> dict[str, Any]:
        """One row of shares for each sample."""
        return {'shares': self.shares.expand(len(indices), -1)}


class BalancedClasses(Condition):
    """Each class equally often: a class drawn evenly, with a share that it has in real samples that hold it."""

    def identity(self) -> dict[str, Any]:
        """Its name."""
        return {'classes': 'balanced'}

    def arguments(self, indices: Sequence[int], pipeline: SpecDMPipeline, seed: int) -> dict[str, Any]:
        """One requested class for each sample.

        Raises:
            SpecDMError: The checkpoint does not know the class shares of its train samples.
        """
        if pipeline.shares is None:
            raise SpecDMError('this generator was trained without class shares: fit it with class_control: true')
        return {
            'shares': torch.stack([self._draw(index_generator(seed, i, _CLASS_DRAW), pipeline.shares) for i in indices])
        }

    @staticmethod
    def _draw(generator: torch.Generator, quantiles: Tensor) -> Tensor:
        present = (quantiles[:, -1] > 0).nonzero()[:, 0]
        number = present[torch.randint(len(present), (), generator=generator)]
        # Linear between quantiles, as the inverse of the distribution function
        position = torch.rand((), generator=generator) * (quantiles.shape[1] - 1)
        low = int(position)
        share = torch.lerp(
            quantiles[number, low], quantiles[number, min(low + 1, quantiles.shape[1] - 1)], position - low
        )
        asked = torch.full((len(quantiles),), torch.nan)
        asked[number] = share
        return asked


class TrainClasses(Condition):
    """The shares of all classes as in a train sample.

    The rows that the checkpoint keeps are gone through round by round, in an order drawn for each: where a few samples
    hold most of a class, independent draws of hundreds would miss its frequency by a quarter. A class that none of them
    holds is free.
    """

    # To prefer pairs that are typical of their shares would make them more alike than train samples are
    guidance = 1.0

    def identity(self) -> dict[str, Any]:
        """Its name."""
        return {'classes': 'train'}

    def arguments(self, indices: Sequence[int], pipeline: SpecDMPipeline, seed: int) -> dict[str, Any]:
        """One row of shares for each sample.

        Raises:
            SpecDMError: The checkpoint does not know the class shares of its train samples.
        """
        rows = pipeline.share_rows
        if rows is None or not len(rows):
            raise SpecDMError('this generator does not know the class shares of its train samples')
        known = torch.where(rows.amax(0) > 0, rows, torch.nan)
        return {'shares': torch.stack([known[self._row(i, len(rows), seed)] for i in indices])}

    @staticmethod
    def _row(index: int, rows: int, seed: int) -> Tensor:
        turn, place = divmod(index, rows)
        return torch.randperm(rows, generator=index_generator(seed, turn, _CLASS_DRAW))[place]


class GivenStreams(Condition):
    """Some streams of each sample are those of a real sample: sample i takes them from number i modulo the length.

    Args:
        dataset: Real samples, with a spec.
        streams: Names, see :meth:`SpecDMPipeline.sample`.
        spec: Of the generator.

    Raises:
        SpecDMError: The dataset is empty, or its samples do not fit the generator's.
    """

    def __init__(self, dataset: Any, streams: Sequence[str], spec: DatasetSpec) -> None:
        if not len(dataset):
            raise SpecDMError('the dataset of given samples is empty')
        found = find_spec(dataset)
        if found is not None:
            spec.require_match(found, 'the generator', 'the given samples')
        self.dataset = dataset
        self.streams = tuple(streams)

    def identity(self) -> dict[str, Any]:
        """The streams, the number of samples, and a hash of the streams of at most 1024 of them, spread evenly."""
        count = len(self.dataset)
        digest = hashlib.sha256()
        for index in torch.linspace(0, count - 1, min(_PROBES, count)).long().tolist():
            sample = self.dataset[index]
            for name in self.streams:
                digest.update(self._stream(sample, name).numpy().tobytes())
        return {'given': list(self.streams), 'samples': count, 'sha256': digest.hexdigest()}

    def arguments(self, indices: Sequence[int], pipeline: SpecDMPipeline, seed: int) -> dict[str, Any]:
        """Batches of the given streams."""
        samples = [self.dataset[index % len(self.dataset)] for index in indices]
        return {
            'given': {name: torch.stack([self._stream(sample, name) for sample in samples]) for name in self.streams}
        }

    @staticmethod
    def _stream(sample: Mapping[str, Tensor], name: str) -> Tensor:
        if name in ('image', 'mask'):
            return sample[name]
        return sample['image'][int(name == 'image2')]


class Agreement(Condition):
    """Images and masks are pulled towards those that go together.

    Args:
        scale: How strongly, see :meth:`SpecDMPipeline.sample`.
    """

    def __init__(self, scale: float) -> None:
        self.scale = float(scale)

    def identity(self) -> dict[str, Any]:
        """The scale."""
        return {'agreement': self.scale}

    def arguments(self, indices: Sequence[int], pipeline: SpecDMPipeline, seed: int) -> dict[str, Any]:
        """The scale."""
        return {'agreement': self.scale}


# Requests that are another for each sample, by the name that `classes` takes
DRAWN: dict[str, type[Condition]] = {'balanced': BalancedClasses, 'train': TrainClasses}


def make_conditions(
    checkpoint: Path,
    described: Description,
    classes: Mapping[str, float] | str | None,
    given: Any,
    given_streams: Sequence[str],
    agreement: float,
) -> tuple[Condition, ...]:
    """The conditions that arguments of :class:`~torchgeo_specdm.datasets.SpecDMSynthetic` ask for.

    Raises:
        SpecDMError: The generator does not know how to meet one, or a request makes no sense.
    """
    known, spec = known_conditions(checkpoint, described), described.spec
    conditions: list[Condition] = []
    if classes is not None:
        if isinstance(classes, str) and classes not in DRAWN:
            raise SpecDMError(f'classes is {classes!r}; it must be {" or ".join(DRAWN)}, or shares by class name')
        if 'shares' not in known:
            raise SpecDMError(f'{checkpoint} was trained without class shares: fit it with class_control: true')
        if classes == 'train' and not described.share_rows:
            raise SpecDMError(
                f"{checkpoint} keeps no class shares of train samples, which classes='train' needs: it was trained by "
                'an earlier release, or on no labels; train its denoiser again, with specdm fit --restart'
            )
        conditions.append(DRAWN[classes]() if isinstance(classes, str) else ClassShares(classes, spec))
    if given is not None:
        if wrong := [name for name in given_streams if name not in known]:
            streams = ', '.join(sorted(known - {'shares', 'agreement'})) or 'nothing'
            raise SpecDMError(f'{checkpoint} cannot take {wrong[0]} as given; it takes {streams}')
        conditions.append(GivenStreams(given, given_streams, spec))
    if agreement != 1:
        if 'agreement' not in known:
            raise SpecDMError(
                f'{checkpoint} never learned images without masks, as agreement needs: fit it with absent'
            )
        conditions.append(Agreement(agreement))
    return tuple(conditions)


def restore_conditions(identities: Sequence[Mapping[str, Any]], checkpoint: Path) -> tuple[Condition, ...]:
    """The conditions of these identities, in a process that has nothing else of them.

    Raises:
        SpecDMError: Samples are given, of which an identity holds but a hash.
    """
    told = {name: value for identity in identities for name, value in identity.items()}
    if not portable(identities):
        raise SpecDMError('given samples do not go to another process')
    described = read_description(checkpoint)
    return make_conditions(checkpoint, described, told.get('classes'), None, (), told.get('agreement', 1.0))


def portable(identities: Sequence[Mapping[str, Any]]) -> bool:
    """Whether conditions of these identities can be made anew from them."""
    return not any('given' in identity for identity in identities)
