"""What takes the time of a block on one core, part by part; arguments are those of the rows of sampling."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from loading_rows.measured import Row, Size, Times, one_thread
from loading_rows.sampling import BATCH, another_block, warm
from torchgeo_specdm.datasets.block_files import read_block, write_block
from torchgeo_specdm.datasets.device import same_arithmetic
from torchgeo_specdm.diffusion import index_generator
from torchgeo_specdm.diffusion.solver import make_solver
from torchgeo_specdm.pipeline import SpecDMPipeline


@one_thread()
def profile(checkpoint: str, times: Times, size: Size, folder: Path) -> list[Row]:
    """Shares of a block: the networks, the solver, noise, and what a cache adds."""
    dataset = warm(checkpoint)
    pipeline = SpecDMPipeline.from_pretrained(dataset.checkpoint)
    parts = _parts(pipeline, dataset.steps)
    block = dataset._open().block(0)
    file = folder / '0.safetensors'
    parts |= {
        'writing it': lambda: write_block(file, block, '', 0),
        'reading it, checksum included': lambda: read_block(file, '', 0, check=True),
    }
    times.measure(block=another_block(dataset), **{name: _again(work) for name, work in parts.items()})
    whole = times.median('block')
    rows = [Row('a block [s]', whole, note=f'{BATCH} pairs, {dataset.steps} steps, one core, no cache')]
    for name in parts:
        rows.append(Row(f'{name} [s]', times.median(name), note=f'{times.median(name) / whole:.1%}'))
    rest = whole - sum(times.median(name) for name in list(parts)[:-2])
    return [*rows, Row('rest of a block [s]', rest, note=f'{rest / whole:.1%}, by subtraction')]


def _again(work: Callable[[], object]) -> Callable[[int], Callable[[], object]]:
    return lambda number: work


def _parts(pipeline: SpecDMPipeline, steps: int) -> dict[str, Callable[[], object]]:
    """What a block consists of, each alone."""
    side = pipeline.spec.patch_size // pipeline.autoencoder.downsample
    shape = (pipeline.autoencoder.channels, side, side)
    z = torch.randn(BATCH, *shape)
    steps_of = _solver(pipeline, steps).timesteps

    def evaluate() -> None:
        with torch.no_grad(), same_arithmetic(pipeline.device):
            for t in steps_of:
                pipeline.denoiser(z, t.expand(BATCH))

    def solve() -> None:
        solver = _solver(pipeline, steps)
        generators: list[Any] = [index_generator(0, index) for index in range(BATCH)]
        for t in steps_of:
            solver.step(z, t, solver.scale_model_input(z, t), generator=generators)

    def decode() -> None:
        with torch.no_grad(), same_arithmetic(pipeline.device):
            pipeline.autoencoder.decode(z)

    return {
        f'{steps} evaluations of the denoiser': evaluate,
        'the solver, noise of its steps included': solve,
        'decoding': decode,
    }


def _solver(pipeline: SpecDMPipeline, steps: int) -> Any:
    solver = make_solver(str(pipeline.solver_defaults['solver']), pipeline.schedule)
    solver.set_timesteps(steps)
    return solver
