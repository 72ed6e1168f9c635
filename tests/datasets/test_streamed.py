"""Blocks that a process of its own generates while workers read: the same bits, whatever dies, fails or is full."""

import errno
import multiprocessing
import os
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tests.conftest import slow_but, strict_filter, tiny_pipeline
from tests.fake import FakePairs
from tests.forked import fork_producers
from tests.streams import SETTINGS, SPEC, Start, joined, opened, place_taken, same, serve, uncached, until
from torchgeo_specdm import producer
from torchgeo_specdm.datasets import block_files, filling, producers
from torchgeo_specdm.datasets import cache as cache_module
from torchgeo_specdm.datasets.cache import BlockCache
from torchgeo_specdm.datasets.device import other_gpus
from torchgeo_specdm.datasets.generation import BlockGenerator
from torchgeo_specdm.datasets.synthetic import SpecDMSynthetic
from torchgeo_specdm.datasets.wishes import LOOK_AHEAD, Wishes, take_place
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.pipeline import SpecDMPipeline


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('streamed') / 'checkpoint'
    tiny_pipeline(SPEC, clocks=2, num_classes=SPEC.num_classes).save_pretrained(folder)
    strict_filter(SPEC, folder / 'filter').save(folder / 'filter')
    return folder


def epoch(dataset: Any, workers: int = 1, context: str | None = 'fork', **arguments: Any) -> dict[str, Tensor]:
    arguments = {'batch_size': 3, 'num_workers': workers, 'multiprocessing_context': context} | arguments
    return joined(list(DataLoader(dataset, **arguments)))


@pytest.mark.parametrize('there', [set(), {0, 5}, {0, 5, 1, 6}, set(range(8))])
def test_the_order_of_wishes(there: set[int], tmp_path: Path) -> None:
    wishes = Wishes(tmp_path)
    assert list(wishes.wanted(there.__contains__)) == []
    for number, end in ((5, 8), (0, 3), (5, 8)):
        wishes.add(number, end)
    order = list(dict.fromkeys(wishes.wanted(there.__contains__)))
    urgent = [number for number in (0, 5) if number not in there]
    assert order == [*urgent, *(number for number in (0, 1, 2, 5, 6, 7) if number not in there | set(urgent))]
    assert wishes.pending() == ([] if len(there) == 8 else [(0, 3), (5, 8)])
    wishes.drop(range(5, 8))
    assert wishes.pending() == ([] if len(there) == 8 else [(5, 8)])


def test_blocks_that_are_deleted_are_not_wished_for(tmp_path: Path) -> None:
    """Another process begins the next epoch while a producer looks at its wishes."""
    wishes = Wishes(tmp_path)
    wishes.add(0, 4)
    wishes.add(2, 4)

    def deleted(number: int) -> bool:
        wishes.drop(range(2, 6))
        return number >= 3

    assert set(wishes.wanted(deleted)) == {2}


@pytest.mark.parametrize('workers', [1, 2])
def test_a_streamed_epoch_is_the_same_epoch(
    workers: int, checkpoint: Path, generated: Callable[[], list[int]], fork: Start
) -> None:
    reference = uncached(checkpoint, range(22))
    made = len(generated())
    dataset = SpecDMSynthetic(checkpoint, 22, **SETTINGS)
    serve(fork, dataset)
    assert same(epoch(dataset, workers), reference)
    assert sorted(generated()[made:]) == list(range(0, 24, 4)), 'each block once, none behind the last'
    assert same(epoch(dataset, 0, None), reference)


