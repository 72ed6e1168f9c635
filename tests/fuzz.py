"""Files as nobody meant them: mutated rasters, configurations, descriptions and weights.

The outcome must be a right answer or one of this package's errors; never a crash, a hang, unbounded memory, code that
runs or a file outside of the folder. A few hundred mutations run in the suite (``tests/test_fuzz.py``), more with

    python -m tests.fuzz --examples 10000 --seed 0
"""

import argparse
import contextlib
import functools
import hashlib
import io
import json
import logging
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import rasterio
import torch
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from scipy.io import savemat

from tests.conftest import strict_filter, tiny_pipeline, tiny_spec
from tests.exporting.test_formats import TAGS, make_sample
from tests.mutations import BYTES, TREES, spoil_bytes, spoil_tree
from tests.rasters import scene, write_netcdf, write_tif
from torchgeo_specdm.alignment.copies import TrainingIndex
from torchgeo_specdm.alignment.filter import PairFilter
from torchgeo_specdm.checkpoint import WEIGHTS, write_json
from torchgeo_specdm.datasets import Declared, FolderDataset
from torchgeo_specdm.datasets.block_files import DamagedBlockError, read_block, write_block
from torchgeo_specdm.datasets.exported import ExportedPairs
from torchgeo_specdm.datasets.pack import Pack, Scene, write_pack
from torchgeo_specdm.datasets.packed import PackedPairs
from torchgeo_specdm.datasets.planes import resample
from torchgeo_specdm.datasets.splitters import ByPattern
from torchgeo_specdm.diffusion import NoiseSchedule, solve
from torchgeo_specdm.errors import USER_FILES, SpecDMError
from torchgeo_specdm.evaluation.data import read_datamodule
from torchgeo_specdm.exporting import make_format
from torchgeo_specdm.exporting.writing import claimed
from torchgeo_specdm.fit import SpecDMCLI, run_stages
from torchgeo_specdm.pipeline import SpecDMPipeline
from torchgeo_specdm.stages import plan
from torchgeo_specdm.tasks.generator import GeneratorTask

with contextlib.suppress(ImportError):
    # Not in the child: its import asks the system for the processor
    import h5py

CONF = Path(__file__).parents[1] / 'examples' / 'conf'
# What a child may take beside what it starts with [byte], and how long one mutation may last [s]
MEMORY, PATIENCE = 2 * 2**30, 120
# What would be code that runs
CODE = {'pickle.find_class', 'os.system', 'subprocess.Popen', 'os.exec', 'os.posix_spawn', 'os.fork', 'os.forkpty'}
SPEC = tiny_spec('segmentation')
ABOUT = Declared({0: 'a', 1: 'b', 2: 'c'}, (0, 10_000), unit='counts', band_names=['x', 'y', 'z'])


class Target(NamedTuple):
    """``make`` writes a sound folder, ``file`` is mutated in it, ``attempt`` reads the folder."""

    make: Callable[[Path], None]
    file: str
    attempt: Callable[[Path], None]
    errors: tuple[type[Exception], ...] = (SpecDMError,)


