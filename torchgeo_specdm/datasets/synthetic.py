"""Samples of a trained generator, as a dataset with random access.

Block b holds the samples [bB, (b+1)B) for a batch size B. A block is always generated whole, as one batch and under
the same arithmetic, and never depends on what was asked for before: that is why neither the order of access nor
workers nor repetition change a bit of a sample.
"""

import operator
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils.data import Dataset
from torchgeo.datasets import NonGeoDataset

from torchgeo_specdm.catalogue import resolve
from torchgeo_specdm.datasets.blocks import Block, RecentBlocks, compact
from torchgeo_specdm.datasets.conditions import make_conditions
from torchgeo_specdm.datasets.device import parse_device, resolve_device, same_arithmetic
from torchgeo_specdm.datasets.filtered import FilterSummary, Verdict, fill_block, find_filter, load_filter, verdict
from torchgeo_specdm.diffusion import SOLVERS
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.pipeline import SpecDMPipeline
from torchgeo_specdm.plotting import plot_sample
from torchgeo_specdm.spec import DatasetSpec

_T = TypeVar('_T')
_BATCH_SIZE = {'cpu': 8, 'cuda': 64}


class _OpenEndedError(SpecDMError, TypeError):
    """The length of a dataset without one; a TypeError is what ``len()`` is expected to raise."""


