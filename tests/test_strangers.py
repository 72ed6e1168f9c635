"""Checkpoints from strangers: refused before they are read, in one line that says which file and why."""

import json
import os
import shutil
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import strict_filter, tiny_pipeline, tiny_spec
from torchgeo_specdm.alignment.copies import TrainingIndex
from torchgeo_specdm.alignment.filter import PairFilter
from torchgeo_specdm.checkpoint import WEIGHTS, read_json
from torchgeo_specdm.cli import main
from torchgeo_specdm.errors import CheckpointError, SpecDMError
from torchgeo_specdm.parts import load_autoencoder
from torchgeo_specdm.pipeline import SpecDMPipeline
from torchgeo_specdm.spec import DatasetSpec


@pytest.fixture
def copy(tiny_segmentation_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_segmentation_checkpoint, tmp_path / 'copy'))


def change(path: Path, **values: Any) -> None:
    """Set fields of a JSON file; ``a__b`` is the field b of a."""
    described = json.loads(path.read_text())
    for name, value in values.items():
        *outer, last = name.split('__')
        inner = described
        for part in outer:
            inner = inner[part]
        inner[last] = value
    path.write_text(json.dumps(described))


def refused(folder: Path, message: str, longest: int = 600) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        SpecDMPipeline.from_pretrained(folder)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < longest


@pytest.mark.parametrize('name', ['weights.pt', 'weights.BIN', 'autoencoder/last.ckpt', 'x.pkl', 'y.Pth', 'z.npz'])
def test_pickles(copy: Path, name: str) -> None:
    (copy / name).write_bytes(b'\x80\x04.')
    refused(copy, 'may hold a pickle')


def test_a_pickle_under_the_name_of_weights(copy: Path) -> None:
    torch.save({'conv_in.weight': torch.zeros(3)}, copy / 'denoiser' / WEIGHTS)
    refused(copy, 'truncated or damaged')


@pytest.mark.parametrize('name', ['modeling.py', 'denoiser/unet.py', 'native.so'])
def test_code(copy: Path, name: str) -> None:
    (copy / name).write_text('raise SystemExit(1)')
    refused(copy, 'is code, which no checkpoint needs')


@pytest.mark.parametrize('part', [Path('denoiser', WEIGHTS), Path('denoiser'), Path('specdm.json')])
def test_links_out_of_the_folder(copy: Path, tmp_path: Path, part: Path) -> None:
    (copy / part).rename(tmp_path / 'elsewhere')
    (copy / part).symlink_to(tmp_path / 'elsewhere')
    refused(copy, 'is a link out of the checkpoint')


def test_links_within_the_folder_and_the_folder_itself_may_be_one(copy: Path, tmp_path: Path) -> None:
    (copy / 'specdm.json').rename(copy / 'other.json')
    (copy / 'specdm.json').symlink_to('other.json')
    (tmp_path / 'link').symlink_to(copy)
    assert SpecDMPipeline.from_pretrained(tmp_path / 'link').spec == tiny_spec('segmentation')


def test_a_snapshot_links_to_the_blobs_of_its_own_repository(copy: Path, tmp_path: Path) -> None:
    repositories = [tmp_path / f'models--owner--{name}' for name in ('name', 'other')]
    for repository in repositories:
        (repository / 'blobs').mkdir(parents=True)
    snapshot = repositories[0] / 'snapshots' / ('0' * 40)
    shutil.copytree(copy, snapshot)
    weights = snapshot / 'denoiser' / WEIGHTS
    weights.rename(repositories[0] / 'blobs' / 'a')
    weights.symlink_to('../../../blobs/a')
    assert SpecDMPipeline.from_pretrained(snapshot).spec == tiny_spec('segmentation')
    shutil.move(repositories[0] / 'blobs' / 'a', repositories[1] / 'blobs' / 'a')
    weights.unlink()
    weights.symlink_to(repositories[1] / 'blobs' / 'a')
    refused(snapshot, 'is a link out of the checkpoint')


def test_a_pipe_is_not_waited_for(copy: Path) -> None:
    (copy / 'specdm.json').unlink()
    os.mkfifo(copy / 'specdm.json')
    refused(copy, 'is no file')


