"""Samples of a trained generator, as a dataset with random access.

Block b holds the samples [bB, (b+1)B) for a batch size B. A block is always generated whole, as one batch and under
the same arithmetic, and never depends on what was asked for before: that is why neither the order of access nor
workers nor repetition change a bit of a sample.
"""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from torchgeo_specdm.catalogue import resolve
from torchgeo_specdm.datasets.block_dataset import BlockDataset
from torchgeo_specdm.datasets.cache_home import default_home
from torchgeo_specdm.datasets.conditions import make_conditions
from torchgeo_specdm.datasets.device import parse_device
from torchgeo_specdm.datasets.filtered import FilterSummary, Verdict, find_filter, verdict
from torchgeo_specdm.datasets.precision import check_precision
from torchgeo_specdm.description import read_description
from torchgeo_specdm.diffusion import SOLVERS
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.spec import DatasetSpec


class _OpenEndedError(SpecDMError, TypeError):
    """The length of a dataset without one; a TypeError is what ``len()`` is expected to raise."""


class SpecDMSynthetic(BlockDataset):
    """Image-mask pairs drawn from a checkpoint, each a function of the checkpoint, ``seed`` and its index.

    Samples hold ``image`` (float32) and ``mask`` (int64) on the CPU, in the shapes of
    :mod:`torchgeo_specdm.spec` and the unit of the real dataset, and ``synthetic`` (0-d bool, True).

    Nothing is loaded before the first access. What was generated is kept on disk, and every dataset of the same
    :attr:`settings` reads it there; :meth:`materialize` generates all of it at once. Workers of a ``DataLoader`` only
    read: a process of its own generates what is missing (:mod:`torchgeo_specdm.datasets.streamed`). Without a cache,
    recent blocks are kept in memory up to a fixed size; a dataset larger than that is best read in order, since a
    random access generates a whole block. On a CPU one thread generates, as the number of threads would change the last
    bits: ``materialize(processes=...)`` and workers use more cores.

    Args:
        checkpoint: Folder written by ``specdm fit`` or :meth:`SpecDMPipeline.save_pretrained`; or a name that ``specdm
            checkpoints`` lists, or ``hf://owner/name[@revision]`` on the Hugging Face hub.
        length: Number of samples; by default the dataset has no end, and a ``MixedDataset`` takes what it needs.
        seed: Names one endless dataset of the checkpoint.
        steps: Time steps of the solver.
        solver: A name in :data:`torchgeo_specdm.diffusion.SOLVERS`; by default the checkpoint's.
        batch_size: Samples generated together; by default 8 on a CPU and 64 on a GPU. It moves float bits, by less
            than 1e-3 of a standard deviation, which may round to the next integer.
        device: Where to generate. By default the GPU if there is one; but the CPU in a ``DataLoader`` worker, unless
            the dataset was used before the workers started. Name it where that must not make a difference.
        keep: ``aligned`` serves what the filter of the checkpoint accepts; or the folder of another filter. Rejected
            pixels get the ignore index of the dataset, where it has one. By default, all samples are served.
        candidates: Batches of samples that are generated for one of accepted samples, at most; see
            :mod:`torchgeo_specdm.datasets.filtered`.
        classes: Share of pixels by class name (``{'water': 0.4}``; others are free); or ``balanced``, which asks for
            each class equally often; or ``train``, which asks each sample for the shares of a train sample, so that
            classes are as frequent as there. Needs a generator with class control.
        guidance: How strongly to prefer pairs of such shares; 1 does not. By default the pipeline's, and 1 for
            ``train``.
        given: Real samples of which ``given_streams`` are kept while the rest is generated, sample i from number i
            modulo their number: ``given=real`` dresses real masks in new images.
        given_streams: ``mask``, ``image`` or, where each date is a stream, ``image1`` and ``image2``.
        agreement: How strongly to pull images and masks towards those that go together (1.75, say, with half the
            steps), at three times the evaluations of a step; 1 does not. Needs a generator that was trained with
            ``absent``.
        precision: ``32-true`` or ``bf16-mixed``, for GPUs and CPUs that have such numbers: the denoiser multiplies in
            bfloat16, which makes samples that differ visibly from those of ``32-true``.
        compile: Compile the denoiser, once in each process and for each ``batch_size``: minutes, which pay for many
            samples.
        cache: Folder of the blocks of all datasets. True is ``$SPECDM_CACHE`` or, without that, the user's cache
            folder; None or False keeps blocks in memory.
        max_bytes: Largest size of that folder [byte]: blocks of datasets that nobody uses are deleted for it, those of
            the least recently used first.
        fresh: Other samples in each epoch: number i of epoch e is sample e · length + i of the endless dataset. Blocks
            of two epochs are kept at most; :meth:`set_epoch` says which epoch is read.
        transforms: Applied to each sample.

    Raises:
        CheckpointError: The checkpoint is missing, damaged, too new, not to be downloaded, or holds a pickle.
        SpecDMError: An argument is out of range, there is no such filter, or this PyTorch cannot compile. At the first
            access: CUDA is asked for and absent, or the process is forked; the dataset does not fit on the disk; the
            denoiser cannot be compiled.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        length: int | None = None,
        *,
        seed: int = 0,
        steps: int = 20,
        solver: str | None = None,
        batch_size: int | None = None,
        device: str | torch.device | None = None,
        keep: str | Path | None = None,
        candidates: int = 2,
        classes: Mapping[str, float] | str | None = None,
        guidance: float | None = None,
        given: Dataset[Any] | None = None,
        given_streams: Sequence[str] = ('mask',),
        agreement: float = 1.0,
        precision: str = '32-true',
        compile: bool = False,
        cache: bool | str | Path | None = True,
        max_bytes: int | None = None,
        fresh: bool = False,
        transforms: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
    ) -> None:
        for name, value, least in (
            ('length', length, 0), ('seed', seed, 0), ('steps', steps, 1), ('batch_size', batch_size, 1),
            ('candidates', candidates, 1), ('max_bytes', max_bytes, 0),
        ):  # fmt: skip
            if value is not None and value < least:
                raise SpecDMError(f'{name} is {value}; it must be at least {least}')
        if solver is not None and solver not in SOLVERS:
            raise SpecDMError(f'solver is {solver!r}; it must be one of {", ".join(SOLVERS)}')
        check_precision(precision, compile)
        self.checkpoint = resolve(checkpoint)
        described = read_description(self.checkpoint)
        self.spec: DatasetSpec = described.spec
        self.length = length
        self.seed = seed
        self.steps = steps
        self.solver = solver or str(described.solver['solver'])
        self.batch_size = batch_size
        self.device = None if device is None else parse_device(device)
        self.filter = None if keep is None else find_filter(keep, self.checkpoint, self.spec)
        self.candidates = candidates
        self.guidance = guidance
        self.precision = precision
        self.compile = compile
        self.conditions = make_conditions(self.checkpoint, described, classes, given, given_streams, agreement)
        self.cache = default_home() if cache is True else Path(cache) if cache else None
        self.max_bytes = max_bytes
        self.transforms = transforms
        self.fresh = fresh
        if fresh:
            self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
        self._forget()

    def __len__(self) -> int:
        """Number of samples.

        Raises:
            TypeError: The dataset is open-ended.
        """
        if self.length is None:
            raise _OpenEndedError(
                f'SpecDMSynthetic({str(self.checkpoint)!r}) is open-ended; give it length=... for its length, its '
                'string and iteration'
            )
        return self.length

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """All samples in order.

        Raises:
            TypeError: The dataset is open-ended.
        """
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The sample at ``index``.

        Raises:
            IndexError: There is no such sample.
            SpecDMError: The device cannot be used, or has too little memory.
        """
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """The samples at ``indices``; each block they need is generated at most once.

        Raises:
            IndexError: There is no such sample.
            SpecDMError: The device cannot be used, or has too little memory.
        """
        positions = [self._position(index) for index in indices]
        return self._guarded(lambda: self._read(positions))

    def verdict(self, index: int) -> Verdict:
        """What the filter said of the sample at ``index``.

        Raises:
            IndexError: There is no such sample.
            SpecDMError: The dataset is not filtered.
        """
        if self.filter is None:
            raise SpecDMError("there are no verdicts without a filter: make the dataset with keep='aligned'")
        position = self._position(index)

        def find() -> Verdict:
            blocks = self._open()
            return verdict(blocks.block(position // blocks.size), position % blocks.size)

        return self._guarded(find)

    def filter_summary(self, index: int | None = None) -> FilterSummary:
        """Counts of the filter over all blocks that this process has read so far, each counted once.

        Args:
            index: Count the block of this sample alone.

        Raises:
            SpecDMError: The dataset is not filtered.
        """
        if index is None:
            rows = {} if self._blocks is None else self._blocks.summaries
            return sum((FilterSummary(*row.tolist()) for row in rows.values()), FilterSummary())
        self.verdict(index)
        blocks = self._open()
        return FilterSummary(*blocks.summaries[self._position(index) // blocks.size].tolist())

    def _position(self, index: int) -> int:
        position = operator.index(index)
        if position < 0:
            position += 0 if self.length is None else self.length
        if position < 0 or (self.length is not None and position >= self.length):
            raise IndexError(f'index {index} is out of range of a synthetic dataset of length={self.length}')
        return self._first() + position

    def _read(self, positions: Sequence[int]) -> list[dict[str, Any]]:
        blocks = self._open()
        if self.fresh:
            blocks.forget(self._kept_blocks())
        samples = blocks.samples(positions)
        samples = samples if self.transforms is None else [self.transforms(sample) for sample in samples]
        return [sample | {'synthetic': torch.tensor(True)} for sample in samples]
