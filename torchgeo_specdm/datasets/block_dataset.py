"""A dataset whose samples are read in blocks: when its settings are decided, and where its blocks come from."""

import math
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.utils.data import get_worker_info

from torchgeo_specdm.datasets.blocks import RecentBlocks, sample_bytes
from torchgeo_specdm.datasets.cache import BlockCache
from torchgeo_specdm.datasets.conditions import Condition, portable
from torchgeo_specdm.datasets.device import other_gpus, resolve_device
from torchgeo_specdm.datasets.generation import BlockGenerator
from torchgeo_specdm.datasets.plotted import Plotted
from torchgeo_specdm.datasets.settings import Settings, decide
from torchgeo_specdm.datasets.streamed import StreamedBlocks
from torchgeo_specdm.datasets.wishes import LOOK_AHEAD
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.hub import folder_name
from torchgeo_specdm.spec import DatasetSpec

_T = TypeVar('_T')


class BlockDataset(Plotted):
    """What :class:`~torchgeo_specdm.datasets.SpecDMSynthetic` is made of: blocks, opened by each process for itself.

    A subclass sets the attributes that are declared here before the first use, and calls ``_forget``.
    """

    checkpoint: Path
    spec: DatasetSpec
    length: int | None
    seed: int
    steps: int
    solver: str
    batch_size: int | None
    device: torch.device | None
    filter: Path | None
    candidates: int
    guidance: float | None
    precision: str
    compile: bool
    conditions: Sequence[Condition]
    cache: Path | None
    max_bytes: int | None
    fresh: bool
    # In memory that workers share, so that a new epoch reaches those that live on
    _epoch: torch.Tensor
    _settings: Settings | None = None
    # The first so many samples will be read, as far as anybody has said
    _expected = 0
    _halved = False

    def _forget(self) -> None:
        """Drop everything that belongs to this process."""
        self._pid = os.getpid()
        self._blocks: RecentBlocks | None = None

    def __getstate__(self) -> dict[str, Any]:
        """What a spawned worker receives: the settings if they are decided, but neither networks nor blocks."""
        return {name: value for name, value in self.__dict__.items() if name not in ('_pid', '_blocks')}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    @property
    def settings(self) -> Settings:
        """All that the samples depend on. Decided at the first use of the dataset; copies for workers share it.

        Raises:
            SpecDMError: The device cannot be used.
        """
        if self._settings is None:
            self._settings = decide(
                self.checkpoint,
                self.filter,
                self.conditions,
                resolve_device(self.device, forked=self._pid != os.getpid()),
                seed=self.seed,
                steps=self.steps,
                solver=self.solver,
                rounding=self.spec.dtype,
                batch_size=self.batch_size,
                candidates=self.candidates,
                guidance=self.guidance,
                precision=self.precision,
                compile=self.compile,
                fresh=self._epoch_length() if self.fresh else None,
            )
        return self._settings

    @property
    def block_size(self) -> int:
        """Samples generated together."""
        return self.settings.block_size

    def materialize(self, length: int | None = None, processes: int = 1, devices: int = 1) -> bool:
        """Generate all samples that are not in the cache yet, with a progress bar.

        After that, workers of a ``DataLoader`` only read, in any order, also where generation is on a GPU. An
        interrupted call continues where it was; processes that call it at once share the work.

        Args:
            length: The first so many samples; by default all.
            processes: So many generate on a CPU, this one among them, each on one core. Further ones are started where
                that pays, and none where samples are ``given``. They change no bit.
            devices: So many GPUs generate, that of this dataset among them, each with a process; as above.

        Returns:
            Whether all of them are in the cache now. False where it cannot be written to, of which a warning tells.

        Raises:
            TypeError: The dataset is open-ended, and ``length`` is not given.
            SpecDMError: There is no cache, the samples do not fit on the disk, or the device cannot be used, or there
                are fewer. With ``fresh``, the samples have no end.
        """
        if self.cache is None:
            raise SpecDMError('there is nowhere to keep samples with cache=None: make the dataset with a cache')
        if self.fresh:
            raise SpecDMError('fresh samples are generated while they are read: materialize() needs fresh=False')
        count = len(self) if length is None else length
        if self.settings.device_type == 'cpu':
            if devices > 1:
                raise SpecDMError(f'devices is {devices}, but there is no GPU: use processes={devices}')
            helpers = ['cpu'] * (processes - 1)
        else:
            helpers = other_gpus(self.device, devices)
        return self._guarded(lambda: self._open().fill(count, helpers))

    def reserve(self, length: int) -> bool:
        """Say how much disk the first ``length`` samples take, and make room for those that are not there.

        With ``fresh``, room is made for two epochs of that length.

        Returns:
            Whether they are kept on the disk, where workers of a ``DataLoader`` find them.

        Raises:
            SpecDMError: They do not fit.
        """
        return self._open().reserve(self._kept_samples(length))

    def expect(self, count: int) -> None:
        """Say that the first ``count`` samples will be read, of a dataset that may have no end.

        At the first use, the disk that they take is stated, and refused where there is less. Nothing behind them is
        generated ahead of need. Whoever mixes the dataset into another says so.
        """
        self._expected = max(self._expected, count)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch is read from now on, here and in all workers; without ``fresh`` it makes no difference.

        Blocks of other epochs than this and the next are deleted.
        """
        if not self.fresh:
            return
        self._epoch.fill_(epoch)
        if get_worker_info() is None:
            self._open().discard(self._kept_blocks())

    def _first(self) -> int:
        """Position of the first sample of the epoch in the endless dataset."""
        return int(self._epoch) * self._epoch_length() if self.fresh else 0

    def _epoch_length(self) -> int:
        if self.length is None:
            raise SpecDMError('an epoch of fresh samples has a length: give the dataset length=...')
        return self.length

    def _kept_samples(self, length: int) -> int:
        # Two epochs, which begin anywhere in a block
        shift = self.block_size - math.gcd(length, self.block_size)
        return 2 * length + shift if self.fresh else length

    def _kept_blocks(self) -> range:
        """Blocks of this epoch and the next of fresh samples."""
        size, first = self.block_size, self._first()
        return range(first // size, -(-(first + 2 * self._epoch_length()) // size))

    def _look_ahead(self, number: int) -> int:
        """The block (exclusive) up to which blocks are generated while block ``number`` is read."""
        if self.fresh:
            return self._kept_blocks().stop
        ahead = number + 1 + LOOK_AHEAD
        if not self._last:
            return ahead
        # Nobody is kept from reading behind the end
        return min(ahead, max(number + 1, -(-self._last // self.block_size)))

    @property
    def _last(self) -> int:
        """Where the samples end that will be read; 0 where nobody knows."""
        return self._expected if self.length is None else self.length

    def _open(self) -> RecentBlocks:
        """The blocks of the settings; in workers, a producer generates what is missing."""
        streams = bool(self.cache) and get_worker_info() is not None and portable(self.settings.conditions)
        if self._blocks is None or (streams and not isinstance(self._blocks, StreamedBlocks)):
            self._blocks = self._open_blocks(streams)
        return self._blocks

    def _open_blocks(self, streams: bool) -> RecentBlocks:
        settings = self.settings
        device = self.device or torch.device(settings.device_type)
        generate = BlockGenerator(settings, self.checkpoint, self.filter, self.conditions, device, self._pid)
        blocks = RecentBlocks(settings.block_size, generate)
        if self.cache:
            names = {'checkpoint': folder_name(self.checkpoint), 'dataset': self.spec.name}
            size = sample_bytes(self.spec, self.filter is not None)
            arguments = self.cache, names, size, generate, self.max_bytes
            blocks = StreamedBlocks(*arguments, end=self._look_ahead) if streams else BlockCache(*arguments)
            if isinstance(blocks, StreamedBlocks) and isinstance(self._blocks, BlockCache):
                blocks.adopt(self._blocks)
        if self._last:
            blocks.reserve(self._kept_samples(self._last))
        return blocks

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
        size = self.block_size
        if self._halved or size == 1:
            advice = f'try batch_size={size // 2}' if size > 1 else "use device='cpu'"
            raise SpecDMError(
                f'the GPU has too little free memory to generate {size} samples at once: {advice}'
            ) from error
        self._halved = True
        self.batch_size = size // 2
        self._settings = self._blocks = None
        warnings.warn(
            f'the GPU has too little free memory to generate {size} samples at once; from here on the samples are '
            f'those of batch_size={self.batch_size}',
            stacklevel=5,
        )
