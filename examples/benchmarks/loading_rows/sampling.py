"""How fast samples are generated, against the ways in which one would do it without this package.

Each function makes rows of a checkpoint (folder or name), the times that are known, the size of the benchmark and a
folder for caches. All use one core.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor

from loading_rows.measured import Row, Size, Times, one_thread
from torchgeo_specdm.datasets import SpecDMSynthetic
from torchgeo_specdm.pipeline import SpecDMPipeline

BATCH = 8
# Blocks in a repetition beside diffusers' loop: one takes a second, too short a time on cores that others use as well
_BLOCKS = 4


@one_thread()
def over_diffusers(checkpoint: str, times: Times, size: Size, folder: Path) -> list[Row]:
    """Pairs per second over diffusers' own loop, on the same weights and the same batch."""
    pipeline = SpecDMPipeline.from_pretrained(_folder(checkpoint))
    times.measure(
        ours=another_block(warm(checkpoint), _BLOCKS),
        ddpm=lambda number: partial(_loop, pipeline, DDPMScheduler, min(1000, size.steps)),
        ddim=lambda number: partial(_loop, pipeline, DDIMScheduler, min(50, size.steps)),
    )
    found = []
    for name, words, least in (('ddpm', 'DDPM, 1000 steps', 45.0), ('ddim', 'DDIM, 50 steps', 2.2)):
        ours = times.median('ours') / _BLOCKS
        ratio = times.median(name) / ours
        note = f'{times.median(name):.3g} s against {ours:.3g} s for {BATCH} pairs, one core'
        found.append(Row(f"pairs/s over diffusers' loop, {words}", ratio, f'>= {least:g}', ratio >= least, note))
    return found


@one_thread()
def over_single_samples(checkpoint: str, times: Times, size: Size, folder: Path) -> list[Row]:
    """Pairs per second over generating each sample when it is asked for."""
    single = warm(checkpoint, batch_size=1)
    times.measure(
        together=another_block(warm(checkpoint)),
        alone=lambda number: lambda: single.__getitems__(range(BATCH * (1 + number), BATCH * (2 + number))),
    )
    alone, together = times.median('alone'), times.median('together')
    note = f'{alone:.3g} s against {together:.3g} s for {BATCH} pairs, one core'
    return [Row('pairs/s over samples one by one', alone / together, '>= 1.3', alone / together >= 1.3, note)]


@one_thread()
def four_times_the_blocks(checkpoint: str, times: Times, size: Size, folder: Path) -> list[Row]:
    """Time to generate four times as many blocks into a cache, behind the first one."""

    def filling(factor: int, number: int) -> Callable[[], object]:
        dataset = warm(checkpoint, seed=number, cache=folder / f'blocks-{factor}')
        return lambda: dataset.materialize(BATCH * (1 + factor * size.blocks))

    times.measure(few=partial(filling, 1), many=partial(filling, 4))
    ratio = times.median('many') / times.median('few')
    note = f'{4 * size.blocks} blocks against {size.blocks}'
    return [Row('time of four times the blocks', ratio, '4.0 +- 0.2', abs(ratio - 4) <= 0.2, note)]


@one_thread()
def first_access(checkpoint: str, times: Times, size: Size, folder: Path) -> list[Row]:
    """Time until the first sample in a process that has imported everything, and what takes it."""
    networks = _folder(checkpoint)
    times.measure(
        first=lambda number: lambda: _dataset(checkpoint)[0],
        load=lambda number: lambda: SpecDMPipeline.from_pretrained(networks),
        block=another_block(warm(checkpoint)),
    )
    first, load, block = (times.median(name) for name in ('first', 'load', 'block'))
    note = f'networks {load / first:.0%}, block {block / first:.0%}, compiling none'
    return [Row('first access [s]', first, note=note)]


def another_block(dataset: SpecDMSynthetic, blocks: int = 1) -> Callable[[int], Callable[[], object]]:
    """Another block, or so many, in each repetition; not the first of the dataset."""
    size = dataset.block_size
    return lambda number: lambda: [dataset[size * (1 + number * blocks + block)] for block in range(blocks)]


def warm(checkpoint: str, **arguments: Any) -> SpecDMSynthetic:
    """A dataset that has loaded its networks for its first block."""
    dataset = _dataset(checkpoint, **arguments)
    dataset[0]
    return dataset


def _dataset(checkpoint: str, **arguments: Any) -> SpecDMSynthetic:
    return SpecDMSynthetic(checkpoint, **{'batch_size': BATCH, 'device': 'cpu', 'cache': None, **arguments})


def _folder(checkpoint: str) -> Path:
    return SpecDMSynthetic(checkpoint).checkpoint


@torch.no_grad()
def _loop(pipeline: SpecDMPipeline, kind: Any, steps: int) -> tuple[Tensor, Tensor]:
    """Diffusers' loop as its documentation has it, and the same decoder."""
    scheduler = kind(**pipeline.schedule.to_dict(), clip_sample=False)
    scheduler.set_timesteps(steps)
    size = pipeline.spec.patch_size // pipeline.autoencoder.downsample
    z = torch.randn(BATCH, pipeline.autoencoder.channels, size, size) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        z = scheduler.step(pipeline.denoiser(z, t.expand(BATCH)), t, z).prev_sample
    mean, std = (value.view(-1, 1, 1) for value in (pipeline.latent_mean, pipeline.latent_std))
    return pipeline.autoencoder.decode(z * std + mean)