@pytest.mark.parametrize('name', ['/etc/passwd', '../../up', 'a/../../b', 'C:/x', r'..\up', 'two\nlines', '\x1b[2J'])
@pytest.mark.parametrize('field', ['name', 'bands', 'classes'])
def test_names_that_are_paths(copy: Path, name: str, field: str) -> None:
    spec = json.loads((copy / 'specdm.json').read_text())['spec']
    change(copy / 'specdm.json', **{f'spec__{field}': name if field == 'name' else [name, *spec[field][1:]]})
    refused(copy, 'is no name of a dataset, band or class')


def test_names_of_two_words_are_none() -> None:
    names = ('soil/rock', 'A&B', 'mine - dump..', 'été')
    assert DatasetSpec('a/b', 'segmentation', ('B02',), names, 8).classes == names


@pytest.mark.parametrize(
    'text', ['{"format": NaN}', '{"format": -Infinity}', '[' * 100_000, '{"a": ' + '9' * 5000 + '}']
)
def test_json_that_is_none(copy: Path, text: str) -> None:
    (copy / 'specdm.json').write_text(text)
    refused(copy, 'is not readable as JSON')


@pytest.mark.parametrize(
    ('part', 'field', 'value'),
    [
        ('autoencoder/config.json', 'kind', ['two_stream'] * 1000),
        ('autoencoder/config.json', 'architecture', 'x' * 5000),
        ('scheduler/scheduler_config.json', 'prediction_type', 'x' * 5000),
        ('scheduler/scheduler_config.json', 'beta_schedule', 'x' * 5000),
    ],
)
def test_a_refusal_ends_whatever_it_is_about(copy: Path, part: str, field: str, value: Any) -> None:
    change(copy / part, **{field: value})
    refused(copy, 'must be one of', longest=1200)


def test_json_larger_than_any_description(copy: Path) -> None:
    with (copy / 'specdm.json').open('wb') as file:
        file.truncate(2**40)
    refused(copy, 'it has more than 16 MB')


WRONG = {
    'format': [True, 1.0, '1', 0, -1, None],
    'spec': [[], None, 'x', {'name': 'x'}],
    'spec__patch_size': ['16', 16.5, 0, -4, 10**9, 10**30, True],
    'spec__bands': ['B02', [1, 2, 3], [['B02']], None, []],
    'spec__classes': ['ab', [], ['water'] * 5, {}],
    'spec__palette': [[[0, 0]], [['a', 0, 0]] * 4, 'red'],
    'spec__value_range': [[0], [1, 0], [0, 1, 2], ['0', '1'], 1e999],
    'spec__scale': [0, '1', -1e400, None],
    'spec__dtype': ['object', 'U4', 'nonsense', '', 7, 'f4,f4'],
    'spec__task': ['detection', [], None],
    'spec__more': [1],
    'streams': [{}, [], [{'name': 'image'}], [{'name': 'image', 'channels': 3}]],
    'latents': [{}, {'mean': [0], 'std': [1]}, {'mean': [0] * 3, 'std': [0] * 3}, {'mean': ['0'] * 3, 'std': [1] * 3}],
    'class_shares': [[], [[0.5]], [[2.0] * 21] * 4, 'none'],
    'share_rows': [
        [[1.0]],
        [[]],
        [[1.0005, 0.0, 0.0, 0.0]],
        [[0.5] * 4],
        [[2.0, -1.0, 0.0, 0.0]],
        [[0.25] * 4, [0.25] * 3],
        'none',
    ],
    'absent': ['yes', 1, None],
    'solver': [
        {},
        {'solver': 'os.system', 'steps': 1},
        {'solver': 'ddim', 'steps': 0},
        {'solver': ['ddim'], 'steps': 2},
    ],
    'training': [[], None],
    'auto_map': [{'AutoModel': 'modeling.Model'}],
}


@pytest.mark.parametrize(('field', 'value'), [(name, value) for name, values in WRONG.items() for value in values])
def test_fields_of_the_wrong_type(copy: Path, field: str, value: Any) -> None:
    change(copy / 'specdm.json', **{field: value})
    refused(copy, 'specdm.json')


