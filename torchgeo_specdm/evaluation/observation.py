"""What an evaluation knows of a dataset: rows, one per sample, made batch by batch and kept instead of the samples.

Every measure is a function of the rows of real and of synthetic samples, so that memory is bounded by the batch,
intervals resample rows, and the rows of the real side are computed once.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from torchgeo_specdm.spec import DatasetSpec

Rows = Mapping[str, Tensor]
"""Tensors ``(N, ...)`` by name; index i belongs to sample i."""


class Observer(ABC):
    """Turns a batch of samples into rows.

    Attributes:
        name: Names the observer among those of an evaluation.
    """

    name: str

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """All that the rows depend on besides the samples, as JSON types; equal settings mean equal rows."""

    @abstractmethod
    def observe(self, image: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Rows of a batch.

        Args:
            image: ``(B, T, C, H, W)`` float32, T dates, raw units.
            mask: ``(B, H, W)`` int64; a value that is no class is ignored.

        Returns:
            Tensors ``(B, ...)`` on the CPU, the same names for every batch.
        """


@dataclass(frozen=True)
class Sides:
    """Rows by observer of the samples that an evaluation compares.

    Attributes:
        spec: Describes all samples.
        train: Real samples that the generator learned from.
        held_out: Real samples that neither the generator nor a judge has seen.
        synthetic: Generated samples.
        halves: 0 or 1 for each train sample, so that samples of different halves share no ground, -1 for a sample
            between; ``(N,)`` int64. The distance between the halves is the real-against-real floor.
    """

    spec: DatasetSpec
    train: Mapping[str, Rows]
    held_out: Mapping[str, Rows]
    synthetic: Mapping[str, Rows]
    halves: Tensor


def draw(dataset: Any, count: int | None, seed: int = 0) -> list[int]:
    """At most ``count`` indices of a dataset (all for None), drawn at random from ``seed``, in their order."""
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed))[:count]
    return order.sort().values.tolist()


def observe(
    dataset: Any, indices: Sequence[int], observers: Sequence[Observer], *, batch_size: int = 16, text: str = ''
) -> dict[str, dict[str, Tensor]]:
    """Show samples to all observers in one pass.

    Args:
        dataset: A map-style dataset in the shapes of :mod:`torchgeo_specdm.spec`.
        indices: Which samples, in which order.
        observers: Their rows are asked for.
        batch_size: Samples in memory at a time.
        text: What the progress bar says.

    Returns:
        By observer name, its rows ``(len(indices), ...)``.
    """
    parts: dict[str, list[dict[str, Tensor]]] = {observer.name: [] for observer in observers}
    starts = range(0, len(indices), batch_size) if observers else range(0)
    with tqdm(total=len(indices) if observers else 0, desc=text, unit='patch', disable=not observers) as bar:
        for start in starts:
            image, mask = _batch([dataset[index] for index in indices[start : start + batch_size]])
            for observer in observers:
                parts[observer.name].append(observer.observe(image, mask))
            bar.update(len(image))
    return {name: join_rows(found) for name, found in parts.items()}


def join_rows(parts: Sequence[Rows]) -> dict[str, Tensor]:
    """Rows of all samples of which each part, at least one, has some: ``(N, ...)`` by name."""
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def _batch(samples: Sequence[Mapping[str, Tensor]]) -> tuple[Tensor, Tensor]:
    image = torch.stack([sample['image'].float() for sample in samples])
    mask = torch.stack([sample['mask'].long() for sample in samples])
    return (image if image.ndim == 5 else image.unsqueeze(1)), mask.view(len(mask), *mask.shape[-2:])


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """A hash for an observer's settings: equal names and values, equal hashes."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(name.encode() + tensors[name].detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]
