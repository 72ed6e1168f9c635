"""What observers see of generated and of real samples, and plain figures of it; kept in parts, like quality.py's rows.

Generation is on the GPU, observers are on the CPU's cores.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpu_slices.train import Clock
from torchgeo_specdm.alignment.copies import COPY_RATIO
from torchgeo_specdm.checkpoint import folder_hash
from torchgeo_specdm.comparison import Counts, mean_iou, sum_samples
from torchgeo_specdm.datasets.device import same_arithmetic
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.evaluation.cache import Cache, fingerprint
from torchgeo_specdm.evaluation.copying import CopyObserver
from torchgeo_specdm.evaluation.fidelity import FeatureObserver
from torchgeo_specdm.evaluation.observation import Observer, Rows, join_rows
from torchgeo_specdm.evaluation.quality import kept_parts, kept_rows
from torchgeo_specdm.evaluation.rule import RuleObserver
from torchgeo_specdm.evaluation.spectra import SpectraObserver
from torchgeo_specdm.functional import spectral_angle
from torchgeo_specdm.functional.distances import frechet_distance, kernel_distance
from torchgeo_specdm.functional.spectra import ClassSums
from torchgeo_specdm.pipeline import SpecDMPipeline
from torchgeo_specdm.spec import DatasetSpec, find_spec

# Samples generated together, as SpecDMSynthetic does, and samples that one core observes at a time
BLOCK, _PIECE = {'cuda': 64, 'cpu': 8}, 8
# Real samples in memory at a time
_REAL = 128
Side = Mapping[str, Rows]


@contextmanager
def one_thread_each() -> Iterator[ThreadPoolExecutor]:
    """A pool of the CPU's cores; PyTorch computes without Python's lock."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)


def see(image: Tensor, mask: Tensor, observers: Sequence[Observer], pool: ThreadPoolExecutor) -> dict[str, Rows]:
    """Rows of a batch in the shapes of :meth:`Observer.observe`, seen in pieces."""
    pieces = list(zip(image.split(_PIECE), mask.split(_PIECE), strict=True))
    found = {}
    for observer in observers:
        if isinstance(observer, FeatureObserver) and observer.extractor.device.type == 'cuda':
            # The threads would wait for one GPU
            found[observer.name] = observer.observe(image, mask)
            continue
        parts = list(pool.map(lambda piece, observer=observer: observer.observe(*piece), pieces))  # type: ignore[misc]
        found[observer.name] = join_rows(parts)
    return found


def observed_shape(batch: Mapping[str, Tensor], spec: DatasetSpec) -> tuple[Tensor, Tensor]:
    """A batch of samples with a date axis and without the mask's channel."""
    image, mask = batch['image'], batch['mask']
    return (image if spec.num_dates > 1 else image[:, None]), mask.view(len(mask), *mask.shape[-2:])


def real_rows(dataset: Any, observers: Sequence[Observer], cache: Cache) -> dict[str, Rows]:
    """Rows of all samples of a dataset, kept in ``cache`` by the bytes of some samples."""
    found: dict[str, Rows] = {}
    samples = fingerprint(dataset, range(len(dataset)))
    for observer in observers:
        name, key = observer.name.replace('/', '-'), {'samples': samples, 'observer': observer.settings}
        rows = cache.load(name, key)
        if rows is None:
            rows = _see_all(dataset, observer)
            cache.save(name, key, rows)
        found[observer.name] = rows
    return found


def _see_all(dataset: Any, observer: Observer) -> dict[str, Tensor]:
    parts, spec = [], find_spec(dataset)
    assert spec is not None
    with one_thread_each() as pool:
        for start in range(0, len(dataset), _REAL):
            samples = [dataset[index] for index in range(start, min(start + _REAL, len(dataset)))]
            batch = {name: torch.stack([sample[name] for sample in samples]) for name in ('image', 'mask')}
            parts.append(see(*observed_shape(batch, spec), [observer], pool)[observer.name])
    return join_rows(parts)


def known_rows(
    cache: Cache, depends: Mapping[str, Any], count: int, observers: Sequence[Observer]
) -> dict[str, Rows]:  # fmt: skip
    """Rows of the first ``count`` samples of a generator, that :class:`Generated` has kept.

    Raises:
        SpecDMError: They are not there.
    """
    found: dict[str, Rows] = {}
    for observer in observers:
        keys = [kept_rows(depends, part, observer) for part in kept_parts(count)]
        parts = [cache.load(*key) for key in keys]
        there = [part for part in parts if part is not None]
        if len(there) < len(parts):
            raise SpecDMError(f'rows of {observer.name} are not in {cache.folder}: bring back what gpu.py sends')
        found[observer.name] = join_rows(there)
    return found