def _write_raster(name: str, write: Callable[[Path, np.ndarray], Any]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        image, mask = scene(16, 24, bands=3)
        (folder / 'image').mkdir()
        write(folder / 'image' / name, image)
        write_tif(folder / 'mask' / 'a.tif', mask[None])

    return make


def _envi(path: Path, image: np.ndarray) -> None:
    size = {'count': 3, 'height': image.shape[1], 'width': image.shape[2], 'dtype': 'uint16'}
    with rasterio.open(path, 'w', driver='ENVI', **size) as file:
        file.write(image)


def _hdf5(path: Path, image: np.ndarray) -> None:
    with h5py.File(path, 'w') as file:
        file.create_dataset('x', data=image.transpose(1, 2, 0), compression='gzip')


def _read_raster(folder: Path) -> None:
    (name,) = [path.name for path in (folder / 'image').iterdir() if path.suffix not in ('.hdr', '.xml')]
    data = FolderDataset(folder, f'image/{name}', 'mask/a.tif', 8, ABOUT, splitter=ByPattern('*', '', ''))
    assert 1 <= len(data) <= 10_000
    sample = data[len(data) - 1]
    assert sample['image'].shape == (3, 8, 8)
    assert sample['image'].isfinite().all()
    assert sample['mask'].shape == (8, 8)
    assert set(sample['mask'].unique().tolist()) <= {0, 1, 2, 255}


def _checkpoint(folder: Path) -> None:
    tiny_pipeline(SPEC).save_pretrained(folder)


def _load(folder: Path) -> None:
    pipeline = SpecDMPipeline.from_pretrained(folder)
    SpecDMPipeline.read_conditions(folder)
    assert all(value.isfinite().all() for value in pipeline.denoiser.state_dict().values())
    assert pipeline.autoencoder.num_classes == pipeline.spec.num_classes
    # What was read can be written and is the same again
    pipeline.save_pretrained(folder / 'again')
    assert SpecDMPipeline.read_spec(folder / 'again') == pipeline.spec


def _filter(folder: Path) -> None:
    _checkpoint(folder)
    strict_filter(SPEC, folder / 'filter').save(folder / 'filter')


def _judge(folder: Path) -> None:
    found = PairFilter.from_pretrained(folder / 'filter')
    assert len(found.pixel_thresholds) == found.spec.num_classes


def _index(folder: Path) -> None:
    signatures = torch.zeros(2, 1, 3, 8, 8).half()
    TrainingIndex(torch.ones(3, 3), signatures, torch.zeros(2, 3), torch.arange(2), 16).save(folder / 'a.safetensors')


def _read_index(folder: Path) -> None:
    assert TrainingIndex.load(folder / 'a.safetensors').patch_size > 0


def _block(folder: Path) -> None:
    write_block(folder / 'a.safetensors', {'image': torch.ones(2, 3, 4, 4)}, 'key', 0)


def _read_block(folder: Path) -> None:
    assert torch.equal(read_block(folder / 'a.safetensors', 'key', 0, check=True)['image'], torch.ones(2, 3, 4, 4))


def _pack(folder: Path) -> None:
    image, mask = scene(16, 24, bands=3)
    coarse = np.stack([image, image // 2])[:, :, ::2, ::2]
    fine = np.stack([[resample(band, image.shape[1:]) for band in date] for date in coarse])
    scenes = [Scene('a', 'train', np.stack([image, image]), mask), Scene('b', 'test', fine, mask, coarse)]
    write_pack(folder, scenes, SPEC, {'mask': ['a']}, limit=1)


def _read_pack(folder: Path) -> None:
    pack = Pack.open(folder)
    for split in ('train', 'test'):
        pairs = PackedPairs(pack, pack.names(split), 8)
        for sample in [pairs[len(pairs) - 1]] * bool(len(pairs)):
            assert sample['image'].shape == (pack.spec.num_bands, 8, 8)
            assert sample['mask'].shape == (8, 8)


def _read_part(folder: Path) -> None:
    """As of somebody who spoils a part on purpose: the description has its digest."""
    told = json.loads((folder / 'pack.json').read_text())
    told['sha256'] = [
        hashlib.sha256((folder / f'part-{number}.safetensors').read_bytes()).hexdigest() for number in (0, 1)
    ]
    (folder / 'pack.json').write_text(json.dumps(told))
    _read_pack(folder)


def _export(form: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        layout = make_format(form, SPEC)
        items = [layout.item(index, make_sample(SPEC, index), TAGS) for index in range(2)]
        for unit in range(2 // layout.unit_size or 1):
            layout.write(folder, unit, items[unit : unit + layout.unit_size] if layout.unit_size == 1 else items)
        write_json(folder / 'specdm.json', {'count': 2, 'spec': SPEC.to_dict(), 'format': form})

    return make


def _read_export(folder: Path) -> None:
    assert claimed(folder, {}) > 0
    samples = ExportedPairs(folder)
    sample = samples[len(samples) - 1]
    assert sample['image'].shape == samples.spec.image_shape
    assert set(sample['mask'].unique().tolist()) <= {*range(samples.spec.num_classes), samples.spec.ignore_index}


def _count_shard(folder: Path) -> None:
    make_format('webdataset', SPEC).is_complete(folder, 0, 2)


def _configuration(folder: Path) -> None:
    shutil.copy(CONF / 'oscd-cpu.yaml', folder / 'a.yaml')


def _plan(folder: Path) -> None:
    assert plan([str(folder / 'a.yaml')], [])


def _data(kind: str) -> Callable[[Path], None]:
    """A scene or a folder of rasters, and the configuration of a generator of it, with most of what it can say."""

    def make(folder: Path) -> None:
        declared = {'classes': {0: 'a', 1: 'b', 2: 'c'}, 'value_range': [0, 10_000], 'unit': 'counts', 'ignore': [7]}
        declared |= {'band_names': ['x', 'y', 'z'], 'wavelengths': [490.0, 560.0, 665.0], 'bands': ['x', 665.0]}
        declared |= {'exclude': [[500, 600]], 'dtype': 'uint16', 'gsd': 10.0, 'scale': 10_000}
        about: dict[str, Any] = {'root': str(folder), 'patch_size': 8, 'declared': declared, 'batch_size': 4}
        if kind == 'FolderDataModule':
            for number in range(4):
                for name, values in zip(('image', 'mask'), scene(16, 24, bands=3, seed=number), strict=True):
                    write_tif(folder / name / f'{number}.tif', values.reshape(-1, 16, 24))
            splitter = {'class_path': 'BySeed', 'init_args': {'val': 0.25, 'test': 0.25, 'seed': 1}}
            about |= {'image': 'image/*.tif', 'mask': 'mask/*.tif', 'splitter': splitter}
        else:
            for name, values in zip(('image', 'mask'), scene(64, 64, bands=3), strict=True):
                write_tif(folder / f'{name}.tif', values.reshape(-1, 64, 64))
            splitter = {'class_path': 'Blocks', 'init_args': {'val': 0.2, 'test': 0.2, 'block_size': 16, 'gap': 2}}
            about |= {'image': 'image.tif', 'mask': 'mask.tif', 'splitter': splitter}
        model = {'class_path': 'AutoencoderTask', 'init_args': {'width': [16, 16], 'depth': 1, 'lr': 1e-3}}
        trainer = {'accelerator': 'cpu', 'max_steps': 1, 'logger': False, 'default_root_dir': str(folder / 'run')}
        about |= {'overlap': 0.5, 'min_labelled': 0.1}
        data = {'class_path': kind, 'init_args': about}
        (folder / 'a.yaml').write_text(yaml.safe_dump({'trainer': trainer, 'model': model, 'data': data}))

    return make


def _set_up(datamodule: Any) -> None:
    datamodule.setup('fit')
    sample, spec = datamodule.train_dataset[0], datamodule.train_dataset.spec
    assert sample['image'].shape == spec.image_shape
    assert sample['mask'].shape == spec.mask_shape
    assert set(sample['mask'].unique().tolist()) <= {*range(spec.num_classes), spec.ignore_index}


def _evaluated(folder: Path) -> None:
    """As ``specdm evaluate`` reads its data."""
    _set_up(read_datamodule(folder / 'a.yaml'))


def _fitted(folder: Path) -> None:
    """As ``specdm fit`` makes trainer, model and data, but for the training."""

    def fit(cli: SpecDMCLI, model: Any, datamodule: Any = None, **_: Any) -> None:
        # Of any other model, Lightning is to judge
        if isinstance(model, GeneratorTask):
            wrapped = model.wrap_datamodule(datamodule, folder / 'run')
            wrapped.setup('fit')
            _set_up(datamodule)

    quiet = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    with mock.patch.object(SpecDMCLI, 'fit', fit), quiet[0], quiet[1]:
        run_stages('fit', [str(folder / 'a.yaml')], [])


TARGETS = {
    'geotiff': Target(_write_raster('a.tif', write_tif), 'image/a.tif', _read_raster),
    'geotiff, packed': Target(
        _write_raster('a.tif', lambda path, values: write_tif(path, values, compress='deflate', predictor=2)),
        'image/a.tif',
        _read_raster,
    ),
    'mask': Target(_write_raster('a.tif', write_tif), 'mask/a.tif', _read_raster),
    'npy': Target(_write_raster('a.npy', np.save), 'image/a.npy', _read_raster),
    'mat': Target(
        _write_raster('a.mat', lambda path, values: savemat(path, {'x': values})), 'image/a.mat', _read_raster
    ),
    'mat, packed': Target(
        _write_raster('a.mat', lambda path, values: savemat(path, {'x': values}, do_compression=True)),
        'image/a.mat',
        _read_raster,
    ),
    'hdf5': Target(_write_raster('a.h5', _hdf5), 'image/a.h5', _read_raster),
    'envi': Target(_write_raster('a.img', _envi), 'image/a.hdr', _read_raster),
    'netcdf': Target(
        _write_raster('a.nc', lambda path, values: write_netcdf(path, refl=values)), 'image/a.nc', _read_raster
    ),
    'pack.json': Target(_pack, 'pack.json', _read_pack),
    'pack, part': Target(_pack, 'part-1.safetensors', _read_part),
    'exported image': Target(_export('geotiff'), 'image/000001.tif', _read_export),
    'exported mask': Target(_export('geotiff'), 'mask/000001.tif', _read_export),
    'export': Target(_export('geotiff'), 'specdm.json', _read_export),
    'shard': Target(_export('webdataset'), '000000.tar', _count_shard),
    'yaml': Target(_configuration, 'a.yaml', _plan),
    'specdm.json': Target(_checkpoint, 'specdm.json', _load),
    'autoencoder': Target(_checkpoint, 'autoencoder/config.json', _load),
    'denoiser': Target(_checkpoint, 'denoiser/config.json', _load),
    'scheduler': Target(_checkpoint, 'scheduler/scheduler_config.json', _load),
    **{
        f'{name}, {kind}': Target(_data(kind), 'a.yaml', attempt, (SpecDMError, *USER_FILES))
        for name, attempt in (('evaluate', _evaluated), ('fit', _fitted))
        for kind in ('FolderDataModule', 'SceneDataModule')
    },
    'autoencoder, weights': Target(_checkpoint, f'autoencoder/{WEIGHTS}', _load),
    'weights': Target(_checkpoint, f'denoiser/{WEIGHTS}', _load),
    'filter': Target(_filter, 'filter/filter.json', _judge),
    'filter, weights': Target(_filter, f'filter/judge/{WEIGHTS}', _judge),
    'index': Target(_index, 'a.safetensors', _read_index),
    # A damaged block is generated again, and found by this error
    'block': Target(_block, 'a.safetensors', _read_block, (DamagedBlockError,)),
}


def fuzz(target: Target, examples: int, seed: int | None, folder: Path) -> None:
    """Try so many mutations in this process.

    Args:
        target: What is mutated.
        examples: Number of mutations.
        seed: Names other mutations; None for always the same.
        folder: Empty.

    Raises:
        Exception: What was neither a right answer nor an error of the package.
    """
    work = folder / 'work'
    work.mkdir()
    target.make(work)
    path = work / target.file
    sound = path.read_bytes()
    target.attempt(work)
    kept = {p.relative_to(work) for p in work.rglob('*')}
    tree = path.suffix in ('.json', '.yaml')
    edits = (
        st.one_of(BYTES.map(lambda e: ('bytes', e)), TREES.map(lambda e: ('tree', e)))
        if tree
        else (BYTES.map(lambda e: ('bytes', e)))
    )

    @given(edits)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        derandomize=seed is None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    def attempt(edit: tuple[str, Any]) -> None:
        kind, edits = edit
        spoilt = (
            spoil_bytes(sound, edits)
            if kind == 'bytes'
            else (spoil_tree(sound.decode(), edits, path.suffix == '.yaml').encode())
        )
        path.write_bytes(spoilt)
        signal.alarm(PATIENCE)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                target.attempt(work)
        except target.errors as error:
            if len(str(error)) > 2000:
                raise RuntimeError('an error that nobody reads') from error
        finally:
            signal.alarm(0)
            for made in [p for p in work.iterdir() if p.relative_to(work) not in kept]:
                shutil.rmtree(made) if made.is_dir() else made.unlink()

    (attempt if seed is None else seeded(seed)(attempt))()
    assert [p.name for p in folder.iterdir()] == ['work']


def _confined(target: Target, examples: int, seed: int | None, folder: Path) -> None:
    """The child: bounded memory, no code, no file elsewhere."""
    size = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    os.chdir(folder)
    # Lightning's notes on each trainer
    logging.disable()

    def watch(event: str, args: tuple[Any, ...]) -> None:
        if event in CODE:
            raise RuntimeError(f'a file made {event} happen')
        if event == 'open' and isinstance(args[0], str) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            assert args[0].startswith((str(folder), '/dev/')), f'{args[0]} was opened for writing'

    sys.addaudithook(watch)
    fuzz(target, examples, seed, folder)


@functools.cache
def _prepare() -> None:
    """What takes each child seconds anew: libraries, and Hypothesis's tables of characters and of constants in them."""

    @given(st.tuples(st.integers(), st.floats(), BYTES, TREES))
    @settings(max_examples=20, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    def draw(values: Any) -> None:
        pass

    # The solver and the denoiser bring diffusers
    solve(tiny_pipeline(SPEC).denoiser, (3, 4, 4), [torch.Generator()], NoiseSchedule(), steps=1)
    draw()


def fuzz_in_child(name: str, examples: int, seed: int | None = None) -> int | None:
    """Try so many mutations in a child; its exit code, 0 where all outcomes were good, negative after a crash."""
    _prepare()
    with tempfile.TemporaryDirectory() as folder:
        context = multiprocessing.get_context('fork')
        child = context.Process(target=_confined, args=(TARGETS[name], examples, seed, Path(folder)))
        child.start()
        child.join()
        return child.exitcode


def main() -> int:
    """Fuzz all targets, and print what each of them did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--examples', type=int, default=10_000, help='mutations, shared by the targets')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--only', choices=TARGETS, nargs='+', default=list(TARGETS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    failed = []
    for name in args.only:
        start, each = time.monotonic(), -(-args.examples // len(args.only))
        code = fuzz_in_child(name, each, args.seed)
        print(f'{name}: {each} mutations in {time.monotonic() - start:.0f} s, exit code {code}', flush=True)
        failed += [name] if code else []
    print(f'failed: {", ".join(failed)}' if failed else 'all outcomes were right answers or errors of the package')
    return len(failed)


if __name__ == '__main__':
    sys.exit(main())