@pytest.mark.parametrize(
    ('part', 'values', 'message'),
    [
        ('autoencoder/config.json', {'kind': 'os.system'}, 'autoencoder is'),
        ('autoencoder/config.json', {'kind': ['two_stream']}, 'autoencoder is'),
        ('autoencoder/config.json', {'_class_name': 'AutoencoderKL'}, "unknown field '_class_name'"),
        ('denoiser/config.json', {'_class_name': 'somebody.Unet'}, "unknown field '_class_name'"),
        ('denoiser/config.json', {'trust_remote_code': True}, "unknown field 'trust_remote_code'"),
        ('scheduler/scheduler_config.json', {'_target_': 'os.system'}, "unknown field '_target_'"),
        ('scheduler/scheduler_config.json', {'num_train_timesteps': 10**11}, 'in 1 to 100000 steps'),
        ('scheduler/scheduler_config.json', {'beta_schedule': 'cosine'}, 'beta_schedule'),
        ('scheduler/scheduler_config.json', {'beta_end': 7}, 'must rise between 0 and 1'),
        ('denoiser/config.json', {'widths': 'wide'}, 'widths'),
        ('denoiser/config.json', {'fold': 0}, 'cannot be'),
        ('denoiser/config.json', {'channels': -3}, 'out of proportion'),
        ('autoencoder/config.json', {'latent_channels': []}, 'do not belong together'),
        ('autoencoder/config.json', {'width': [16]}, 'do not belong together'),
        ('autoencoder/config.json', {'downsample': 0}, 'do not belong together'),
    ],
)
def test_no_class_but_those_of_this_package(copy: Path, part: str, values: dict[str, Any], message: str) -> None:
    change(copy / part, **values)
    refused(copy, message)


@pytest.mark.parametrize(
    ('part', 'values'),
    [
        ('denoiser', {'widths': [2**20, 2**20]}),
        ('denoiser', {'depth': 10_000}),
        ('denoiser', {'clocks': 60_000}),
        ('denoiser', {'size': 2**40, 'widths': [32] * 40, 'attention': [False] * 40}),
        ('autoencoder', {'depth': 50_000}),
        ('autoencoder', {'architecture': 'kl', 'downsample': 2**15}),
        ('autoencoder', {'num_bands': 10**12}),
        ('autoencoder', {'kind': 'pixels', 'num_classes': 10**9}),
    ],
)
def test_no_more_is_built_than_the_file_of_weights_holds(copy: Path, part: str, values: dict[str, Any]) -> None:
    path = copy / part / 'config.json'
    if 'kind' in values:
        own = ('kind', 'task', 'num_bands', 'num_classes')
        path.write_text(json.dumps({k: v for k, v in (json.loads(path.read_text()) | values).items() if k in own}))
    else:
        change(path, **values)
    tracemalloc.start()
    refused(copy, '(out of proportion|more layers than there are weights|do not belong together)')
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30e6


def header(path: Path, described: dict[str, Any], data: bytes = b'', length: int | None = None) -> None:
    text = json.dumps(described).encode()
    path.write_bytes(struct.pack('<Q', len(text) if length is None else length) + text + data)


@pytest.mark.parametrize(
    ('described', 'data', 'length'),
    [
        ({'a': {'dtype': 'F32', 'shape': [2**40], 'data_offsets': [0, 4]}}, b'1234', None),
        ({'a': {'dtype': 'F32', 'shape': [2**62, 2**62], 'data_offsets': [0, 0]}}, b'', None),
        ({'a': {'dtype': 'F32', 'shape': [1], 'data_offsets': [0, 2**50]}}, b'1234', None),
        ({'a': {'dtype': 'F32', 'shape': [1], 'data_offsets': [4, 0]}}, b'1234', None),
        ({'a': {'dtype': 'OBJ', 'shape': [1], 'data_offsets': [0, 4]}}, b'1234', None),
        ({}, b'', 2**63),
        ({}, b'', 10**6),
        ({'a': {'dtype': 'F32', 'shape': [1], 'data_offsets': [0, 4]}}, b'1234', None),
    ],
    ids=['huge', 'overflow', 'offsets', 'reversed', 'type', 'header of 2**63', 'header past the end', 'foreign'],
)
def test_headers_of_weights(copy: Path, described: dict[str, Any], data: bytes, length: int | None) -> None:
    header(copy / 'denoiser' / WEIGHTS, described, data, length)
    refused(copy, 'denoiser')


