"""A world of the size of a thumbnail, for ``--fast``: random scenes, and generators that learned nothing.

It shows that an experiment runs from its first to its last step, and nothing else. Samples of its generators are noise.
"""

from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from torchgeo_specdm.alignment.filter import PairFilter
from torchgeo_specdm.alignment.judge import Judge
from torchgeo_specdm.checkpoint import FILTER
from torchgeo_specdm.datasets.patches import patch_origins
from torchgeo_specdm.experiments.data import Data, Scenes
from torchgeo_specdm.functional.shares import share_quantiles, share_rows
from torchgeo_specdm.functional.statistics import band_statistics
from torchgeo_specdm.models import JointDenoiser, TwoStreamAutoencoder
from torchgeo_specdm.pipeline import SpecDMPipeline
from torchgeo_specdm.spec import DatasetSpec, Task

_PATCH, _SCENE, _PAIRS = 32, 64, 4
# Enough held-out patches to calibrate a filter, and to compare samples with
_SCENES = {'train': 6, 'val': 2, 'test': 6}


class _Pairs(Dataset[dict[str, Tensor]]):
    """Samples in memory."""

    def __init__(self, samples: list[dict[str, Tensor]]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.samples[index]


def toy_spec(task: Task) -> DatasetSpec:
    """Four bands, patches of 32 px."""
    return DatasetSpec(
        name=f'toy {task}',
        task=task,
        bands=('B02', 'B03', 'B04', 'B08'),
        classes=('no change', 'change') if task == 'change' else ('water', 'field', 'town'),
        patch_size=_PATCH,
        unit='Sentinel-2 DN (reflectance x 10000)',
        scale=10_000.0,
        value_range=(0.0, 10_000.0),
        dtype='uint16',
    )


def toy_data(task: Task) -> Data:
    """Random scenes, each class (of change: of either date) with its own spectrum."""
    spec = toy_spec(task)
    scenes = {
        split: _Pairs([_scene(spec, torch.Generator().manual_seed(1000 * number + index)) for index in range(count)])
        for number, (split, count) in enumerate(_SCENES.items())
    }
    pool = _cut(scenes['train'])
    mean, std = band_statistics(sample['image'] for sample in pool.samples)
    val, test = (
        Scenes(scenes[split], tuple(f'{split} {number}' for number in range(_SCENES[split])))
        for split in ('val', 'test')
    )
    return Data(spec, pool, _PAIRS, val, test, _cut(scenes['test']), mean, std)


def write_toy_generator(folder: Path, data: Data, seed: int) -> Path:
    """An untrained generator with class control and a filter.

    Args:
        folder: Where to; a generator that is there is left alone.
        data: What it is said to imitate.
        seed: Of its weights.

    Returns:
        ``folder``.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Of several processes that need it, one writes it
    with FileLock(folder.with_suffix('.lock')):
        if not (folder / FILTER).is_dir():  # what is written last
            _write(folder, data, seed)
    return folder


def _write(folder: Path, data: Data, seed: int) -> None:
    spec = data.spec
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        autoencoder = TwoStreamAutoencoder(
            spec.task, spec.num_bands, spec.num_classes, latent_channels=(3, 2), width=(16, 16), depth=1
        )
        autoencoder.set_scaling(data.mean, data.std)
        denoiser = JointDenoiser(5, spec.patch_size // 4, widths=(32,), depth=1, num_classes=spec.num_classes)
        judge = Judge.for_spec(spec).eval().requires_grad_(False)
    judge.set_scaling(data.mean, data.std)
    masks = torch.stack([data.pool[index]['mask'] for index in range(len(data.pool))]).flatten(1)
    shares = torch.stack([(masks == label).double().mean(1) for label in range(spec.num_classes)], 1).float()
    known: dict[str, Any] = {'shares': share_quantiles(shares), 'share_rows': share_rows(shares)}
    pipeline = SpecDMPipeline(spec, autoencoder, denoiser, torch.zeros(5), torch.ones(5), **known)
    pipeline.save_pretrained(folder)
    PairFilter.calibrate(judge, data.pool, data.held_out, spec).save(folder / FILTER)


def _scene(spec: DatasetSpec, generator: torch.Generator) -> dict[str, Tensor]:
    """Regions of smooth random shape; what changed is brighter on the second date."""

    def noise(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator)

    rough = noise(1, spec.num_classes, _SCENE // 8, _SCENE // 8)
    mask = F.interpolate(rough, (_SCENE, _SCENE), mode='bilinear').argmax(1)[0]
    brightness = 300.0 * torch.arange(1, spec.num_bands + 1).view(-1, 1, 1) + 800.0 * mask
    dates = [torch.full_like(brightness, 900.0), brightness] if spec.task == 'change' else [brightness]
    image = torch.stack([date + 150 * noise(*date.shape) for date in dates]).clamp(0, 10_000).round()
    if spec.task == 'change':
        return {'image': image, 'mask': mask.unsqueeze(0)}
    return {'image': image[0], 'mask': mask}


def _cut(scenes: _Pairs) -> _Pairs:
    windows = [
        (..., slice(row, row + _PATCH), slice(col, col + _PATCH))
        for row, col in patch_origins(_SCENE, _SCENE, _PATCH, 0.0)
    ]
    return _Pairs([{key: scene[key][window] for key in scene} for scene in scenes.samples for window in windows])
