r"""What bands cost on a CPU: memory and time of training and sampling by the number of bands, as a table.

    python examples/benchmarks/hyperspectral.py --bands 100 150 200 250 --out runs/hyperspectral

A scene of random fields is written as ENVI with wavelengths, and read, window by window, by ``SceneDataModule``. Sizes
are those of examples/conf/indian-pines.yaml, patches are of 64 px. Each row is measured in a process of its own: the
most memory that it ever had, libraries included, and processor time on one thread, which other programs hardly change:
the median of the steps after the first, reading included. Rows are kept in OUT/rows.json, so that an interrupted run
goes on.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STAGES = ('autoencoder', 'diffusion', 'sampling')
# The range of AVIRIS [nm]
FIRST, LAST = 400.0, 2500.0
CLASSES = ['soil', 'crop', 'forest', 'water']


@dataclass(frozen=True)
class Size:
    """How much is measured: of the scene and of a patch [px], of batches, and how many steps."""

    scene: int = 320
    patch: int = 64
    batch: int = 16
    latents: int = 64
    samples: int = 8
    solver_steps: int = 20
    steps: int = 5


FAST = Size(scene=96, patch=16, batch=4, latents=4, samples=2, solver_steps=2, steps=3)


def write_scene(folder: Path, bands: int, size: int) -> None:
    """``scene.img`` with its header, uint16, and ``labels.npy``."""
    import numpy as np
    import rasterio

    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    labels = random.integers(len(CLASSES), size=(size // 16 + 1,) * 2).repeat(16, 0).repeat(16, 1)[:size, :size]
    spectra = random.integers(500, 4000, size=(bands, len(CLASSES)))
    profile = {'driver': 'ENVI', 'count': bands, 'height': size, 'width': size, 'dtype': 'uint16'}
    with rasterio.open(folder / 'scene.img', 'w', **profile) as file:
        for band in range(bands):
            noise = random.integers(200, size=(size, size))
            file.write((spectra[band][labels] + noise).astype(np.uint16), band + 1)
    wavelengths = ', '.join(f'{nm:.2f}' for nm in np.linspace(FIRST, LAST, bands))
    with (folder / 'scene.hdr').open('a', encoding='utf-8') as header:
        header.write(f'\nwavelength units = Nanometers\nwavelength = {{{wavelengths}}}\n')
    np.save(folder / 'labels.npy', labels.astype(np.uint8))


def datamodule(folder: Path, size: Size, batch_size: int) -> Any:
    """All bands of the scene."""
    from torchgeo_specdm.datamodules import SceneDataModule
    from torchgeo_specdm.datasets import Declared

    declared = Declared(CLASSES, (0.0, 5000.0), name='random fields', unit='counts')
    return SceneDataModule(folder, 'scene.img', 'labels.npy', size.patch, declared, batch_size=batch_size)


def train(stage: str, folder: Path, size: Size) -> list[float]:
    """Processor time from step to step [s]."""
    from lightning.pytorch import Callback, Trainer

    from torchgeo_specdm.tasks import AutoencoderTask, LatentDiffusionTask

    class Clock(Callback):
        """Notes when each step begins."""

        def __init__(self) -> None:
            self.starts: list[float] = []

        def on_train_batch_start(self, *_: Any) -> None:
            self.starts.append(time.process_time())

    task: Any = (
        AutoencoderTask(latent_channels=[6, 4], width=[64, 64])
        if stage == 'autoencoder'
        else LatentDiffusionTask(widths=[64, 128], depth=1, half_precision=True)
    )
    data = datamodule(folder, size, size.batch if stage == 'autoencoder' else size.latents)
    clock = Clock()
    quiet = {'logger': False, 'enable_checkpointing': False, 'enable_progress_bar': False, 'num_sanity_val_steps': 0}
    trainer = Trainer(
        accelerator='cpu',
        max_steps=size.steps,
        limit_val_batches=1,
        default_root_dir=folder,
        callbacks=[clock],
        enable_model_summary=False,
        **quiet,
    )
    trainer.fit(task, task.wrap_datamodule(data, folder))
    return [after - before for before, after in zip(clock.starts, clock.starts[1:], strict=False)]


def sample(folder: Path, size: Size) -> list[float]:
    """Processor time of a sample [s], generated in blocks as a dataset does it."""
    from torchgeo_specdm import SpecDMPipeline

    pipeline = SpecDMPipeline.from_pretrained(folder / 'checkpoint')
    times = []
    for block in range(3):
        start = time.process_time()
        pipeline.sample(range(block * size.samples, (block + 1) * size.samples), steps=size.solver_steps)
        times.append((time.process_time() - start) / size.samples)
    return times


def peak_memory() -> int:
    """The most memory this process had [kB]; Linux counts it from the start of the program."""
    status = Path('/proc/self/status').read_text(encoding='utf-8')
    return int(status.partition('VmHWM:')[2].split()[0])


def measure(stage: str, folder: Path, size: Size) -> None:
    """Print the row of one stage, in a process of its own."""
    import torch

    torch.set_num_threads(1)
    times = sample(folder, size) if stage == 'sampling' else train(stage, folder, size)
    print(json.dumps({'peak_kb': peak_memory(), 'seconds': statistics.median(times[1:] or times)}))


def rows(bands: Sequence[int], out: Path, fast: bool) -> dict[str, dict[str, float]]:
    """All rows, by bands and stage."""
    size, kept = FAST if fast else Size(), out / 'rows.json'
    found: dict[str, dict[str, float]] = json.loads(kept.read_text(encoding='utf-8')) if kept.is_file() else {}
    for count in bands:
        folder = out / f'{count}-bands'
        if not (folder / 'labels.npy').is_file():
            write_scene(folder, count, size.scene)
        for stage in STAGES:
            if f'{count} {stage}' in found:
                continue
            command = [sys.executable, __file__, '--measure', stage, '--out', str(folder), *['--fast'] * fast]
            printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found[f'{count} {stage}'] = json.loads(printed.splitlines()[-1])
            kept.write_text(json.dumps(found, indent=1), encoding='utf-8')
    return found


def table(found: dict[str, dict[str, float]], bands: Sequence[int]) -> list[str]:
    """Memory [GB] and time [s] of each stage, a line for each number of bands."""
    lines = [
        '| bands | ' + ' | '.join(f'{stage}: memory [GB] | time [s]' for stage in STAGES) + ' |',
        '|---' * (1 + 2 * len(STAGES)) + '|',
    ]
    for count in bands:
        cells = [found[f'{count} {stage}'] for stage in STAGES]
        figures = [f'{cell["peak_kb"] / 1e6:.2f} | {cell["seconds"]:.3g}' for cell in cells]
        lines.append(f'| {count} | {" | ".join(figures)} |')
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--bands', nargs='+', type=int, default=[100, 150, 200, 250])
    parser.add_argument('--out', type=Path, default=Path('runs/hyperspectral'))
    parser.add_argument('--fast', action='store_true', help='show in seconds that it runs; the figures mean nothing')
    parser.add_argument('--measure', choices=STAGES, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.measure:
        measure(args.measure, args.out, FAST if args.fast else Size())
    else:
        print('\n'.join(table(rows(args.bands, args.out, args.fast), args.bands)))


if __name__ == '__main__':
    main()