class SpecDMSynthetic(NonGeoDataset):
    """Image-mask pairs drawn from a checkpoint, each a function of the checkpoint, ``seed`` and its index.

    Samples hold ``image`` (float32) and ``mask`` (int64) on the CPU, in the shapes of
    :mod:`torchgeo_specdm.spec` and the unit of the real dataset, and ``synthetic`` (0-d bool, True).

    Nothing is loaded before the first access. Recent blocks are kept in memory up to a fixed size; a dataset larger
    than that is best read in order, since a random access generates a whole block. On a CPU one thread generates, as
    the number of threads would change the last bits: use workers for more.

    Args:
        checkpoint: Folder written by ``specdm fit`` or :meth:`SpecDMPipeline.save_pretrained`; or a name that ``specdm
            checkpoints`` lists, or ``hf://owner/name[@revision]`` on the Hugging Face hub.
        length: Number of samples; by default the dataset has no end, and a ``MixedDataset`` takes what it needs.
        seed: Names one endless dataset of the checkpoint.
        steps: Time steps of the solver.
        solver: A name in :data:`torchgeo_specdm.diffusion.SOLVERS`; by default the checkpoint's.
        batch_size: Samples generated together; by default 8 on a CPU and 64 on a GPU. It moves float bits, by less
            than 1e-3 of a standard deviation.
        device: Where to generate. By default the GPU if there is one, but the CPU in a ``DataLoader`` worker: name
            it where the two must agree to the bit.
        keep: ``aligned`` serves what the filter of the checkpoint accepts; or the folder of another filter. Rejected
            pixels get the ignore index of the dataset, where it has one. By default, all samples are served.
        candidates: Batches of samples that are generated for one of accepted samples, at most; see
            :mod:`torchgeo_specdm.datasets.filtered`.
        classes: Share of pixels by class name (``{'water': 0.4}``; others are free), or ``balanced``, which asks for
            each class equally often. Needs a generator with class control.
        guidance: How strongly to pull towards the shares; 1 does not. By default the pipeline's.
        given: Real samples of which ``given_streams`` are kept while the rest is generated, sample i from number i
            modulo their number: ``given=real`` dresses real masks in new images.
        given_streams: ``mask``, ``image`` or, where each date is a stream, ``image1`` and ``image2``.
        transforms: Applied to each sample.

    Raises:
        CheckpointError: The checkpoint is missing, damaged, too new, not to be downloaded, or holds a pickle.
        SpecDMError: An argument is out of range, or there is no such filter. At the first access: CUDA is asked for
            and absent, or the process is forked.
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
        agreement: float = 1.0,
        given: Dataset[Any] | None = None,
        given_streams: Sequence[str] = ('mask',),
        transforms: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
    ) -> None:
        for name, value, least in (
            ('length', length, 0), ('seed', seed, 0), ('steps', steps, 1), ('batch_size', batch_size, 1),
            ('candidates', candidates, 1),
        ):  # fmt: skip
            if value is not None and value < least:
                raise SpecDMError(f'{name} is {value}; it must be at least {least}')
        if solver is not None and solver not in SOLVERS:
            raise SpecDMError(f'solver is {solver!r}; it must be one of {", ".join(SOLVERS)}')
        self.checkpoint = resolve(checkpoint)
        self.spec: DatasetSpec = SpecDMPipeline.read_spec(self.checkpoint)
        self.length = length
        self.seed = seed
        self.steps = steps
        self.solver = solver
        self.batch_size = batch_size
        self.device = None if device is None else parse_device(device)
        self.filter = None if keep is None else find_filter(keep, self.checkpoint, self.spec)
        self.candidates = candidates
        self.guidance = guidance
        self.agreement = agreement
        self.conditions = make_conditions(self.checkpoint, self.spec, classes, given, given_streams)
        self.transforms = transforms
        self._halved = False
        self._forget()

    def _forget(self) -> None:
        """Drop everything that belongs to this process."""
        self._pid = os.getpid()
        self._pipeline: SpecDMPipeline | None = None
        self._pair_filter: Any = None
        self._blocks = RecentBlocks()
        self._summaries: dict[int, FilterSummary] = {}

    def __getstate__(self) -> dict[str, Any]:
        """What a spawned worker receives: neither networks nor blocks."""
        own = ('_pid', '_pipeline', '_pair_filter', '_blocks', '_summaries')
        return {name: value for name, value in self.__dict__.items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
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

    @property
    def block_size(self) -> int:
        """Samples generated together; the networks are loaded to know it."""
        return self._load()

    def verdict(self, index: int) -> Verdict:
        """What the filter said of the sample at ``index``.

        Raises:
            IndexError: There is no such sample.
            SpecDMError: The dataset is not filtered.
        """
        if self.filter is None:
            raise SpecDMError("there are no verdicts without a filter: make the dataset with keep='aligned'")
        position = self._position(index)
        return self._guarded(lambda: verdict(*self._blocks.find(position, self._load(), self._generate)))

    def filter_summary(self, index: int | None = None) -> FilterSummary:
        """Counts of the filter over all blocks that this process has generated so far, each counted once.

        Args:
            index: Count the block of this sample alone.

        Raises:
            SpecDMError: The dataset is not filtered.
        """
        if index is None:
            return sum(self._summaries.values(), FilterSummary())
        self.verdict(index)
        return self._summaries[self._position(index) // self.block_size]

    def plot(self, sample: dict[str, Tensor], show_titles: bool = True, suptitle: str | None = None) -> Figure:
        """The image (both dates), its mask and, if the sample has one, a prediction.

        Args:
            sample: A sample of this dataset; ``prediction`` is shaped as ``mask``.
            show_titles: Whether each panel has a title.
            suptitle: Title of the figure.

        Returns:
            The figure; the caller closes it.
        """
        return plot_sample(sample, self.spec, show_titles, suptitle)

    def _position(self, index: int) -> int:
        position = operator.index(index)
        if position < 0:
            position += 0 if self.length is None else self.length
        if position < 0 or (self.length is not None and position >= self.length):
            raise IndexError(f'index {index} is out of range of a synthetic dataset of length={self.length}')
        return position

    def _read(self, positions: Sequence[int]) -> list[dict[str, Any]]:
        size = self._load()
        samples = self._blocks.samples(positions, size, self._generate)
        samples = samples if self.transforms is None else [self.transforms(sample) for sample in samples]
        return [sample | {'synthetic': torch.tensor(True)} for sample in samples]

    def _generate(self, number: int) -> Block:
        """Compute block ``number``; a function of the settings alone."""
        size = self._load()
        if self._pair_filter is None:
            return compact(self._sample(number), self.spec)
        numbers = range(number * self.candidates, (number + 1) * self.candidates)
        batches = ((range(n * size, (n + 1) * size), self._sample(n)) for n in numbers)
        with same_arithmetic(self._pair_filter.judge.mean.device):
            block, self._summaries[number] = fill_block(batches, self._pair_filter, size)
        return compact(block, self.spec)

    def _sample(self, number: int) -> Block:
        """Batch ``number`` as the generator makes it."""
        size, pipeline = self._load(), self._pipeline
        assert pipeline is not None
        indices = range(number * size, (number + 1) * size)
        asked: dict[str, Any] = {'guidance': self.guidance, 'agreement': self.agreement}
        for condition in self.conditions:
            asked |= condition.arguments(indices, pipeline, self.seed)
        with same_arithmetic(pipeline.device):
            return pipeline.sample(indices, seed=self.seed, steps=self.steps, solver=self.solver, **asked)

    def _load(self) -> int:
        """Load the networks if this process has not yet, and return the size of a block."""
        if self._pid != os.getpid():
            if self.device is not None and self.device.type == 'cuda':
                raise SpecDMError(
                    'CUDA cannot be used in a forked process: give the DataLoader num_workers=0 or '
                    "multiprocessing_context='spawn', or the dataset device='cpu'"
                )
            if self._pipeline is not None and self._pipeline.device.type == 'cuda':
                self._forget()
            self._pid = os.getpid()
        if self._pipeline is None:
            device = resolve_device(self.device)
            self._pair_filter = None if self.filter is None else load_filter(self.filter, device)
            self._pipeline = SpecDMPipeline.from_pretrained(self.checkpoint, device)
        return self.batch_size or _BATCH_SIZE.get(self._pipeline.device.type, _BATCH_SIZE['cpu'])

    def _guarded(self, work: Callable[[], _T]) -> _T:
        """The result of ``work``, once again with half the batch size where the GPU has too little memory."""
        try:
            return work()
        except torch.cuda.OutOfMemoryError as error:
            self._halve(error)
        # Outside the handler: the traceback would keep the tensors of the failed batch alive
        torch.cuda.empty_cache()
        return self._guarded(work)

    def _halve(self, error: torch.cuda.OutOfMemoryError) -> None:
        size = self._load()
        if self._halved or size == 1:
            advice = f'try batch_size={size // 2}' if size > 1 else "use device='cpu'"
            raise SpecDMError(
                f'the GPU has too little free memory to generate {size} samples at once: {advice}'
            ) from error
        self._halved = True
        self.batch_size = size // 2
        self._blocks.clear()
        self._summaries.clear()
        warnings.warn(
            f'the GPU has too little free memory to generate {size} samples at once; from here on the samples are '
            f'those of batch_size={self.batch_size}',
            stacklevel=5,
        )
