"""SpecDMSynthetic: what may never change a bit, what must be lazy, and what is refused."""

import copy
import dataclasses
import os
import pickle
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Subset, default_collate

from tests.conftest import tiny_pipeline, tiny_spec
from torchgeo_specdm import strangers
from torchgeo_specdm.datasets import blocks as blocks_module
from torchgeo_specdm.datasets import device as device_module
from torchgeo_specdm.datasets import synthetic as synthetic_module
from torchgeo_specdm.datasets.synthetic import SpecDMSynthetic
from torchgeo_specdm.errors import CheckpointError, SpecDMError
from torchgeo_specdm.pipeline import SpecDMPipeline


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stored as floats, so that rounding to integers cannot hide a changed bit."""
    folder = tmp_path_factory.mktemp('float') / 'checkpoint'
    tiny_pipeline(dataclasses.replace(tiny_spec('segmentation'), dtype='float32')).save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested here is generated, not read; ``test_cache.py`` has the rest."""
    monkeypatch.setattr(synthetic_module, 'default_home', lambda: None)


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The indices of each batch that was generated, in order."""
    seen: list[tuple[int, ...]] = []
    sample = SpecDMPipeline.sample

    def record(self: SpecDMPipeline, indices: Sequence[int], **kwargs: Any) -> dict[str, Tensor]:
        seen.append(tuple(indices))
        return sample(self, indices, **kwargs)

    monkeypatch.setattr(SpecDMPipeline, 'sample', record)
    return seen


def same(a: Any, b: Any) -> bool:
    return set(a) == set(b) and all(torch.equal(a[key], b[key]) for key in a)


def epoch(dataset: Any) -> dict[str, Tensor]:
    loader = DataLoader(dataset, batch_size=5)
    batches = list(loader)
    return {key: torch.cat([batch[key] for batch in batches]) for key in batches[0]}


@pytest.mark.parametrize('task', ['segmentation', 'change'])
def test_a_sample_is_what_the_spec_says(task: str, request: pytest.FixtureRequest) -> None:
    dataset = SpecDMSynthetic(request.getfixturevalue(f'tiny_{task}_checkpoint'), length=3, steps=2)
    assert dataset.spec == tiny_spec(task)
    samples = list(dataset)
    assert len(samples) == len(dataset) == 3
    batch = default_collate(samples)
    assert batch['image'].shape == (3, *dataset.spec.image_shape)
    assert batch['image'].dtype == torch.float32
    assert torch.equal(batch['image'], batch['image'].round())
    assert batch['mask'].shape == (3, *dataset.spec.mask_shape)
    assert batch['mask'].dtype == torch.int64
    assert batch['synthetic'].dtype == torch.bool
    assert bool(batch['synthetic'].all())
    assert samples[0]['synthetic'].ndim == 0


def test_samples_are_the_pipelines(checkpoint: Path) -> None:
    dataset = SpecDMSynthetic(checkpoint, steps=2, seed=7, batch_size=4, solver='ddim')
    block = SpecDMPipeline.from_pretrained(checkpoint).sample(range(4, 8), seed=7, steps=2, solver='ddim')
    for row, sample in enumerate(dataset.__getitems__([4, 5, 6, 7])):
        torch.testing.assert_close(sample['image'], block['image'][row], rtol=0, atol=1e-3)
        assert torch.equal(sample['mask'], block['mask'][row])


def test_order_repetition_threads_and_memory_never_change_a_bit(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fresh() -> SpecDMSynthetic:
        return SpecDMSynthetic(checkpoint, length=11, steps=2, batch_size=4, solver='sde-dpmsolver++')

    reference = list(fresh())
    assert not torch.equal(reference[0]['image'], reference[1]['image'])
    shuffled = [10, 3, 3, 0, 7, 5, -1, 1]
    threads = torch.get_num_threads()
    monkeypatch.setattr(blocks_module, '_MEMORY', 1)  # one block at a time
    try:
        torch.set_num_threads(2)
        dataset = fresh()
        for found in (dataset.__getitems__(shuffled), [dataset[index] for index in shuffled]):
            assert all(same(sample, reference[index]) for index, sample in zip(shuffled, found, strict=True))
        with torch.inference_mode(), torch.autocast('cpu', torch.bfloat16):
            assert same(fresh()[5], reference[5])
        torch.set_default_dtype(torch.float64)
        assert same(fresh()[5], reference[5])
        assert (torch.get_num_threads(), torch.get_default_dtype()) == (2, torch.float64)
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(torch.float32)
    assert len(dataset._blocks) == 1


def test_batch_sizes_agree_within_float32(checkpoint: Path) -> None:
    one, many = (epoch(SpecDMSynthetic(checkpoint, 8, steps=4, batch_size=size)) for size in (1, 8))
    assert float((one['image'] - many['image']).abs().max()) < 1e-3 * float(one['image'].std())
    assert float((one['mask'] == many['mask']).double().mean()) >= 0.999


def test_batch_sizes_agree_for_a_generator_that_was_trained() -> None:
    """Its latents are far from zero, and 20 steps add up what float32 leaves; then values are rounded."""
    one, many = (epoch(SpecDMSynthetic('indian-pines', 2, batch_size=size, cache=None)) for size in (1, 2))
    assert float((one['image'] - many['image']).abs().max()) <= 1e-3 * float(one['image'].std()) + 1
    assert float((one['mask'] == many['mask']).double().mean()) >= 0.999


def test_a_request_generates_each_missing_block_once_and_whole(checkpoint: Path, blocks: list[tuple[int, ...]]) -> None:
    dataset = SpecDMSynthetic(checkpoint, length=6, steps=1, batch_size=4)
    assert blocks == []
    dataset.__getitems__([5, 0, 4, 1, 0])
    assert blocks == [(4, 5, 6, 7), (0, 1, 2, 3)]
    list(dataset)
    assert len(blocks) == 2
    SpecDMSynthetic(checkpoint, steps=1)[0]
    assert len(blocks[-1]) == 8, 'the default on a CPU'


def test_what_the_user_does_to_a_sample_stays_there(checkpoint: Path) -> None:
    def halve(sample: dict[str, Tensor]) -> dict[str, Tensor]:
        sample['image'] /= 2
        sample['mask'] += 100
        return sample

    raw = SpecDMSynthetic(checkpoint, length=2, steps=1)
    dataset = SpecDMSynthetic(checkpoint, length=2, steps=1, transforms=halve)
    for _ in range(2):
        assert torch.equal(dataset[1]['image'], raw[1]['image'] / 2)
        assert torch.equal(dataset[1]['mask'], raw[1]['mask'] + 100)


def test_the_open_end(checkpoint: Path) -> None:
    dataset = SpecDMSynthetic(checkpoint, steps=1)
    assert dataset[123_456]['mask'].shape == (16, 16)
    for use in (len, str, iter, list):
        with pytest.raises(TypeError, match='length='):
            use(dataset)
    with pytest.raises(IndexError):
        dataset[-1]
    joined = ConcatDataset([Subset(dataset, range(2)), Subset(dataset, [1, 0])])
    assert same(joined[0], joined[3])
    bounded = SpecDMSynthetic(checkpoint, length=2, steps=1)
    assert same(bounded[-1], bounded[1])
    assert 'size: 2' in str(bounded)
    for index in (2, -3):
        with pytest.raises(IndexError, match='length=2'):
            bounded[index]


def test_nothing_is_loaded_before_the_first_access_nor_pickled_after_it(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, 'is_available', lambda: pytest.fail('CUDA was touched'))
        patch.setattr(SpecDMPipeline, 'from_pretrained', lambda *_: pytest.fail('the networks were loaded'))
        dataset = SpecDMSynthetic(checkpoint, length=2, steps=1, device='cuda')
        empty = pickle.dumps(dataset)
    dataset = SpecDMSynthetic(checkpoint, length=2, steps=1, device='cpu')
    sample = dataset[0]
    assert len(pickle.dumps(dataset)) < len(empty) + 2000, 'no more than the settings'
    assert same(copy.deepcopy(dataset)[0], sample)


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ({'length': -1}, 'length is -1'),
        ({'seed': -1}, 'seed is -1'),
        ({'steps': 0}, 'steps is 0'),
        ({'batch_size': 0}, 'batch_size is 0'),
        ({'solver': 'euler'}, 'dpmsolver'),
        ({'device': 'gpu'}, "'cuda'"),
    ],
)
def test_arguments_out_of_range(checkpoint: Path, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecDMError, match=words):
        SpecDMSynthetic(checkpoint, **arguments)


def test_a_missing_checkpoint_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match='there is no checkpoint folder'):
        SpecDMSynthetic(tmp_path / 'none')


def test_cuda_that_is_absent_or_forked(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = SpecDMSynthetic(checkpoint, steps=1, device='cuda')
    if (child := os.fork()) == 0:
        try:
            dataset[0]
        except SpecDMError as error:
            os._exit(42 if 'num_workers=0' in str(error) else 1)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(SpecDMError, match="device='cpu'"):
        dataset[0]


def test_the_device_that_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    assert device_module.resolve_device(None) == torch.device('cuda')
    monkeypatch.setattr(device_module, 'get_worker_info', lambda: object())
    assert device_module.resolve_device(None) == torch.device('cpu')


@pytest.mark.parametrize('device', ['cpu', 'cuda'])
@pytest.mark.parametrize('chosen', ['highest', 'medium'])
def test_arithmetic_is_exact_inside_and_the_users_outside(chosen: str, device: str) -> None:
    def state() -> list[Any]:
        return [getattr(owner, name) for owner, name, _ in device_module._exact(device)]

    original = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(chosen)
    try:
        before = state()
        with device_module.same_arithmetic(torch.device(device)):
            assert state() == [value for *_, value in device_module._exact(device)]
        assert state() == before
        assert torch.get_float32_matmul_precision() == chosen
    finally:
        torch.set_float32_matmul_precision(original)


def test_out_of_memory_halves_the_batch_once(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = list(SpecDMSynthetic(checkpoint, 8, steps=1, batch_size=2))
    sample = SpecDMPipeline.sample
    limit = 2

    def bounded(self: SpecDMPipeline, indices: Sequence[int], **kwargs: Any) -> dict[str, Tensor]:
        if len(indices) > limit:
            raise torch.cuda.OutOfMemoryError('CUDA out of memory')
        return sample(self, indices, **kwargs)

    monkeypatch.setattr(SpecDMPipeline, 'sample', bounded)
    dataset = SpecDMSynthetic(checkpoint, 8, steps=1, batch_size=4)
    with pytest.warns(UserWarning, match='batch_size=2') as caught:
        found = list(dataset)
    assert sum('batch_size' in str(warning.message) for warning in caught) == 1
    assert all(same(a, b) for a, b in zip(found, expected, strict=True))
    limit, dataset = 1, SpecDMSynthetic(checkpoint, 8, steps=1, batch_size=5)
    with pytest.warns(UserWarning, match='batch_size=2'), pytest.raises(SpecDMError, match='try batch_size=1'):
        dataset[0]
    limit, dataset = 0, SpecDMSynthetic(checkpoint, 8, steps=1, batch_size=1)
    with pytest.raises(SpecDMError, match="device='cpu'"):
        dataset[0]


def test_generating_again_and_again_is_told(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks_module, '_MEMORY', 1)
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        list(SpecDMSynthetic(checkpoint, 32, steps=1, batch_size=8))
    dataset = SpecDMSynthetic(checkpoint, steps=1, batch_size=8)
    with pytest.warns(UserWarning, match='in order'):
        [dataset[index] for index in [0, 8, 0]]


@pytest.mark.parametrize(('task', 'panels'), [('segmentation', 2), ('change', 3)])
def test_plot(task: str, panels: int, request: pytest.FixtureRequest) -> None:
    dataset = SpecDMSynthetic(request.getfixturevalue(f'tiny_{task}_checkpoint'), length=1, steps=1)
    sample = dataset[0]
    figure = dataset.plot(sample, suptitle='a pair')
    assert [bool(axis.get_title()) for axis in figure.axes] == [True] * panels
    figure = dataset.plot(sample | {'prediction': sample['mask']}, show_titles=False)
    assert [bool(axis.get_title()) for axis in figure.axes] == [False] * (panels + 1)
    plt.close('all')


def test_the_description_of_a_checkpoint_is_read_once(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, parse = [], strangers.parse_json

    def record(path: Path) -> Any:
        seen.append(path.relative_to(checkpoint).as_posix())
        return parse(path)

    monkeypatch.setattr('torchgeo_specdm.checkpoint.parse_json', record)
    dataset = SpecDMSynthetic(checkpoint, 4)
    assert dataset.settings.solver == SpecDMPipeline.from_pretrained(checkpoint).solver_defaults['solver']
    assert sorted(seen[:2]) == ['denoiser/config.json', 'specdm.json']
    assert seen.count('specdm.json') == 2, 'once by the dataset, once by the pipeline'
