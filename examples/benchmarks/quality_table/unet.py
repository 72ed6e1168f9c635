"""A U-Net at equal compute: trained until it has seen as many patches (steps x batch) as the denoiser saw latents.

The network is the judge of :mod:`torchgeo_specdm.alignment.judge`; it learns from the same train split, in all eight
orientations. Patches seen are what a data set can be learned from; what a patch costs is said beside it.
"""

import math
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from quality_table.table import Table
from torchgeo_specdm.alignment.judge import Judge
from torchgeo_specdm.checkpoint import read_json
from torchgeo_specdm.datasets.device import resolve_device
from torchgeo_specdm.evaluation.cache import digest, fingerprint
from torchgeo_specdm.pipeline import SpecDMPipeline
from torchgeo_specdm.tasks.judge import train_judge


def equal_steps(table: Table) -> int | None:
    """Steps of the U-Net's training; None where the checkpoint does not say how long it learned."""
    seen = _seen(table)
    return math.ceil(seen / table.data.datamodule.batch_size) if seen else None


def train_unet(table: Table, steps: int) -> Judge:
    """A U-Net that learned from the train split; it is kept beside the rows."""
    module, train = table.data.datamodule, table.data.train
    depends = {'steps': steps, 'batch_size': module.batch_size, 'train': fingerprint(train, range(len(train)))}
    root = table.cache.folder / f'unet-{digest(depends)}'
    if not (root / 'judge').is_dir():
        # Lightning draws its progress where the table is printed
        with redirect_stdout(sys.stderr):
            train_judge(module, root, steps=steps, seed=1, spec=table.spec)
    return Judge.from_pretrained(root / 'judge').to(resolve_device(table.device))


def budget(table: Table, steps: int) -> str:
    """What both were given, in words."""
    spec, size, seen = table.spec, table.data.datamodule.batch_size, _seen(table)
    pipeline = SpecDMPipeline.from_pretrained(table.checkpoint)
    latents = torch.zeros(1, pipeline.autoencoder.channels, *[spec.patch_size // pipeline.autoencoder.downsample] * 2)
    costs = (
        _gigaflop(lambda: Judge.for_spec(spec).eval()(torch.zeros(1, *spec.image_shape))),
        _gigaflop(lambda: pipeline.denoiser(latents, torch.zeros(1, dtype=torch.long))),
    )
    return (
        f'U-Net: {steps} steps x {size} = {steps * size} patches of {costs[0]:.2g} GFLOP forward; '
        f'denoiser: {seen or "unknown"} of {costs[1]:.2g}'
    )


def _seen(table: Table) -> int | None:
    """Latents that the denoiser was shown, repetitions counted."""
    training = read_json(table.checkpoint / 'specdm.json').get('training', {})
    return training['steps'] * training['batch_size'] if {'steps', 'batch_size'} <= set(training) else None


def _gigaflop(run: Callable[[], Any]) -> float:
    """Arithmetic of a pass, that of attention left out."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return counter.get_total_flops() / 1e9
