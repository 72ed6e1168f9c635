"""What makes a block: the networks of a checkpoint, the settings and a number."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from torchgeo_specdm.datasets.blocks import Block, compact
from torchgeo_specdm.datasets.conditions import Condition, portable, restore_conditions
from torchgeo_specdm.datasets.device import check_device, same_arithmetic
from torchgeo_specdm.datasets.filtered import fill_block, load_filter
from torchgeo_specdm.datasets.precision import set_precision
from torchgeo_specdm.datasets.settings import Settings
from torchgeo_specdm.pipeline import SpecDMPipeline

if TYPE_CHECKING:
    from torchgeo_specdm.alignment.filter import PairFilter


class BlockGenerator:
    """Generates blocks; the networks are loaded for the first.

    Args:
        settings: What the samples depend on.
        checkpoint: Folder of the generator.
        pair_filter: Folder of the filter, where the settings name one.
        conditions: Of which the settings hold the identities.
        device: Where to generate.
        owner: Process that may use CUDA; one that was forked from it may not.
    """

    def __init__(
        self,
        settings: Settings,
        checkpoint: Path,
        pair_filter: Path | None,
        conditions: Sequence[Condition],
        device: torch.device,
        owner: int,
    ) -> None:
        self.settings = settings
        self.checkpoint = checkpoint
        self.filter = pair_filter
        self.conditions = conditions
        self.device = device
        self._owner = owner
        self._networks: tuple[SpecDMPipeline, PairFilter | None] | None = None

    @classmethod
    def from_job(cls, job: Mapping[str, Any]) -> 'BlockGenerator':
        """The generator of a job, in the process that will use it."""
        settings = Settings(**job['settings'])
        checkpoint, pair_filter = Path(job['checkpoint']), job['filter']
        return cls(
            settings,
            checkpoint,
            None if pair_filter is None else Path(pair_filter),
            restore_conditions(settings.conditions, checkpoint),
            torch.device(job['device']),
            os.getpid(),
        )

    def job(self, **cache: Any) -> dict[str, Any] | None:
        """All that another process needs to generate the same blocks, as JSON values; None where samples are given.

        Args:
            cache: What it needs beside, as JSON values.
        """
        if not portable(self.settings.conditions):
            return None
        return {
            'settings': self.settings.to_dict(),
            'checkpoint': str(self.checkpoint.absolute()),
            'filter': None if self.filter is None else str(self.filter.absolute()),
            'device': str(self.device),
            'key': self.settings.key,
            **cache,
        }

    # Weights that were loaded in inference mode could not steer later, and compiled code would be another
    @torch.inference_mode(False)
    def __call__(self, number: int) -> Block:
        """Block ``number``, a function of the settings alone, in compact types.

        Returns:
            ``image``, ``mask``; with a filter the fields of
            :class:`~torchgeo_specdm.datasets.filtered.Verdict` and ``summary``, the counts of the filter.

        Raises:
            SpecDMError: The device cannot be used, or the weights are no longer those of the settings.
        """
        pipeline, pair_filter = self.load()
        if pair_filter is None:
            # Smaller before it leaves a GPU
            block = compact(self._sample(number, pipeline, pipeline.device), pipeline.spec)
            return {name: value.cpu() for name, value in block.items()}
        size, candidates = self.settings.block_size, self.settings.candidates or 1
        numbers = range(number * candidates, (number + 1) * candidates)
        batches = ((range(n * size, (n + 1) * size), self._sample(n, pipeline, 'cpu')) for n in numbers)
        with same_arithmetic(pair_filter.judge.mean.device):
            block, summary = fill_block(batches, pair_filter, size)
        return compact(block, pipeline.spec) | {'summary': torch.tensor(astuple(summary))}

    def load(self) -> 'tuple[SpecDMPipeline, PairFilter | None]':
        """The networks, loaded at the first call.

        Raises:
            SpecDMError: The device cannot be used, or the weights are no longer those of the settings.
        """
        check_device(self.device, forked=os.getpid() != self._owner)
        if self._networks is None:
            pair_filter = None if self.filter is None else load_filter(self.filter, self.device)
            pipeline = SpecDMPipeline.from_pretrained(self.checkpoint, self.device)
            # After loading: a checkpoint that is replaced meanwhile must not pass for the old one
            self.settings.require(self.checkpoint, self.filter, self.device)
            set_precision(pipeline.denoiser, self.settings.precision, self.settings.compile)
            self._networks = pipeline, pair_filter
        return self._networks

    def _sample(self, number: int, pipeline: SpecDMPipeline, device: torch.device | str) -> Block:
        """Batch ``number`` as the generator makes it, on ``device``."""
        settings = self.settings
        indices = range(number * settings.block_size, (number + 1) * settings.block_size)
        asked: dict[str, Any] = {'guidance': settings.guidance}
        for condition in self.conditions:
            asked |= condition.arguments(indices, pipeline, settings.seed)
        asked |= {'seed': settings.seed, 'steps': settings.steps, 'solver': settings.solver, 'device': device}
        with same_arithmetic(pipeline.device):
            return pipeline.sample(indices, **asked)
