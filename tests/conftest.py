"""Fixtures that every folder of tests shares."""

import dataclasses
import os
import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from tqdm import tqdm

from torchgeo_specdm.alignment.filter import PairFilter
from torchgeo_specdm.alignment.judge import Judge
from torchgeo_specdm.models import JointDenoiser, TwoStreamAutoencoder
from torchgeo_specdm.pipeline import SpecDMPipeline
from torchgeo_specdm.spec import DatasetSpec

# The networks here are tiny, and threads of several processes on the same cores cost more than they bring; the
# environment says so to the processes that tests start
torch.set_num_threads(1)
os.environ['OMP_NUM_THREADS'] = '1'

# The first gradient starts a thread for each device, of which torch.compile and test_devices make PyTorch see one that
# is not there; with such threads, no forked child could compute a gradient
torch.ones((), requires_grad=True).backward()  # type: ignore[no-untyped-call]

# Children that tests fork share the lock of progress bars, and one that is killed while it holds it would stop all
# others; so each has a lock of its own, and no thread takes it that a fork would leave behind
tqdm.set_lock(threading.RLock())
tqdm.monitor_interval = 0


def slow_but(quick: Sequence[Any], among: Iterable[Any]) -> list[Any]:
    """Parameters of a test: those of ``among`` that are not ``quick`` too are marked as slow."""
    among = list(among)
    assert all(one in among for one in quick)
    return [
        one if one in quick else pytest.param(*(one if isinstance(one, tuple) else (one,)), marks=pytest.mark.slow)
        for one in among
    ]


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """What a test leaves in the environment ends with it.

    TorchGeo's command line hides the files beside a raster from GDAL, which then makes no ENVI file: it opens what it
    has just made by its header. Lightning leaves its seed.
    """
    with mock.patch.dict(os.environ):
        yield


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of synthetic samples for each test; the user's is never touched."""
    folder = tmp_path_factory.mktemp('cache')
    monkeypatch.setenv('SPECDM_CACHE', str(folder))
    return folder


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing asks the network, not even where it could do without: a refusal that is swallowed counts too."""
    asked = []

    def guarded(name: str) -> Any:
        own = getattr(socket.socket, name)

        def connect(self: socket.socket, *args: Any) -> Any:
            # Processes of one machine talk like this
            if self.family == socket.AF_UNIX:
                return own(self, *args)
            return refuse(name, *args)

        return connect

    def refuse(*args: Any, **_: Any) -> Any:
        asked.append(args)
        raise OSError(f'the network was asked: {args}')

    for name in ('connect', 'connect_ex', 'sendto'):
        monkeypatch.setattr(socket.socket, name, guarded(name))
    monkeypatch.setattr(socket, 'getaddrinfo', refuse)
    yield
    assert asked == []


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever samples in this process takes three steps at most, where all but the solver is tested."""
    sample = SpecDMPipeline.sample

    def quick(self: SpecDMPipeline, indices: Sequence[int], *, steps: int | None = None, **told: Any) -> Any:
        return sample(self, indices, steps=min(steps or 3, 3), **told)

    monkeypatch.setattr(SpecDMPipeline, 'sample', quick)


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """Real data beside the checkout; tests that need it are skipped, and say so, where it is not."""
    folder = Path(__file__).parents[2] / 'shared' / 'data'
    if not folder.is_dir():
        pytest.skip(f'real data is not there: {folder.name}')
    return folder


def tiny_spec(task: str) -> DatasetSpec:
    """Three bands, patches of 16 px."""
    classes = ('no change', 'change') if task == 'change' else ('water', 'forest', 'town', 'field')
    return DatasetSpec(
        name=f'tiny {task}',
        task=task,
        bands=('B02', 'B03', 'B04'),
        classes=classes,
        patch_size=16,
        unit='Sentinel-2 DN (reflectance x 10000)',
        scale=10_000.0,
        value_range=(0.0, 10_000.0),
        dtype='uint16',
        wavelengths=(492.4, 559.8, 664.6),
        gsd=10.0,
    )


def tiny_pipeline(
    spec: DatasetSpec,
    seed: int = 0,
    shares: torch.Tensor | None = None,
    share_rows: torch.Tensor | None = None,
    **told: Any,
) -> SpecDMPipeline:
    """An untrained generator of a fraction of a megabyte; ``told`` are arguments of its denoiser."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        autoencoder = TwoStreamAutoencoder(
            spec.task,
            spec.num_bands,
            spec.num_classes,
            spec.ignore_index,
            latent_channels=(2, 1),
            width=(16, 16),
            depth=1,
        )
        autoencoder.set_scaling(torch.tensor(1500.0), torch.tensor(500.0))
        denoiser = JointDenoiser(3, spec.patch_size // 4, widths=(32, 32), depth=1, **told)
    return SpecDMPipeline(
        spec, autoencoder, denoiser, torch.zeros(3), torch.ones(3), shares=shares, share_rows=share_rows
    )


def strict_filter(spec: DatasetSpec, folder: Path) -> PairFilter:
    """A filter that rejects half of the pixels and about half of the samples of the generator in ``folder/..``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        judge = Judge.for_spec(spec).eval().requires_grad_(False)
    judge.set_scaling(torch.tensor(1500.0), torch.tensor(500.0))
    made = SpecDMPipeline.from_pretrained(folder.parent).sample(range(8), steps=2)
    median = judge.pixel_loss(made['image'], made['mask']).median()
    tight = PairFilter(spec, judge, median.expand(spec.num_classes), 1.0, smallest_region=2)
    return dataclasses.replace(tight, sample_threshold=float(1 - tight.judge_pairs(made).score.median()))


@pytest.fixture(scope='session')
def tiny_segmentation_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder of an untrained segmentation generator."""
    folder = tmp_path_factory.mktemp('segmentation') / 'checkpoint'
    tiny_pipeline(tiny_spec('segmentation')).save_pretrained(folder)
    return folder


@pytest.fixture(scope='session')
def tiny_change_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder of an untrained change generator."""
    folder = tmp_path_factory.mktemp('change') / 'checkpoint'
    tiny_pipeline(tiny_spec('change')).save_pretrained(folder)
    return folder