class Generated:
    """Rows of a checkpoint's samples, in parts of 512 under the names that quality.py looks for.

    Args:
        checkpoint: The generator.
        cache: Where rows are kept.
        device: Where samples are generated.
        clock: When this call must end.
        block: Samples that are generated together; as many as SpecDMSynthetic does by default.
    """

    def __init__(
        self, checkpoint: Path, cache: Cache, device: torch.device, clock: Clock, block: int | None = None
    ) -> None:
        self.block = block or BLOCK[device.type]
        self.pipeline = SpecDMPipeline.from_pretrained(checkpoint, device)
        self.weights, self.cache, self.clock = folder_hash(checkpoint), cache, clock

    def rows(
        self, count: int, observers: Sequence[Observer], keep: Callable[[Path], None], **sampling: Any
    ) -> dict[str, Rows]:
        """What observers see of the first ``count`` samples.

        Args:
            count: Number of samples.
            observers: Of these.
            keep: Told the file of each part.
            sampling: Arguments of :meth:`SpecDMPipeline.sample`.

        Raises:
            SliceEndError: The time of this call is over; what was observed is kept.
        """
        parts = []
        for chosen in kept_parts(count):
            kept = {o.name: kept_rows({'weights': self.weights, **sampling}, chosen, o) for o in observers}
            part: dict[str, Any] = {name: self.cache.load(*key) for name, key in kept.items()}
            if any(rows is None for rows in part.values()):
                part = self._observe(chosen, observers, sampling)
                for name, rows in part.items():
                    self.cache.save(*kept[name], rows)
            for key in kept.values():
                keep(self.cache.path(*key).with_suffix('.safetensors'))
            parts.append(part)
        return {name: join_rows([part[name] for part in parts]) for name in parts[0]}

    def _observe(self, chosen: range, observers: Sequence[Observer], sampling: Mapping[str, Any]) -> dict[str, Rows]:
        found, longest = [], 0.0
        for start in range(chosen.start, chosen.stop, self.block):
            self.clock.check(longest)
            began = time.monotonic()
            with same_arithmetic(self.pipeline.device):
                # A block is generated whole, since its size changes the last bits
                block = self.pipeline.sample(range(start, start + self.block), **sampling)
            batch = {name: values[: chosen.stop - start] for name, values in block.items()}
            with one_thread_each() as pool:
                found.append(see(*observed_shape(batch, self.pipeline.spec), observers, pool))
            longest = max(longest, time.monotonic() - began)
        return {name: join_rows([part[name] for part in found]) for name in found[0]}


def distances(made: Side, train: Side, held_out: Side) -> dict[str, float]:
    """FD and KID of generated and of held-out images to train images, at one N for both; of each extractor and date."""
    figures = {}
    for name in (name for name in made if name.startswith('features/')):
        for date in made[name]:
            sides = [side[name][date].float() for side in (train, made, held_out)]
            count = min(len(side) for side in sides)
            base, ours, real = (side[_even(len(side), count)] for side in sides)
            label = f'{name.removeprefix("features/")} {date}'
            figures |= {
                f'{label} N': float(count),
                f'{label} FD': frechet_distance(base, ours),
                f'{label} FD of held-out': frechet_distance(base, real),
                f'{label} KID': kernel_distance(base, ours),
                f'{label} KID of held-out': kernel_distance(base, real),
            }
    return figures


def figures(made: Side, train: Side, held_out: Side) -> dict[str, float]:
    """All that rows say, without intervals: quality.py has these."""
    found = distances(made, train, held_out)
    means = [_class_means(side[SpectraObserver.name]) for side in (made, train, held_out)]
    for name, mean in (('spectral angle [rad]', means[0]), ('spectral angle of held-out [rad]', means[2])):
        found[name] = float(spectral_angle(mean, means[1], dim=-1).nanmean())
    if RuleObserver.name in made:
        counts = Counts(*(made[RuleObserver.name][name] for name in Counts._fields))
        found['exact alignment, mIoU'] = float(mean_iou(sum_samples(counts)))
    if CopyObserver.name in made and CopyObserver.name in held_out:
        for name, side in (('copies', made), ('copies of held-out', held_out)):
            found[name] = float((side[CopyObserver.name]['ratio'] < COPY_RATIO).double().mean())
    return found


def _even(length: int, count: int) -> Tensor:
    return torch.linspace(0, length - 1, count).long()


def _class_means(rows: Rows) -> Tensor:
    """Mean spectra ``(T, K, C)`` over all samples."""
    pixels, sums = rows['pixels'].double().sum(0), rows['sum'].double().sum(0)
    return ClassSums(pixels, sums, sums).mean
