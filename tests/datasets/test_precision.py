"""Half precision and compiling: other settings, the same laws; and on what processor samples were made."""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader

from tests.conftest import tiny_pipeline, tiny_spec
from tests.fake import FakePairs
from torchgeo_specdm.cli import main
from torchgeo_specdm.datasets import precision as precision_module
from torchgeo_specdm.datasets import settings as settings_module
from torchgeo_specdm.datasets.device import same_arithmetic
from torchgeo_specdm.datasets.synthetic import SpecDMSynthetic
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.models import JointDenoiser

SPEC = dataclasses.replace(tiny_spec('segmentation'), dtype='float32')
HALF = 'bf16-mixed'
COMPILER = pytest.mark.skipif(shutil.which('g++') is None, reason='PyTorch compiles for a CPU with g++')


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator of floats that knows class shares, given streams and agreement."""
    folder = tmp_path_factory.mktemp('precision') / 'checkpoint'
    pipeline = tiny_pipeline(SPEC)
    # One level, as PyTorch takes seconds for each to trace it
    pipeline.denoiser = JointDenoiser(3, 4, widths=(32,), depth=1, clocks=2, num_classes=SPEC.num_classes).eval()
    pipeline.absent = True
    pipeline.save_pretrained(folder)
    return folder


class Graphs:
    """A compiler that changes nothing and counts."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, module: Any, inputs: Any) -> Callable[..., Any]:
        self.count += 1
        return module.forward  # type: ignore[no-any-return]


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Graphs:
    found = Graphs()
    monkeypatch.setattr(precision_module, '_BACKEND', found)
    return found


def make(checkpoint: Path, length: int = 6, **arguments: Any) -> SpecDMSynthetic:
    return SpecDMSynthetic(
        checkpoint, length, **{'steps': 2, 'batch_size': 3, 'device': 'cpu', 'cache': None, **arguments}
    )


def same(a: Any, b: Any) -> bool:
    return set(a) == set(b) and all(torch.equal(a[key], b[key]) for key in a)


def all_same(a: Any, b: Any) -> bool:
    return len(a) == len(b) and all(map(same, a, b))


@pytest.mark.parametrize('precision', ['32-true', HALF])
def test_what_surrounds_a_dataset_never_changes_a_bit(checkpoint: Path, precision: str) -> None:
    asked: dict[str, Any] = {'precision': precision, 'classes': {'water': 0.4}}
    reference = list(make(checkpoint, **asked))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        dataset = make(checkpoint, **asked)
        assert all_same([dataset[index] for index in (5, 0, 3)], [reference[index] for index in (5, 0, 3)])
        for context in (
            torch.autocast('cpu', torch.bfloat16),
            torch.autocast('cpu', torch.float16),
            torch.inference_mode(),
            sdpa_kernel(SDPBackend.MATH),
        ):
            dataset = make(checkpoint, **asked)
            with context:
                assert same(dataset[4], reference[4])
            # Loaded there, used here
            assert same(dataset[0], reference[0])
        torch.set_default_dtype(torch.float64)
        assert same(make(checkpoint, **asked)[4], reference[4])
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(torch.float32)


