"""Blocks on disk: the same bits as without them, generated once, whatever is killed, torn, full or read-only."""

import dataclasses
import errno
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import time
import warnings
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tests.conftest import strict_filter, tiny_pipeline, tiny_spec
from tests.fake import FakePairs
from torchgeo_specdm.cli import main
from torchgeo_specdm.datasets import block_files, cache_home
from torchgeo_specdm.datasets import cache as cache_module
from torchgeo_specdm.datasets.blocks import sample_bytes
from torchgeo_specdm.datasets.cache import BlockCache
from torchgeo_specdm.datasets.cache_home import clear, in_use, kept
from torchgeo_specdm.datasets.device import same_arithmetic
from torchgeo_specdm.datasets.mixed import MixedDataset
from torchgeo_specdm.datasets.segmunich import segmunich_spec
from torchgeo_specdm.datasets.synthetic import SpecDMSynthetic
from torchgeo_specdm.datasets.wishes import LOOK_AHEAD
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.pipeline import GUIDANCE, SpecDMPipeline

SPEC = dataclasses.replace(tiny_spec('segmentation'), dtype='float32')
SETTINGS: dict[str, Any] = {'steps': 1, 'batch_size': 4, 'device': 'cpu'}


@pytest.fixture(scope='module')
def shared_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('cached') / 'checkpoint'
    tiny_pipeline(SPEC, clocks=2, num_classes=SPEC.num_classes).save_pretrained(folder)
    strict_filter(SPEC, folder / 'filter').save(folder / 'filter')
    return folder


@pytest.fixture
def checkpoint(shared_checkpoint: Path, tmp_path: Path) -> Path:
    """A generator of floats with a filter, for this test alone."""
    return Path(shutil.copytree(shared_checkpoint, tmp_path / 'tiny'))


def same(a: Any, b: Any) -> bool:
    return set(a) == set(b) and all(torch.equal(a[key], b[key]) for key in a)