def test_weights_that_are_no_numbers(copy: Path) -> None:
    path = copy / 'denoiser' / WEIGHTS
    weights = load_file(path)
    weights['unet.conv_in.weight'][0, 0, 0, 0] = torch.nan
    save_file(weights, path)
    refused(copy, 'holds values in unet.conv_in.weight that are not finite')


def test_parts_of_several_checkpoints(copy: Path, tmp_path: Path) -> None:
    tiny_pipeline(tiny_spec('change')).save_pretrained(tmp_path / 'change')
    for part in ('autoencoder', 'denoiser'):
        shutil.rmtree(copy / part)
        shutil.copytree(tmp_path / 'change' / part, copy / part)
    refused(copy, 'have other streams')


def test_an_autoencoder_alone_is_checked_too(copy: Path) -> None:
    (copy / 'autoencoder' / 'custom.py').write_text('')
    with pytest.raises(CheckpointError, match='is code'):
        load_autoencoder(copy / 'autoencoder')


FILTERS: list[tuple[str, Callable[[Path], None]]] = [
    ('pixel_thresholds', lambda folder: change(folder / 'filter.json', pixel_thresholds='many')),
    ('smallest_region', lambda folder: change(folder / 'filter.json', smallest_region=1.5)),
    ('unknown field', lambda folder: change(folder / 'filter.json', hook='os.system')),
    ('different classes', lambda folder: change(folder / 'filter.json', pixel_thresholds=[1.0])),
    ('more layers|together|proportion', lambda folder: change(folder / 'judge' / 'config.json', num_bands=10**12)),
    ('is code', lambda folder: (folder / 'judge' / 'run.py').write_text('')),  # type: ignore[list-item,return-value]
]


@pytest.mark.parametrize(('message', 'spoil'), FILTERS)
def test_filters(copy: Path, message: str, spoil: Callable[[Path], None]) -> None:
    strict_filter(tiny_spec('segmentation'), copy / 'filter').save(copy / 'filter')
    assert PairFilter.from_pretrained(copy / 'filter').spec == tiny_spec('segmentation')
    spoil(copy / 'filter')
    with pytest.raises(CheckpointError, match=message):
        PairFilter.from_pretrained(copy / 'filter')


@pytest.mark.parametrize('described', ['[', '[]', '{"format": 1}', '{"format": 1, "patch_size": "8"}', '[' * 100_000])
def test_indices_of_training_patches(tmp_path: Path, described: str) -> None:
    good = TrainingIndex(torch.ones(3, 3), torch.zeros(2, 1, 3, 8, 8).half(), torch.zeros(2, 3), torch.arange(2), 16)
    good.save(tmp_path / 'good.safetensors')
    assert TrainingIndex.load(tmp_path / 'good.safetensors').digest == good.digest
    tensors = load_file(tmp_path / 'good.safetensors')
    save_file(tensors, tmp_path / 'bad.safetensors', {'specdm_training_index': described})
    with pytest.raises(SpecDMError, match='is no index of training patches'):
        TrainingIndex.load(tmp_path / 'bad.safetensors')
    told = {'specdm_training_index': '{"format": 1, "patch_size": 16}'}
    for name in tensors:
        save_file(tensors | {name: torch.zeros(7)}, tmp_path / 'bad.safetensors', told)
        with pytest.raises(SpecDMError, match='is no index of training patches'):
            TrainingIndex.load(tmp_path / 'bad.safetensors')


def test_the_command_line_prints_one_line(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / 'weights.pt').write_bytes(b'')
    assert main(['sample', str(copy), '--n', '1', '--out', str(tmp_path / 'out')]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / 'out').exists()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    rows = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    pipeline = tiny_pipeline(tiny_spec('change'), shares=torch.rand(2, 21), share_rows=rows)
    pipeline.save_pretrained(tmp_path / 'a')
    assert read_json(tmp_path / 'a' / 'specdm.json')['class_shares'] == pipeline.shares.tolist()  # type: ignore[union-attr]
    loaded = SpecDMPipeline.from_pretrained(tmp_path / 'a')
    assert torch.equal(loaded.shares, pipeline.shares)  # type: ignore[arg-type]
    assert torch.equal(loaded.share_rows, rows)  # type: ignore[arg-type]
    assert loaded.autoencoder.streams == pipeline.autoencoder.streams