def test_the_denoiser_alone_is_half_and_the_solver_sees_floats(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, answers = set(), set()
    forward, change = JointDenoiser.forward, precision_module.set_precision

    def watch(denoiser: JointDenoiser, *arguments: Any) -> None:
        denoiser.unet.conv_in.register_forward_hook(lambda _, __, made: inside.add(made.dtype))
        change(denoiser, *arguments)
        denoiser.register_forward_hook(lambda _, __, made: answers.add(made.dtype))

    monkeypatch.setattr('torchgeo_specdm.datasets.generation.set_precision', watch)
    half = make(checkpoint, precision=HALF)[0]
    assert (inside, answers) == ({torch.bfloat16}, {torch.float32})
    full = make(checkpoint)[0]
    assert inside == {torch.bfloat16, torch.float32}
    assert not torch.equal(half['image'], full['image'])
    torch.testing.assert_close(half['image'], full['image'], rtol=0, atol=float(full['image'].std()))
    assert JointDenoiser.forward is forward


def test_they_are_settings(checkpoint: Path) -> None:
    chosen = [{}, {'precision': HALF}, {'compile': True}, {'precision': HALF, 'compile': True}]
    settings = [make(checkpoint, **arguments).settings for arguments in chosen]
    assert settings[0].key == make(checkpoint, precision='32-true', compile=False).settings.key
    assert len({one.key for one in settings}) == 4
    for one in settings:
        assert settings_module.Settings(**json.loads(json.dumps(one.to_dict()))).key == one.key


def test_what_there_is_not_is_refused_at_once(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ('16-mixed', 'bf16', ''):
        with pytest.raises(SpecDMError, match=r'precision is .*must be one of 32-true, bf16-mixed'):
            make(checkpoint, precision=wrong)
    monkeypatch.setattr(torch, 'compile', lambda model, *, fullgraph, dynamic, backend: model)
    with pytest.raises(SpecDMError, match='compile=True needs a newer PyTorch'):
        make(checkpoint, compile=True)


@pytest.mark.slow
def test_a_producer_makes_the_same_bits(checkpoint: Path, own_cache: Path, generated: Callable[[], list[int]]) -> None:
    reference = list(make(checkpoint, precision=HALF))
    here = len(generated())
    dataset = make(checkpoint, precision=HALF, cache=own_cache)
    [batch] = DataLoader(dataset, 6, num_workers=1)
    assert all(torch.equal(batch[key], torch.stack([sample[key] for sample in reference])) for key in reference[0])
    assert len(generated()) == here, 'neither here nor in the worker'


@pytest.mark.parametrize(
    'request_',
    [
        {'solver': 'heun'},
        {'classes': {'water': 0.4}, 'guidance': 3.0},
        {'classes': {'water': 0.4}, 'agreement': 2.0, 'given': FakePairs(SPEC, length=4), 'given_streams': ['image']},
    ],
    ids=['plain', 'classes', 'given'],
)
def test_one_graph_serves_all_steps_and_blocks(checkpoint: Path, graphs: Graphs, request_: dict[str, Any]) -> None:
    made = list(make(checkpoint, compile=True, precision=HALF, **request_))
    assert graphs.count == 1
    assert all_same(made, list(make(checkpoint, precision=HALF, **request_))), 'this compiler changes nothing'


@pytest.mark.slow
def test_a_process_compiles_as_many_networks_as_it_needs(checkpoint: Path, graphs: Graphs) -> None:
    """PyTorch gives up after some graphs of one function."""
    with torch._dynamo.config.patch(recompile_limit=1):
        for size in (1, 2):
            make(checkpoint, compile=True, batch_size=size, steps=1)[0]
    assert graphs.count == 2


def test_a_compiler_that_fails_is_told(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError('no compiler in this house')

    monkeypatch.setattr(precision_module, '_BACKEND', fail)
    with pytest.raises(SpecDMError, match=r'compile=True: .*cpu .*house.*leave compile out') as caught:
        make(checkpoint, compile=True)[0]
    assert '\n' not in str(caught.value)


class OneLayer(torch.nn.Module):
    """What a denoiser is called with; one of the smallest that ship takes minutes to compile on a CPU."""

    clocks, num_classes = 2, 4

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, z: Tensor, clocks: Tensor, shares: Tensor | None = None) -> Tensor:
        assert shares is not None, 'always told, so that there is one graph'
        normed = torch.nn.functional.group_norm(self.layer(z), 1)
        return normed + clocks.sin().mean(1)[:, None, None, None] + shares.nan_to_num().sum(1)[:, None, None, None]


@COMPILER
@pytest.mark.parametrize('precision', ['32-true', HALF])
def test_what_is_compiled_computes_the_same_each_time(precision: str) -> None:
    z, t = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([3, 700])
    answers = []
    for _ in range(2):
        network = OneLayer()
        expected = network(z, t[:, None].float(), torch.zeros(2, 4))
        precision_module.set_precision(network, precision, compiled=True)
        with torch.no_grad(), same_arithmetic(torch.device('cpu')):
            answers += [
                network(z, t),
                network(z.transpose(2, 3).contiguous().transpose(2, 3), t[:, None].expand(-1, 2)),
            ]
    assert all(torch.equal(answer, answers[0]) for answer in answers)
    assert answers[0].dtype == torch.float32
    torch.testing.assert_close(answers[0], expected, rtol=0, atol=1e-5 if precision == '32-true' else 0.03)


def test_half_precision_resembles_the_full_one() -> None:
    """Of a trained generator; a stochastic solver makes more of rounding than a network does."""
    made = {}
    for precision in precision_module.PRECISIONS:
        samples = list(SpecDMSynthetic('indian-pines', 8, precision=precision, device='cpu', cache=None))
        made[precision] = {key: torch.stack([sample[key] for sample in samples]) for key in ('image', 'mask')}
    full, half = made.values()
    assert float((full['mask'] == half['mask']).double().mean()) >= 0.9
    spread = full['image'].std((0, 2, 3), keepdim=True)
    assert 0 < float(((half['image'] - full['image']) / spread).square().mean().sqrt()) <= 0.25


@pytest.fixture
def processor() -> Iterator[Callable[[], str]]:
    """Asks anew what computes."""

    def ask() -> str:
        settings_module._processor.cache_clear()
        return settings_module.device_model(torch.device('cpu'))

    yield ask
    settings_module._processor.cache_clear()


def test_the_processor_is_a_setting(
    checkpoint: Path, tmp_path: Path, processor: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cpuinfo = tmp_path / 'cpuinfo'
    monkeypatch.setattr(settings_module, '_CPUINFO', cpuinfo)
    keys = set()
    for maker in ('AMD EPYC 7763 64-Core Processor', 'Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz'):
        core = f'model\t\t: 1\nmodel name\t: {maker}\n\n'
        cpuinfo.write_text(f'processor\t: 0\n{core}processor\t: 1\n{core}')
        assert processor() == f'cpu {torch.backends.cpu.get_cpu_capability()} {maker}'
        settings = make(checkpoint).settings
        assert settings.device_type == 'cpu'
        keys.add(settings.key)
    assert len(keys) == 2
    dataset = make(checkpoint)
    assert dataset.settings.device.endswith('2.80GHz')
    # Without a file, and where it names none
    for text in ('processor\t: 0\nBogoMIPS\t: 50.00\n', None):
        cpuinfo.unlink() if text is None else cpuinfo.write_text(text)
        monkeypatch.setattr('platform.processor', lambda: '')
        monkeypatch.setattr('platform.machine', lambda: 'aarch64')
        assert processor().endswith(' aarch64')
    with pytest.raises(SpecDMError, match=r'opened for cpu .*2\.80GHz, and this process computes on cpu .*aarch64'):
        dataset[0]


def test_the_command_knows_them(
    checkpoint: Path, tmp_path: Path, graphs: Graphs, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ['sample', str(checkpoint), '--n', '1', '--steps', '1', '--batch-size', '1', '--device', 'cpu']
    half = [*command, '--out', str(tmp_path / 'half'), '--precision', HALF]
    assert main([*half, '--compile']) == 0
    assert graphs.count == 1
    assert main(half) == 2
    assert 'made with another compile' in capsys.readouterr().err
    assert main([*command, '--out', str(tmp_path / 'other'), '--precision', 'half']) == 2
    assert "precision is 'half'" in capsys.readouterr().err