def test_a_killed_producer_is_replaced_and_ends_with_its_worker(
    checkpoint: Path, fork: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second producer is the real one."""
    reference = uncached(checkpoint, range(10))
    dataset = SpecDMSynthetic(checkpoint, 10, **SETTINGS)
    folder = opened(dataset).folder
    with monkeypatch.context() as patch:
        patch.setattr(SpecDMPipeline, 'sample', lambda *_, **__: time.sleep(600))
        first = serve(fork, dataset)
    monkeypatch.setattr(SpecDMPipeline, 'from_pretrained', lambda *_: pytest.fail('networks in a worker'))
    batches = iter(DataLoader(dataset, 3, num_workers=1, multiprocessing_context='fork'))
    until((folder / 'locks' / '00000000.lock').exists)
    os.kill(first.pid, signal.SIGKILL)
    found = list(batches)
    assert same(joined(found), reference)
    del batches
    until(lambda: not place_taken(folder), 10)


@pytest.mark.parametrize('context', slow_but(['fork'], ['fork', 'spawn']))
def test_the_producer_of_a_killed_trainer_is_gone_within_seconds_and_another_reads_on(
    context: str, checkpoint: Path, fork: Start
) -> None:
    """The producer is the real one, and the trainer is killed while it generates the second block of two."""
    dataset = SpecDMSynthetic(checkpoint, 8, **SETTINGS | {'steps': 40})
    folder = opened(dataset).folder
    trainer = fork(lambda: list(DataLoader(dataset, 4, num_workers=1, multiprocessing_context=context)))
    # A spawned worker imports everything, and its producer after it, which takes long on a machine with other work
    until((folder / 'locks' / '00000001.lock').exists, 240)
    assert place_taken(folder)
    os.kill(trainer.pid, signal.SIGKILL)
    until(lambda: not place_taken(folder), 10)
    assert [path.stem for path in folder.glob('*.safetensors')] == ['00000000']
    assert same(epoch(dataset, 0, None), uncached(checkpoint, range(8), steps=40))


@pytest.mark.parametrize('closed', ['input', 'end'])
def test_a_producer_ends_with_its_input_and_with_the_trainer(
    closed: str, fork: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer, 'work', lambda job: time.sleep(600))
    (reads, writes), (end, holds) = os.pipe(), os.pipe()

    def run() -> None:
        os.dup2(reads, 0)
        os.close(writes)
        os.close(holds)
        producer.main()

    process = fork(run)
    os.write(writes, f'{{"ends": [{end}]}}\n'.encode())
    process.join(0.5)
    assert process.is_alive()
    os.close(writes if closed == 'input' else holds)
    process.join(10)
    assert process.exitcode == 0
    for pipe in {reads, end, writes, holds} - {writes if closed == 'input' else holds}:
        os.close(pipe)


def test_a_producer_sees_the_end_of_a_trainer_whose_worker_lives_on(
    tmp_path: Path, fork: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under forkserver, where the server is the parent of the workers, and stays."""
    ended, worker = tmp_path / 'ended', tmp_path / 'worker'
    wait = 'import json; ends = json.loads(sys.stdin.readline())["ends"]; [os.read(end, 1) for end in ends]'
    program(monkeypatch, f'{wait}; open({str(ended)!r}, "w")')

    def work() -> None:
        started = producers.ProducerProcess({})
        worker.write_text(str(os.getpid()))
        time.sleep(600)
        started.close()

    def train() -> None:
        multiprocessing.get_context('fork').Process(target=work).start()
        time.sleep(600)

    trainer = fork(train)
    until(worker.exists)
    time.sleep(0.5)
    assert not ended.exists()
    os.kill(trainer.pid, signal.SIGKILL)
    until(ended.exists, 10)
    os.kill(int(worker.read_text()), signal.SIGKILL)


def program(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """What stands for the producer."""
    monkeypatch.setattr(producers, '_COMMAND', (sys.executable, '-c', f'import os, sys, time; {code}'))
    monkeypatch.setattr(producers, '_INTERVAL', 0.05)


@pytest.mark.parametrize(
    ('code', 'words'),
    [
        ('print("some warning\\n\\nno weights", file=sys.stderr); sys.exit(2)', 'has failed: no weights'),
        ('import specdm_is_not_there', "has failed: ModuleNotFoundError: No module named 'specdm_is_not_there'"),
        ('sys.exit(3)', 'has failed: it ended with status 3'),
        ('os.kill(os.getpid(), 9)', 'has failed: it ended with status -9'),
    ],
)
def test_a_producer_that_fails_says_why(
    code: str, words: str, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(monkeypatch, code)
    batches: Any = iter(DataLoader(SpecDMSynthetic(checkpoint, 4, **SETTINGS), 4, num_workers=1))
    with pytest.raises(SpecDMError, match=words):
        next(batches)
    # Else the traceback keeps the iterator, and it takes seconds to be collected
    batches._shutdown_workers()


@pytest.mark.parametrize(('code', 'status'), [('sys.stdin.read()', 0), ('time.sleep(600)', -signal.SIGKILL)])
def test_a_program_ends_with_its_input(code: str, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    program(monkeypatch, code)
    monkeypatch.setattr(producers, '_LAST_WORDS', 5.0 if status == 0 else 0.1)
    process = producers.ProducerProcess({'a': 1})
    assert process.status is None
    process.close()
    assert process.status == status


def test_two_loaders_of_one_cache(checkpoint: Path, generated: Callable[[], list[int]], fork: Start) -> None:
    dataset, other = (SpecDMSynthetic(checkpoint, 16, **SETTINGS) for _ in range(2))
    serve(fork, dataset)
    first, second = (iter(DataLoader(one, 4, num_workers=1)) for one in (dataset, other))
    pairs = list(zip(first, second, strict=True))
    assert len(pairs) == 4
    assert all(same(*pair) for pair in pairs)
    assert sorted(generated()) == [0, 4, 8, 12]


def test_a_worker_that_inherits_blocks_streams_the_rest(checkpoint: Path, fork: Start) -> None:
    reference = uncached(checkpoint, range(12))
    dataset = SpecDMSynthetic(checkpoint, 12, **SETTINGS)
    assert dataset.materialize(4)
    serve(fork, dataset)
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        assert same(epoch(dataset), reference)


def test_a_damaged_block_is_generated_again(checkpoint: Path, fork: Start) -> None:
    reference = uncached(checkpoint, range(8))
    SpecDMSynthetic(checkpoint, 8, **SETTINGS).materialize()
    dataset = SpecDMSynthetic(checkpoint, 8, **SETTINGS)
    path = opened(dataset).folder / '00000001.safetensors'
    path.write_bytes(path.read_bytes()[:-100])
    serve(fork, dataset)
    assert same(epoch(dataset), reference)


def test_a_file_beside_the_blocks_is_none(checkpoint: Path) -> None:
    blocks = opened(SpecDMSynthetic(checkpoint, **SETTINGS))
    (blocks.folder / '._00000000.safetensors').touch()
    assert SpecDMSynthetic(checkpoint, 4, **SETTINGS).materialize()
    assert blocks.has(0)


def test_a_shuffled_loader_is_told(checkpoint: Path, fork: Start) -> None:
    dataset = SpecDMSynthetic(checkpoint, 4 * (LOOK_AHEAD + 1), **SETTINGS)
    serve(fork, dataset)

    def told(_: int) -> None:
        warnings.simplefilter('error', UserWarning)

    order = list(range(0, 4 * (LOOK_AHEAD + 1), 4))
    with pytest.raises(UserWarning, match=rf'{LOOK_AHEAD + 1} samples lie in {LOOK_AHEAD + 1} blocks .*materialize'):
        epoch(dataset, sampler=order, batch_size=len(order), worker_init_fn=told)
    assert len(epoch(dataset, worker_init_fn=told)['mask']) == len(dataset), 'in order, nothing is to be said'


def test_given_samples_do_not_go_to_a_producer(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker on a CPU generates them itself, as it has the samples."""
    real = FakePairs(SPEC, length=6)
    reference = uncached(checkpoint, range(8), given=real)
    program(monkeypatch, 'sys.exit("a producer")')
    assert same(epoch(SpecDMSynthetic(checkpoint, 8, given=real, **SETTINGS)), reference)


@pytest.mark.parametrize(
    'asked',
    [
        *({}, {'classes': 'balanced'}, {'classes': 'train'}),
        *({'classes': {'water': 0.4}, 'guidance': 2.0, 'seed': 3}, {'keep': 'aligned'}),
    ],
)
def test_a_producer_has_the_same_generator(asked: dict[str, Any], checkpoint: Path) -> None:
    shares = torch.linspace(0, 1, 21).expand(SPEC.num_classes, -1)
    if isinstance(asked.get('classes'), str):
        checkpoint = checkpoint.parent / 'drawn'
        told = {'shares': shares, 'share_rows': torch.eye(SPEC.num_classes)}
        tiny_pipeline(SPEC, clocks=2, num_classes=SPEC.num_classes, **told).save_pretrained(checkpoint)  # type: ignore[arg-type]
    dataset = SpecDMSynthetic(checkpoint, **SETTINGS | asked)
    blocks = dataset._open()
    assert isinstance(blocks, BlockCache)
    assert blocks.job is not None
    twin = BlockGenerator.from_job(blocks.job)
    assert twin.settings.key == dataset.settings.key
    assert same(twin(1), blocks.block(1))


def test_a_cache_that_may_not_be_written_is_filled_in_memory(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    reference = uncached(checkpoint, range(8))
    program(monkeypatch, 'sys.exit("a producer")')
    monkeypatch.setattr(cache_module, 'enter', refuse)
    assert same(epoch(SpecDMSynthetic(checkpoint, 8, **SETTINGS)), reference)


def test_a_full_disk_ends_the_producer_with_the_words_for_the_reader(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    blocks = opened(SpecDMSynthetic(checkpoint, **SETTINGS))
    Wishes(blocks.folder).add(0, 1)
    monkeypatch.setattr(block_files.os, 'fsync', fail)
    with pytest.raises(SpecDMError, match=r'is full; .*specdm cache clear'):
        producer.work({**(blocks.job or {}), 'places': 1})
    assert not place_taken(blocks.folder)


def test_a_disk_that_fills_while_workers_read(
    checkpoint: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is a real one."""
    fork_producers(monkeypatch)
    dataset = SpecDMSynthetic(checkpoint, cache=small_disk, **SETTINGS)
    # Now, as the disk may be full before the worker has opened the cache
    dataset.reserve(0)
    batches: Any = iter(DataLoader(dataset, 4, num_workers=1, sampler=range(60)))
    with pytest.raises(SpecDMError, match=r'disk of .* is full; .*specdm cache clear'):
        list(batches)
    batches._shutdown_workers()
    done = len(list(small_disk.rglob('*.safetensors')))
    assert 0 < done < 15
    until(lambda: not place_taken(dataset._open().folder), 10)  # type: ignore[attr-defined]
    assert not list(small_disk.rglob('*.partial'))
    again = SpecDMSynthetic(checkpoint, 4 * done, cache=small_disk, **SETTINGS)
    assert same(epoch(again, 0, None), uncached(checkpoint, range(4 * done)))


def test_a_checkpoint_that_was_exchanged_is_no_longer_generated_from(checkpoint: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(checkpoint, tmp_path / 'copy'))
    blocks = opened(SpecDMSynthetic(copy, **SETTINGS))
    shutil.rmtree(copy)
    tiny_pipeline(SPEC, seed=1).save_pretrained(copy)
    Wishes(blocks.folder).add(0, 1)
    with pytest.raises(SpecDMError, match='has changed since the dataset was opened'):
        producer.work({**(blocks.job or {}), 'places': 1})
    assert not blocks.has(0)


def test_an_idle_producer_ends(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = opened(SpecDMSynthetic(checkpoint, **SETTINGS))
    monkeypatch.setattr(producer, '_IDLE', 0.1)
    monkeypatch.setattr(producer, '_PATIENCE', 0.0)
    job = {**(blocks.job or {}), 'places': 1}
    producer.work(job)
    place = take_place(blocks.folder, 1)
    assert place is not None
    Wishes(blocks.folder).add(0, 1)
    producer.work(job)
    assert not blocks.has(0), 'there was no place for a second one'
    place.release()
    producer.work(job)
    assert blocks.has(0)


class ForkedProducer:
    """A helper without the seconds that a program takes to start."""

    status = 0

    def __init__(self, job: Any) -> None:
        self.process = multiprocessing.get_context('fork').Process(target=lambda: producer.work(job))
        self.process.start()

    def words(self) -> str:
        return 'no weights'

    def close(self) -> None:
        self.process.kill()
        self.process.join()


def test_processes_fill_a_cache_together(
    checkpoint: Path, generated: Callable[[], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = uncached(checkpoint, range(40))
    made = len(generated())
    monkeypatch.setattr(filling, '_WORTH', 0.0)
    monkeypatch.setattr(filling, 'ProducerProcess', ForkedProducer)
    dataset = SpecDMSynthetic(checkpoint, 40, **SETTINGS)
    assert dataset.materialize(processes=3)
    assert sorted(generated()[made:]) == list(range(0, 40, 4))
    monkeypatch.setattr(ForkedProducer, 'status', 2)
    with pytest.warns(UserWarning, match='has failed: no weights'):
        assert dataset.materialize(60, processes=2)
    monkeypatch.setattr(filling, 'ProducerProcess', lambda job: pytest.fail('more processes than were asked for'))
    assert dataset.materialize(80)
    assert same(epoch(dataset, 0, None), reference)


def test_each_further_gpu_has_a_process(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no GPU here: the processes are not started, but what they are told is seen."""
    told: list[str] = []

    class Silent:
        status = 0

        def __init__(self, job: Any) -> None:
            told.append(job['device'])

        def close(self) -> None:
            pass

    monkeypatch.setattr(filling, '_WORTH', 0.0)
    monkeypatch.setattr(filling, 'ProducerProcess', Silent)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 4)
    monkeypatch.setattr(torch.cuda, 'current_device', lambda: 1)
    assert other_gpus(torch.device('cuda:3'), 4) == ['cuda:0', 'cuda:1', 'cuda:2']
    assert other_gpus(None, 1) == []
    with pytest.raises(SpecDMError, match='devices is 5, but PyTorch finds 4'):
        other_gpus(None, 5)
    dataset = SpecDMSynthetic(checkpoint, 40, **SETTINGS)
    assert dataset._open().fill(40, other_gpus(None, 3))
    assert told == ['cuda:0', 'cuda:2']
    with pytest.raises(SpecDMError, match='no GPU: use processes=2'):
        dataset.materialize(devices=2)


def fresh(checkpoint: Path, **arguments: Any) -> SpecDMSynthetic:
    return SpecDMSynthetic(checkpoint, 10, fresh=True, **SETTINGS | arguments)


# One spawned worker shows what two would; each imports everything anew, which takes seconds
@pytest.mark.parametrize(
    ('workers', 'context'), slow_but([(0, None), (2, 'fork')], [(0, None), (2, 'fork'), (1, 'spawn')])
)
def test_fresh_samples_go_on_from_epoch_to_epoch(
    workers: int, context: str | None, checkpoint: Path, fork: Start
) -> None:
    dataset = fresh(checkpoint)
    dataset.reserve(10)
    blocks = dataset._open()
    assert isinstance(blocks, BlockCache)
    if workers:
        serve(fork, dataset)
    loader = DataLoader(
        dataset,
        5,
        num_workers=workers,
        persistent_workers=workers > 0,
        multiprocessing_context=context,
    )
    for number in (0, 1, 2, 5):
        dataset.set_epoch(number)
        found = joined(list(loader))
        assert same(found, uncached(checkpoint, range(10 * number, 10 * number + 10)))
        if workers:
            last = (10 * number + 19) // 4
            until(lambda last=last: blocks.has(last))  # generated before they are asked for
        there = sorted(int(path.stem) for path in blocks.folder.glob('*.safetensors'))
        assert there[0] >= 10 * number // 4
        assert there[-1] <= (10 * number + 19) // 4
    assert not any(blocks.has(n) for n in range(12))


def test_two_epochs_of_fresh_samples_fit_where_they_are_said_to(checkpoint: Path, own_cache: Path) -> None:
    """Also where a training is resumed, and where epochs begin within a block: 10 samples, blocks of 4."""

    def blocks() -> list[Path]:
        return sorted(own_cache.rglob('*.safetensors'))

    fresh(checkpoint)[0]
    size = blocks()[0].stat().st_size
    limit = 6 * size
    with pytest.raises(SpecDMError, match='raise max_bytes'):
        fresh(checkpoint, max_bytes=limit - size, seed=1).reserve(10)
    for start in (0, 5):
        dataset = fresh(checkpoint, max_bytes=limit)
        assert dataset.reserve(10)
        for number in range(start, start + 4):
            dataset.set_epoch(number)
            assert len(list(dataset)) == 10
            for block in dataset._kept_blocks():
                dataset._open().block(block)
            assert len(blocks()) <= 6


def test_fresh_samples_are_kept_apart_and_have_an_end(checkpoint: Path) -> None:
    dataset, plain = fresh(checkpoint), SpecDMSynthetic(checkpoint, 10, **SETTINGS)
    plain.materialize()
    assert dataset.settings.key != plain.settings.key
    assert 'fresh' not in plain.settings.to_dict()
    dataset.set_epoch(3)
    plain.set_epoch(3)
    assert same(plain[0], SpecDMSynthetic(checkpoint, **SETTINGS)[0])
    assert same(dataset[-1], SpecDMSynthetic(checkpoint, **SETTINGS)[39])
    with pytest.raises(IndexError, match='length=10'):
        dataset[10]
    with pytest.raises(SpecDMError, match='fresh=False'):
        dataset.materialize()
    with pytest.raises(SpecDMError, match='length='):
        SpecDMSynthetic(checkpoint, fresh=True, **SETTINGS)[0]
    for number in range(3):
        memory = fresh(checkpoint, cache=None)
        memory.set_epoch(number)
        assert same(memory[4], SpecDMSynthetic(checkpoint, **SETTINGS)[10 * number + 4])
        assert set(memory._blocks._blocks) <= set(memory._kept_blocks())  # type: ignore[union-attr]


def test_a_checkpoint_that_is_gone(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Path(shutil.copytree(checkpoint, tmp_path / 'copy'))
    blocks = opened(SpecDMSynthetic(copy, **SETTINGS))
    shutil.rmtree(copy / 'denoiser')
    Wishes(blocks.folder).add(0, 1)
    with pytest.raises(SpecDMError, match='denoiser'):
        producer.work({**(blocks.job or {}), 'places': 1})
