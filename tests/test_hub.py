"""Checkpoints of the hub: the cache first, nothing but JSON, safetensors and texts, every failure in one line."""

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import torch
import yaml

from tests.conftest import tiny_pipeline, tiny_spec
from tests.hub_server import COMMIT, serve
from torchgeo_specdm.catalogue import CATALOGUE, resolve
from torchgeo_specdm.checkpoint import WEIGHTS, folder_hash
from torchgeo_specdm.cli import main
from torchgeo_specdm.datamodules import MixedDataModule
from torchgeo_specdm.datasets import SpecDMSynthetic
from torchgeo_specdm.errors import CheckpointError, SpecDMError
from torchgeo_specdm.hub import Address, folder_name, parse_address
from torchgeo_specdm.pipeline import SpecDMPipeline

ADDRESS = 'hf://owner/name'


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """The folder that the hub has, with more in it than a checkpoint."""
    folder = tmp_path / 'published'
    tiny_pipeline(tiny_spec('segmentation')).save_pretrained(folder)
    for name in ('README.md', 'LICENSE', '.gitattributes', 'pytorch_model.bin', 'run.py', 'denoiser/last.ckpt'):
        (folder / name).write_text('text')
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no hub that answers."""
    monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_OFFLINE', True)
    monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_DISABLE_XET', True)
    return tmp_path / 'cache'


@pytest.fixture
def asked(cache: Path, published: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What a hub that has ``published`` was asked for."""
    with serve(published) as (endpoint, paths):
        monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_OFFLINE', False)
        monkeypatch.setattr(huggingface_hub.constants, 'ENDPOINT', endpoint)
        monkeypatch.setattr(
            huggingface_hub.constants,
            'HUGGINGFACE_CO_URL_TEMPLATE',
            endpoint + '/{repo_id}/resolve/{revision}/{filename}',
        )
        monkeypatch.setattr(huggingface_hub.hf_api.api, 'endpoint', endpoint)
        yield paths


def cached(cache: Path, source: Path, repository: str = 'owner/name', revision: str = 'main') -> Path:
    """The snapshot of a repository in the cache, as the hub's library leaves it: links to blobs."""
    storage = cache / f'models--{repository.replace("/", "--")}'
    (storage / 'refs').mkdir(parents=True, exist_ok=True)
    (storage / 'refs' / revision).write_text(COMMIT)
    (storage / 'blobs').mkdir(exist_ok=True)
    for number, path in enumerate(sorted(path for path in source.rglob('*') if path.is_file())):
        link = storage / 'snapshots' / COMMIT / path.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, storage / 'blobs' / str(number))
        link.symlink_to(Path(*['..'] * (len(link.relative_to(storage).parts) - 1), 'blobs', str(number)))
    return storage / 'snapshots' / COMMIT


def test_a_checkpoint_is_downloaded_once(asked: list[str], published: Path, cache: Path) -> None:
    folder = resolve(ADDRESS)
    assert cache in folder.parents
    names = {path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file()}
    parts = {f'{network}/{file}' for network in ('autoencoder', 'denoiser') for file in ('config.json', WEIGHTS)}
    assert names == {*parts, 'specdm.json', 'scheduler/scheduler_config.json', 'README.md', 'LICENSE'}
    assert not [path for path in asked if path.endswith(('.bin', '.ckpt', '.py'))]
    for path in ('pytorch_model.bin', 'denoiser/last.ckpt', 'run.py'):
        (published / path).unlink()
    assert folder_hash(folder) == folder_hash(published)
    dataset = SpecDMSynthetic(ADDRESS, 2, steps=1, batch_size=2, device='cpu')
    assert torch.equal(
        dataset[1]['image'], SpecDMPipeline.from_pretrained(published).sample([0, 1], steps=1)['image'][1]
    )
    asked.clear()
    assert resolve(ADDRESS) == folder
    assert not asked


def test_a_snapshot_in_the_cache_needs_no_network(cache: Path, tiny_change_checkpoint: Path, tmp_path: Path) -> None:
    folder = cached(cache, tiny_change_checkpoint)
    assert folder.joinpath('specdm.json').is_symlink()
    assert resolve(ADDRESS) == folder
    assert folder_hash(folder) == folder_hash(tiny_change_checkpoint)
    assert SpecDMPipeline.read_spec(ADDRESS) == SpecDMPipeline.read_spec(tiny_change_checkpoint)
    assert folder_name(folder) == 'name'
    options = ['--n', '1', '--steps', '1', '--batch-size', '1', '--device', 'cpu', '--out', str(tmp_path / 'out')]
    assert main(['sample', ADDRESS, *options]) == 0
    assert '"generator": "name"' in (tmp_path / 'out' / 'specdm.json').read_text()


def test_revisions(cache: Path, tiny_change_checkpoint: Path) -> None:
    folder = cached(cache, tiny_change_checkpoint, revision='v1.0')
    assert resolve(f'{ADDRESS}@v1.0') == resolve(f'{ADDRESS}@{COMMIT}') == folder
    with pytest.raises(CheckpointError, match='not in the cache'):
        resolve(ADDRESS)


def test_a_pickle_in_a_snapshot_is_refused_unread(cache: Path, tiny_change_checkpoint: Path) -> None:
    folder = cached(cache, tiny_change_checkpoint)
    (folder / 'weights.pt').write_bytes(b'no pickle')
    with pytest.raises(CheckpointError, match='refused unread'):
        SpecDMPipeline.from_pretrained(ADDRESS)


