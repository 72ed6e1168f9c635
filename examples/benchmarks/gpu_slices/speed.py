"""What a training step and a sample cost on the device at hand."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from gpu_slices.plan import Stage
from gpu_slices.rates import kernel_seconds, matrix_rate, now, operations
from gpu_slices.steps import measure_step, open_data, peak_memory, variants
from gpu_slices.train import Clock
from torchgeo_specdm.datasets import SpecDMSynthetic
from torchgeo_specdm.datasets.generation import BlockGenerator
from torchgeo_specdm.errors import SpecDMError

# The words of a variant are those of steps.Switch; bf16 is what a task does on a GPU by itself
TRAIN_VARIANTS = (
    'bf16 benchmark compile',
    'bf16 benchmark',
    'bf16 benchmark channels-last',
    'bf16',
    'float32 tf32',
    'float32',
)
BATCHES = (1, 64, 256)
# Of a dataset: words are a precision, compile and channels-last, the last of which no dataset has
SAMPLE_VARIANTS = ('32-true', 'bf16-mixed', 'bf16-mixed channels-last', 'bf16-mixed compile')
BLOCK = 64
_STEPS = 20
# Measured for at least so long [s]
_LEAST = 1.5


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
            if variant in found or ('compile' in variant and variant not in variants(stage.task)):
                continue
            clock.check(30 * scale)
            data = data or open_data(stage, root)
            found[variant] = measure_step(stage, data, root, variant, scale)
            save(known)
    return known


def sample_speed(
    checkpoint: Path, device: torch.device, clock: Clock, known: dict[str, Any],
    save: Callable[[Mapping[str, Any]], None], scale: float = 1.0,
) -> dict[str, Any]:  # fmt: skip
    """What blocks of a dataset cost at 20 steps; arguments as of :func:`train_speed`.

    Returns:
        ``variants``, what :func:`_measure_block` says by variant and batch size; of the others see
        :mod:`gpu_slices.rates`: ``matrix_rate``, ``operations`` of a block, and ``block``, its samples.
    """
    sizes = {batch: max(1, round(batch * min(1.0, 10 * scale))) for batch in BATCHES}
    if 'operations' not in known:
        clock.check(30 * scale)
        generate = _generator(checkpoint, device, '32-true', sizes[BLOCK])
        known |= {'block': sizes[BLOCK], 'matrix_rate': matrix_rate(device, scale)}
        known['operations'] = operations(lambda: generate(0))
        save(known)
    variants = known.setdefault('variants', {})
    for variant in SAMPLE_VARIANTS:
        # A CPU compiles for minutes; a rehearsal does it all the same, once
        if 'compile' in variant and device.type != 'cuda' and scale >= 1:
            continue
        found = variants.setdefault(variant, {})
        one = {'channels-last', 'compile'} & set(variant.split())
        for size in dict.fromkeys([sizes[BLOCK]] if one else sizes.values()):
            if str(size) in found:
                continue
            clock.check((90 if 'compile' in variant else 20) * scale)
            found[str(size)] = _measure_block(checkpoint, device, variant, size, _LEAST * scale)
            save(known)
    return known


def _measure_block(
    checkpoint: Path, device: torch.device, variant: str, size: int, least: float
) -> dict[str, float | str]:
    """Samples per second with decoding and the copy to the CPU, time of the first block, memory, time in kernels."""
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats()
    try:
        generate = _generator(checkpoint, device, variant, size)
        # The first one chooses kernels and compiles
        start = now(device)
        generate(0)
        first, done = now(device) - start, 0
        start = now(device)
        while done == 0 or now(device) - start < least:
            done += 1
            generate(done)
        seconds = (now(device) - start) / done
        busy = kernel_seconds(lambda: generate(0), device)
    except torch.cuda.OutOfMemoryError:
        return {'failed': 'out of memory'}
    except SpecDMError as error:
        # A compiler that gives up is a result, too
        return {'failed': str(error)}
    rates = {'samples_per_second': size / seconds, 'first_seconds': first, 'in_kernels': busy / seconds}
    return rates | {'memory_mb': peak_memory()}


def _generator(checkpoint: Path, device: torch.device, variant: str, size: int) -> BlockGenerator:
    """What generates the blocks of a dataset of this variant, its networks loaded."""
    precision, *words = variant.split()
    dataset = SpecDMSynthetic(
        checkpoint,
        steps=_STEPS,
        batch_size=size,
        device=device,
        precision=precision,
        compile='compile' in words,
        cache=None,
    )
    generate = BlockGenerator(dataset.settings, dataset.checkpoint, None, (), device, os.getpid())
    pipeline, _ = generate.load()
    if 'channels-last' in words:
        for network in (pipeline.denoiser, pipeline.autoencoder):
            network.to(memory_format=torch.channels_last)
    return generate