def all_same(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return len(a) == len(b) and all(map(same, a, b))


def uncached(checkpoint: Path, length: int = 10, **settings: Any) -> list[dict[str, Any]]:
    return list(SpecDMSynthetic(checkpoint, length, cache=None, **SETTINGS | settings))


def files(home: Path) -> list[Path]:
    return sorted(home.rglob('*.safetensors'))


def child(work: Callable[[], Any]) -> Any:
    """A forked process that does the work; torch is imported in it already."""
    process = multiprocessing.get_context('fork').Process(target=work)
    process.start()
    return process


def test_a_cache_never_changes_a_bit(
    checkpoint: Path, own_cache: Path, generated: Callable[[], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = uncached(checkpoint)
    made = len(generated())
    for order in ([9, 0, 4, 4, 2], list(range(10)), list(reversed(range(10)))):
        dataset = SpecDMSynthetic(checkpoint, 10, **SETTINGS)
        assert all_same([dataset[index] for index in order], [reference[index] for index in order])
        assert all_same(dataset.__getitems__(order), [reference[index] for index in order])
    assert sorted(generated()[made:]) == [0, 4, 8], 'each block once for all three datasets'
    assert [path.name for path in files(own_cache)] == [f'0000000{number}.safetensors' for number in range(3)]
    assert not list(own_cache.rglob('*.partial'))
    monkeypatch.setattr(cache_module, '_MAPS', 1)
    assert all_same(list(SpecDMSynthetic(checkpoint, 10, **SETTINGS)), reference)


def test_what_is_done_to_a_sample_does_not_reach_the_disk(checkpoint: Path) -> None:
    def spoil(sample: dict[str, Tensor]) -> dict[str, Tensor]:
        sample['image'].zero_()
        sample['mask'].fill_(7)
        return sample

    reference = uncached(checkpoint, 4)
    list(SpecDMSynthetic(checkpoint, 4, transforms=spoil, **SETTINGS))
    assert all_same(list(SpecDMSynthetic(checkpoint, 4, **SETTINGS)), reference)


def test_workers_read_what_a_gpu_made_and_never_touch_it(
    checkpoint: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = SpecDMSynthetic(checkpoint, 8, steps=1, batch_size=4)
    # The main process found a GPU
    dataset._settings = dataclasses.replace(dataset.settings, device='cuda A')
    key = dataset.settings.key
    source = SpecDMSynthetic(checkpoint, 8, **SETTINGS)
    source.materialize()
    (own_cache / key).mkdir()
    for number, path in enumerate(files(own_cache)[:1]):
        block = block_files.read_block(path, source.settings.key, number, True)
        block_files.write_block(own_cache / key / path.name, block, key, number)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: pytest.fail('CUDA was touched'))
    [batch] = DataLoader(dataset, 4, num_workers=1, sampler=range(4))
    assert torch.equal(batch['image'], torch.stack([source[index]['image'] for index in range(4)]))
    # The producer is a process of its own, which finds no GPU
    with pytest.raises(SpecDMError, match="has failed: device is 'cuda', but PyTorch finds no GPU"):
        list(DataLoader(dataset, 4, num_workers=1, sampler=range(4, 8)))


def test_the_key_is_all_that_the_samples_depend_on(checkpoint: Path) -> None:
    def key(**settings: Any) -> str:
        return SpecDMSynthetic(checkpoint, **SETTINGS | settings).settings.key

    real = FakePairs(SPEC, length=6)
    base, filtered = key(), key(keep='aligned')
    assert len(base) == 64
    unchanged = [key(solver='sde-dpmsolver++'), key(candidates=5), key(guidance=3.0), key(max_bytes=10**9)]
    unchanged += [SpecDMSynthetic(checkpoint, 7, transforms=dict, **SETTINGS).settings.key]
    assert {*unchanged} == {base}
    other = [
        key(seed=1), key(steps=2), key(solver='ddim'), key(batch_size=2), filtered,
        key(keep='aligned', candidates=5),
        key(classes={'water': 0.4}), key(classes={'town': 0.4}), key(classes={'water': 0.4}, guidance=3.0),
        key(classes='balanced'),
        key(given=real), key(given=FakePairs(SPEC, length=5)), key(given=FakePairs(SPEC, 'val', length=6)),
        key(given=real, given_streams=['image']),
    ]  # fmt: skip
    assert len({base, *other}) == len(other) + 1
    assert key(classes={'water': 0.4}) == key(classes={'water': 0.4}, guidance=GUIDANCE), 'the default by its value'
    shutil.rmtree(checkpoint / 'filter' / 'judge')
    assert key() == base
    assert key(keep='aligned') != filtered


def test_a_changed_checkpoint_is_noticed(checkpoint: Path, own_cache: Path) -> None:
    dataset, late = (SpecDMSynthetic(checkpoint, 4, **SETTINGS) for _ in range(2))
    first = list(dataset)
    assert late.settings == dataset.settings
    shutil.rmtree(checkpoint)
    tiny_pipeline(SPEC, seed=1).save_pretrained(checkpoint)
    assert all_same(list(late), first), 'what is there is what was asked for'
    shutil.rmtree(own_cache)
    late = SpecDMSynthetic(checkpoint, 4, **SETTINGS)
    late._settings = dataset.settings
    with pytest.raises(SpecDMError, match='has changed since the dataset was opened'):
        late[0]
    other = SpecDMSynthetic(checkpoint, 4, **SETTINGS)
    assert other.settings.key != dataset.settings.key
    assert all_same(list(other), uncached(checkpoint, 4))
    assert not same(other[0], first[0])


@pytest.mark.parametrize('where', ['generating', 'writing'])
def test_a_killed_writer_leaves_nothing_half_read(
    where: str, checkpoint: Path, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, started = uncached(checkpoint), tmp_path / 'started'

    def hang(*_: Any, **__: Any) -> Any:
        started.touch()
        time.sleep(600)

    SpecDMSynthetic(checkpoint, **SETTINGS)[0]
    with monkeypatch.context() as patch:
        patch.setattr(*((SpecDMPipeline, 'sample') if where == 'generating' else (block_files.os, 'fsync')), hang)
        writer = child(lambda: SpecDMSynthetic(checkpoint, **SETTINGS)[4])
        while not started.exists():
            time.sleep(0.01)
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
    assert len(files(own_cache)) == 1
    assert len(list(own_cache.rglob('*.partial'))) == (where == 'writing')
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        assert all_same(list(SpecDMSynthetic(checkpoint, 10, **SETTINGS)), reference)
    assert not list(own_cache.rglob('*.partial'))


@pytest.mark.parametrize('materialize', [True, False])
def test_two_processes_generate_each_block_once(
    materialize: bool, checkpoint: Path, generated: Callable[[], list[int]]
) -> None:
    def read(order: Sequence[int]) -> None:
        dataset = SpecDMSynthetic(checkpoint, 40, **SETTINGS)
        if materialize:
            assert dataset.materialize()
        assert len(dataset.__getitems__(order)) == 40

    processes = [child(lambda order=order: read(order)) for order in (range(40), range(39, -1, -1), range(40))]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert sorted(generated()) == list(range(0, 40, 4))


def truncate(path: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path, other: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)


def swap(path: Path, other: Path) -> None:
    shutil.copy(other, path)


def empty(path: Path, other: Path) -> None:
    path.write_bytes(b'')


@pytest.mark.parametrize(
    ('damage', 'words'), [(truncate, 'torn'), (empty, 'torn'), (flip, 'checksum'), (swap, 'another dataset')]
)
def test_a_damaged_block_is_generated_again(
    damage: Callable[[Path, Path], None], words: str, checkpoint: Path, generated: Callable[[], list[int]]
) -> None:
    reference = uncached(checkpoint)
    SpecDMSynthetic(checkpoint, 10, **SETTINGS).materialize()
    before = len(generated())
    dataset = SpecDMSynthetic(checkpoint, 10, **SETTINGS)
    blocks = dataset._open()
    assert isinstance(blocks, BlockCache)
    damage(blocks.folder / '00000001.safetensors', blocks.folder / '00000000.safetensors')
    with pytest.warns(UserWarning, match=f'00000001.safetensors .*{words}'):
        assert dataset.materialize()
    assert all_same(list(dataset), reference)
    assert generated()[before:] == [4]
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        assert all_same(list(SpecDMSynthetic(checkpoint, 10, **SETTINGS)), reference)


def test_an_interrupted_materialize_continues(
    checkpoint: Path,
    generated: Callable[[], list[int]],
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    sample, budget = SpecDMPipeline.sample, [2]

    def interrupted(*args: Any, **arguments: Any) -> Any:
        if not budget[0]:
            raise KeyboardInterrupt
        budget[0] -= 1
        return sample(*args, **arguments)

    dataset = SpecDMSynthetic(checkpoint, **SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SpecDMPipeline, 'sample', interrupted)
        with pytest.raises(KeyboardInterrupt):
            dataset.materialize(18)
    assert SpecDMSynthetic(checkpoint, **SETTINGS).materialize(18)
    assert generated() == [0, 4, 8, 12, 16]
    stated = [record.message.partition(':')[0] for record in caplog.records]
    assert stated == [f'{count} of 20 synthetic samples will be generated' for count in (20, 12)]
    shown = capsys.readouterr().err
    assert '20/20' in shown
    assert 'pair/s' in shown
    assert SpecDMSynthetic(checkpoint, **SETTINGS).materialize(18)
    assert not capsys.readouterr().err
    with pytest.raises(TypeError, match='length='):
        dataset.materialize()
    with pytest.raises(SpecDMError, match='cache=None'):
        SpecDMSynthetic(checkpoint, 4, cache=None, **SETTINGS).materialize()


def test_what_does_not_fit_on_the_disk_is_refused(
    checkpoint: Path, generated: Callable[[], list[int]], small_disk: Path
) -> None:
    size = sample_bytes(SPEC, filtered=False)
    dataset = SpecDMSynthetic(checkpoint, 40, cache=small_disk, **SETTINGS)
    for use in (dataset.materialize, lambda: dataset[0]):
        with pytest.raises(
            SpecDMError, match=rf'40 synthetic samples need {40 * size / 1e6:.3f} MB.*specdm cache clear'
        ):
            use()
    assert not generated()


def test_a_mix_that_does_not_fit_on_the_disk_is_refused(
    checkpoint: Path, generated: Callable[[], list[int]], small_disk: Path, own_cache: Path
) -> None:
    """The mix alone knows how much it takes of a dataset without an end."""
    real, size = FakePairs(SPEC, length=8), sample_bytes(SPEC, filtered=False)
    mixed = MixedDataset(real, SpecDMSynthetic(checkpoint, cache=small_disk, **SETTINGS), ratio=5)
    first = int(mixed.is_synthetic.nonzero()[0])
    # Without and with workers
    for use in (lambda: mixed[first], lambda: list(DataLoader(mixed, 4, num_workers=1, sampler=[first]))):
        with pytest.raises(SpecDMError, match=rf'40 synthetic samples need {40 * size / 1e6:.3f} MB.*cache clear'):
            use()
    assert not generated()
    MixedDataset(real, SpecDMSynthetic(checkpoint, cache=own_cache, **SETTINGS), ratio=5)[first]


def test_the_size_of_a_large_mix() -> None:
    """All of SegMunich at ratio 5, as docs/cache.md has it."""
    assert 5 * 21_680 * sample_bytes(segmunich_spec(), filtered=False) == pytest.approx(72.8e9, rel=0.001)


def test_random_access_to_what_is_not_there_is_told_of(checkpoint: Path, recwarn: pytest.WarningsRecorder) -> None:
    """Of 1 180 samples in blocks of 64, a batch of 32 touches 84 % of the blocks."""
    count = 4 * (LOOK_AHEAD + 1)
    order = list(range(0, count, 4))
    dataset = SpecDMSynthetic(checkpoint, count, **SETTINGS)
    with pytest.warns(UserWarning, match=rf'{len(order)} samples lie in {len(order)} blocks of 4.* materialize'):
        dataset.__getitems__(order)
    recwarn.clear()
    dataset.__getitems__(order[::-1])
    list(SpecDMSynthetic(checkpoint, count, seed=1, **SETTINGS))
    assert not [told for told in recwarn if 'lie in' in str(told.message)]


def test_a_full_disk_is_one_clear_error_and_keeps_what_was_done(checkpoint: Path, small_disk: Path) -> None:
    dataset = SpecDMSynthetic(checkpoint, cache=small_disk, **SETTINGS)
    with pytest.raises(SpecDMError, match=r'disk of .* is full; what .* is kept: .*specdm cache clear.*cache='):
        [dataset[index] for index in range(40)]
    assert 0 < len(files(small_disk)) < 10
    assert not list(small_disk.rglob('*.partial'))
    done = 4 * len(files(small_disk))
    again = SpecDMSynthetic(checkpoint, done, cache=small_disk, **SETTINGS)
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        assert all_same(list(again), uncached(checkpoint, done))


@pytest.mark.parametrize('code', [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_without_space_at_any_write(code: int, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    dataset = SpecDMSynthetic(checkpoint, **SETTINGS)
    dataset[0]
    monkeypatch.setattr(block_files.os, 'fsync', fail)
    with pytest.raises(SpecDMError, match=r'is full; .*cache='):
        dataset[4]
    monkeypatch.setattr(cache_module, 'enter', fail)
    with pytest.raises(SpecDMError, match=r'is full; .*cache='):
        SpecDMSynthetic(checkpoint, **SETTINGS)[0]


def test_a_read_only_cache_falls_back_to_memory(
    checkpoint: Path, small_disk: Path, generated: Callable[[], list[int]]
) -> None:
    SpecDMSynthetic(checkpoint, cache=small_disk, **SETTINGS)[0]
    subprocess.run(['mount', '-o', 'remount,ro', str(small_disk)], check=True)
    reference = uncached(checkpoint)
    before = len(generated())
    dataset = SpecDMSynthetic(checkpoint, 10, cache=small_disk, **SETTINGS)
    with pytest.warns(UserWarning, match=r'cannot be written to .*kept in memory'):
        assert all_same(list(dataset), reference)
    assert all_same(list(dataset), reference)
    assert generated()[before:] == [4, 8], 'what is there is read'
    assert not dataset.materialize()
    assert dataset.materialize(4)
    with pytest.warns(UserWarning, match='cannot be written to'):
        SpecDMSynthetic(checkpoint, seed=1, cache=small_disk, **SETTINGS)[0]


def test_a_cache_that_may_not_be_written(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(cache_module, 'enter', refuse)
    dataset = SpecDMSynthetic(checkpoint, 10, **SETTINGS)
    with pytest.warns(UserWarning, match=r'Permission denied.*kept in memory'):
        assert all_same(list(dataset), uncached(checkpoint))


def test_a_cache_that_is_a_file(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    with pytest.raises(SpecDMError, match='is no folder'):
        SpecDMSynthetic(checkpoint, 4, cache=tmp_path / 'file', **SETTINGS)[0]


def test_eviction_takes_the_least_recently_used_and_none_in_use(checkpoint: Path, own_cache: Path) -> None:
    def blocks_of(seed: int) -> int:
        return len(files(own_cache / keys[seed]))

    datasets = [SpecDMSynthetic(checkpoint, 16, seed=seed, **SETTINGS) for seed in range(4)]
    keys = [dataset.settings.key for dataset in datasets]
    for seed, dataset in enumerate(datasets):
        dataset.materialize()
        os.utime(own_cache / keys[seed] / 'settings.json', (seed, seed))
    # The oldest stays in use
    user = datasets[0]
    del datasets, dataset
    # A copy in a forked process comes and goes
    process = child(user._forget)
    process.join()
    assert [one.folder.name for one in kept(own_cache)] == keys
    assert [in_use(own_cache / key) for key in keys] == [True, False, False, False]
    size = files(own_cache)[0].stat().st_size
    new = SpecDMSynthetic(checkpoint, 8, seed=9, max_bytes=14 * size, **SETTINGS)
    new.materialize()
    assert [blocks_of(seed) for seed in range(4)] == [4, 0, 4, 4]
    assert len(files(own_cache)) == 14
    large = SpecDMSynthetic(checkpoint, 40, seed=10, max_bytes=14 * size, **SETTINGS)
    with pytest.raises(SpecDMError, match='raise max_bytes'):
        large.materialize()
    assert len(files(own_cache)) == 14, 'nothing is deleted in vain'
    open_ended = SpecDMSynthetic(checkpoint, seed=11, max_bytes=14 * size, **SETTINGS)
    open_ended[0]
    assert [blocks_of(seed) for seed in range(4)] == [4, 0, 3, 4], 'one block, the last of the oldest'
    assert all_same(list(user), uncached(checkpoint, 16, seed=0))


def test_verdicts_survive(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def verdicts(dataset: SpecDMSynthetic) -> list[Any]:
        found = [dataset.verdict(index) for index in range(10)]
        return [(*dataclasses.astuple(one)[:-1], one.rejected.tolist()) for one in found]

    plain = SpecDMSynthetic(checkpoint, 10, keep='aligned', cache=None, **SETTINGS)
    reference, samples, summary = verdicts(plain), list(plain), plain.filter_summary()
    SpecDMSynthetic(checkpoint, 10, keep='aligned', **SETTINGS).materialize()
    monkeypatch.setattr(SpecDMPipeline, 'from_pretrained', lambda *_: pytest.fail('the networks were loaded'))
    dataset = SpecDMSynthetic(checkpoint, 10, keep='aligned', **SETTINGS)
    assert all_same(list(dataset), samples)
    assert dataset.filter_summary() == summary
    assert summary.served == 12
    assert verdicts(dataset) == reference
    for index in range(10):
        dataset.verdict(index).rejected.logical_not_()
    assert verdicts(dataset) == reference, 'what is done to a verdict stays there'
    again = SpecDMSynthetic(checkpoint, 10, keep='aligned', **SETTINGS)
    again.materialize()
    assert again.filter_summary() == summary
    assert again.filter_summary(4) == plain.filter_summary(4)


@pytest.mark.parametrize('filtered', [False, True])
def test_the_size_that_is_stated(
    filtered: bool, tiny_change_checkpoint: Path, checkpoint: Path, own_cache: Path
) -> None:
    source = checkpoint if filtered else tiny_change_checkpoint
    dataset = SpecDMSynthetic(source, 8, keep='aligned' if filtered else None, **SETTINGS | {'batch_size': 8})
    dataset[0]
    [path] = files(own_cache)
    header = int.from_bytes(path.read_bytes()[:8], 'little') + 8
    counts = 80 if filtered else 0
    assert path.stat().st_size == 8 * sample_bytes(dataset.spec, filtered) + counts + header


def test_the_command(checkpoint: Path, own_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['cache', 'list', '--cache', str(own_cache / 'none')]) == 0
    assert '0.000 MB of 0 datasets' in capsys.readouterr().out
    assert main(['cache', 'clear']) == 0
    keys = []
    for seed in range(3):
        dataset = SpecDMSynthetic(checkpoint, 8, seed=seed, **SETTINGS)
        dataset.materialize()
        keys.append(dataset.settings.key)
    (own_cache / 'mine').mkdir()
    (own_cache / 'mine' / 'settings.json').write_text('{"checkpoint": "a", "dataset": "b"}')
    capsys.readouterr()
    assert main(['cache', 'list']) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.startswith(f'{own_cache}: ')
    assert head.endswith('of 3 datasets')
    assert [row[:12] for row in rows] == [key[:12] for key in reversed(keys)]
    assert all('tiny (tiny segmentation)' in row and '2 blocks' in row for row in rows)
    assert main(['cache', 'clear', '--key', 'xyz']) == 2
    assert 'specdm cache list' in capsys.readouterr().err
    assert main(['cache', 'clear', '--key', keys[0][:8]]) == 0
    assert 'of 1 dataset from' in capsys.readouterr().out
    assert main(['cache', 'clear']) == 0
    out = capsys.readouterr().out
    assert 'of 1 dataset from' in out
    assert f'not deleted, as it is in use: {keys[2][:12]}' in out
    assert sorted(path.name for path in own_cache.iterdir() if path.is_dir()) == sorted([keys[2], 'mine'])
    assert same(dataset[0], uncached(checkpoint, 1, seed=2)[0])


def test_two_that_clear_at_once_and_one_that_is_stopped(
    checkpoint: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    SpecDMSynthetic(checkpoint, 8, **SETTINGS).materialize()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, 'rmtree', stop)
        with pytest.raises(KeyboardInterrupt):
            clear(own_cache)
    assert files(own_cache) == []
    assert len(kept(own_cache)) == 1, 'it can be deleted still'

    lock, others = cache_home._home_lock, [own_cache]

    def after_the_other(home: Path) -> Any:
        if others:
            assert len(clear(others.pop())[0]) == 1
        return lock(home)

    monkeypatch.setattr(cache_home, '_home_lock', after_the_other)
    assert clear(own_cache) == ([], [])


def test_a_read_only_cache_is_not_cleared(
    checkpoint: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    SpecDMSynthetic(checkpoint, cache=small_disk, **SETTINGS)[0]
    subprocess.run(['mount', '-o', 'remount,ro', str(small_disk)], check=True)
    assert main(['cache', 'list', '--cache', str(small_disk)]) == 0
    assert 'of 1 dataset' in capsys.readouterr().out
    assert main(['cache', 'clear', '--cache', str(small_disk)]) == 2
    assert 'may not be written (Read-only file system)' in capsys.readouterr().err
    assert len(files(small_disk)) == 1


@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'int16', 'int32', 'uint32', 'int64', 'uint64'])
def test_rounding_is_part_of_the_sample(dtype: str, tmp_path: Path) -> None:
    checkpoint = tmp_path / 'integers'
    pipeline = tiny_pipeline(dataclasses.replace(SPEC, dtype=dtype))
    limits = np.iinfo(dtype)
    # So that some values are outside of the type
    pipeline.autoencoder.set_scaling(torch.tensor(float(limits.max) / 2), torch.tensor(float(limits.max)))
    pipeline.save_pretrained(checkpoint)
    with same_arithmetic(torch.device('cpu')):
        block = SpecDMPipeline.from_pretrained(checkpoint).sample(range(4), seed=0, steps=1)
    assert torch.equal(block['image'], block['image'].round())
    low, high = (int(float(value)) for value in (block['image'].min(), block['image'].max()))
    assert limits.min <= low < high <= limits.max
    assert high > 0.999 * limits.max
    cached = SpecDMSynthetic(checkpoint, 4, **SETTINGS)
    for samples in (uncached(checkpoint, 4), list(cached), list(SpecDMSynthetic(checkpoint, 4, **SETTINGS))):
        for key in ('image', 'mask'):
            assert torch.equal(torch.stack([sample[key] for sample in samples]), block[key])


def test_a_long_dataset_takes_no_more_memory(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[weakref.ref[Tensor]] = []
    read = cache_module.read_block

    def record(*arguments: Any, **named: Any) -> Any:
        block = read(*arguments, **named)
        opened.append(weakref.ref(block['image']))
        return block

    monkeypatch.setattr(cache_module, '_MAPS', 3)
    monkeypatch.setattr(cache_module, 'read_block', record)
    dataset = SpecDMSynthetic(checkpoint, 80, **SETTINGS)
    dataset.materialize()
    for index in range(80):
        dataset[index]
        assert sum(block() is not None for block in opened) <= 3
    assert len(opened) >= 2 * 20


def test_making_a_dataset_asks_for_no_gpu(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('is_available', 'device_count', 'current_device', 'get_device_name', '_lazy_init'):
        monkeypatch.setattr(torch.cuda, name, lambda *_: pytest.fail('CUDA was touched'))
    real = FakePairs(SPEC, length=6)
    for asked in ({}, {'keep': 'aligned'}, {'fresh': True}, {'given': real}, {'classes': {'water': 0.4}}):
        for device in (None, 'cuda'):
            dataset = SpecDMSynthetic(checkpoint, 8, device=device, **asked)  # type: ignore[arg-type]
            assert len(pickle.loads(pickle.dumps(dataset))) == 8  # noqa: S301