def test_an_interrupted_download_goes_on(asked: list[str], cache: Path, published: Path) -> None:
    folder = cached(cache, published)
    (folder / 'denoiser' / WEIGHTS).unlink()
    assert resolve(ADDRESS) == folder
    assert (folder / 'denoiser' / WEIGHTS).is_file()


def test_a_repository_without_a_checkpoint(asked: list[str], published: Path) -> None:
    (published / 'denoiser' / 'config.json').unlink()
    with pytest.raises(CheckpointError, match=r'has no denoiser/config\.json: it is no checkpoint'):
        resolve(ADDRESS)


@pytest.mark.parametrize(
    ('address', 'message'),
    [
        ('hf://owner/absent', 'is not on the hub, or not open to you'),
        ('hf://owner/gated', 'open only to those whom its owner admits'),
        ('hf://owner/name@no-such-revision', 'has no such revision'),
    ],
)
def test_refusals_of_the_hub_are_one_line(
    address: str, message: str, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['sample', address, '--n', '1', '--out', 'out']) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f'specdm: error: {address} ')
    assert message in error


def test_offline_is_one_line(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['sample', ADDRESS, '--n', '1', '--out', 'out']) == 2
    error = capsys.readouterr().err
    assert error.startswith(f'specdm: error: {ADDRESS} is not in the cache and cannot be downloaded (')
    assert error.count('\n') == 1


@pytest.mark.parametrize('kind', [OSError, *huggingface_hub.utils.HfHubHTTPError.__bases__])
def test_what_breaks_a_download_is_one_line(
    kind: type[Exception], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, local_files_only: bool, **__: object) -> str:
        raise huggingface_hub.utils.LocalEntryNotFoundError('none') if local_files_only else kind('cut\noff')

    monkeypatch.setattr(huggingface_hub, 'snapshot_download', fail)
    with pytest.raises(CheckpointError, match=r'cannot be downloaded \(cut\): connect'):
        resolve(ADDRESS)


@pytest.mark.parametrize(
    'address',
    [
        'hf://',
        'hf://name',
        'hf://owner/',
        'hf:///name',
        'hf://owner/name/more',
        'hf://../name',
        'hf://owner/..',
        'hf://owner/a..b',
        'hf://owner/a--b',
        'hf://-owner/name',
        'hf://owner/name.',
        'hf://owner/name.git',
        'hf://own er/name',
        'hf://owner/name@',
        'hf://owner/name@../../refs',
        'hf://owner/name@/etc',
        'hf://owner/name@a b',
        'hf://owner/name@-x',
        'hf://owner/name\n',
        'hf://datasets/owner/name',
        'hf://owner/' + 'x' * 99,
        'hf:/owner/name',
        Path('hf://owner/name'),
    ],
)
def test_what_is_no_address_is_refused_before_the_hub_is_asked(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, 'snapshot_download', None)
    with pytest.raises(CheckpointError, match='no address on the hub') as error:
        resolve(address)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('address', 'parts'),
    [
        ('hf://owner/name', ('owner/name', None)),
        ('hf://Owner-1/a_b.c', ('Owner-1/a_b.c', None)),
        ('hf://owner/name@v1.0', ('owner/name', 'v1.0')),
        ('hf://owner/name@refs/pr/1', ('owner/name', 'refs/pr/1')),
    ],
)
def test_addresses(address: str, parts: Address) -> None:
    assert parse_address(address) == parts
    # The hub's own rules are no stricter
    huggingface_hub.utils.validate_repo_id(parts[0])


def test_a_name_that_is_not_in_the_tree_is_fetched(
    cache: Path, tiny_change_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = dataclasses.replace(CATALOGUE['oscd-change'], folder=tmp_path / 'checkpoints' / 'oscd-change')
    monkeypatch.setitem(CATALOGUE, 'oscd-change', entry)
    with pytest.raises(
        CheckpointError, match=r'does not ship.* folder, examples/checkpoints/oscd-change; hf://.*cannot be'
    ):
        resolve('oscd-change')
    folder = cached(cache, tiny_change_checkpoint, parse_address(entry.hub).repository)
    assert resolve('oscd-change') == folder
    shutil.copytree(tiny_change_checkpoint, entry.folder)
    assert resolve('oscd-change') == entry.folder


def test_an_address_survives_a_configuration(
    cache: Path, tiny_segmentation_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a path it would lose a slash."""
    folder, seen = cached(cache, tiny_segmentation_checkpoint), []
    monkeypatch.setattr(MixedDataModule, 'setup', lambda self, stage: seen.append(self.synthetic.checkpoint) or _stop())
    task = {'model': 'unet', 'backbone': 'resnet18', 'in_channels': 3, 'num_classes': 4, 'task': 'multiclass'}
    config = {
        'trainer': {'accelerator': 'cpu', 'max_steps': 1, 'default_root_dir': str(tmp_path)},
        'model': {'class_path': 'SemanticSegmentationTask', 'init_args': task},
        'data': {
            'class_path': 'torchgeo_specdm.datamodules.MixedDataModule',
            'init_args': {'checkpoint': ADDRESS, 'ratio': 1, 'real': {'class_path': 'tests.fake.FakeDataModule'}},
        },
    }
    (tmp_path / 'mixed.yaml').write_text(yaml.safe_dump(config))
    assert main(['fit', '--config', str(tmp_path / 'mixed.yaml')]) == 2
    assert main(['fit', '--config', str(tmp_path / 'mixed.yaml'), '--data.checkpoint', f'{ADDRESS}@main']) == 2
    assert seen == [folder, folder]


def _stop() -> None:
    raise SpecDMError('far enough')
