"""What a training step and a sample cost on the device at hand."""

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from gpu_slices.plan import Stage
from gpu_slices.steps import allow_tf32, measure_step, open_data, peak_memory
from gpu_slices.train import Clock
from torchgeo_specdm.datasets.device import same_arithmetic
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.pipeline import SpecDMPipeline

# The words of a variant are those of steps.Switch; bf16 is what a task does on a GPU by itself
TRAIN_VARIANTS = (
    'float32',
    'float32 tf32',
    'bf16',
    'bf16 benchmark',
    'bf16 benchmark channels-last',
    'bf16 benchmark compile',
    'bf16 benchmark channels-last compile',
)
BATCHES = (1, 8, 64, 256)
ARITHMETIC = ('float32', 'tf32', 'bf16')
_STEPS = 20
# Measured for at least so long [s]
_LEAST = 3.0


def train_speed(
    stages: list[Stage], root: Path, clock: Clock, known: dict[str, Any], save: Callable[[Mapping[str, Any]], None],
    scale: float = 1.0,
) -> dict[str, Any]:  # fmt: skip
    """Time of a step and memory of each stage in each variant; compiling is measured on a GPU alone.

    Args:
        stages: Of a training that is done; the second one names the autoencoder.
        root: Where the trainings that are measured write.
        clock: When this call must end.
        known: What an earlier call measured, by stage and variant.
        save: Told of each measurement.
        scale: Of the steps that measure.

    Raises:
        SliceEndError: The time of this call is over.
    """
    for stage in stages:
        found, data = known.setdefault(stage.task, {}), None
        for variant in TRAIN_VARIANTS:
            if variant in found or ('compile' in variant and not torch.cuda.is_available()):
                continue
            clock.check(60 * scale)
            data = data or open_data(stage, root)
            try:
                found[variant] = measure_step(stage, data, root, variant, scale)
            except RuntimeError as error:
                # Too little memory, or a compiler that gives up: that is a result, too
                found[variant] = {'failed': (str(error).splitlines() or [type(error).__name__])[0]}
            save(known)
    return known


def sample_speed(
    checkpoint: Path, device: torch.device, clock: Clock, known: dict[str, Any],
    save: Callable[[Mapping[str, Any]], None], scale: float = 1.0,
) -> dict[str, Any]:  # fmt: skip
    """Samples per second at 20 steps by arithmetic and batch size; arguments as of :func:`train_speed`."""
    pipeline = SpecDMPipeline.from_pretrained(checkpoint, device)
    for arithmetic in ARITHMETIC:
        found = known.setdefault(arithmetic, {})
        for batch in BATCHES:
            size = max(1, round(batch * min(1.0, 10 * scale)))
            if str(size) in found:
                continue
            clock.check(20 * scale)
            if device.type == 'cuda':
                torch.cuda.reset_peak_memory_stats()
            try:
                seconds = _seconds(pipeline, arithmetic, size, _LEAST * scale)
                found[str(size)] = {'samples_per_second': size / seconds, 'memory_mb': peak_memory()}
            except torch.cuda.OutOfMemoryError:
                found[str(size)] = {'failed': 'out of memory'}
            save(known)
    return known


def _seconds(pipeline: SpecDMPipeline, arithmetic: str, size: int, least: float) -> float:
    """Time of a batch [s], decoding and the copy to the CPU included."""
    device = pipeline.device
    if arithmetic not in ARITHMETIC:
        raise SpecDMError(f'there is no arithmetic {arithmetic!r}; there is {", ".join(ARITHMETIC)}')
    if arithmetic == 'float32':
        context: Any = same_arithmetic(device)
    else:
        allow_tf32(True, True)
        context = torch.autocast(device.type, torch.bfloat16) if arithmetic == 'bf16' else nullcontext()
    with context:
        # The first one chooses kernels
        pipeline.sample(range(size), steps=_STEPS)
        start, done = time.monotonic(), 0
        while done == 0 or time.monotonic() - start < least:
            pipeline.sample(range(size), steps=_STEPS)
            done += 1
    return (time.monotonic() - start) / done
