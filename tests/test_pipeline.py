import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.conftest import tiny_pipeline, tiny_spec
from torchgeo_specdm.checkpoint import WEIGHTS, folder_hash
from torchgeo_specdm.errors import CheckpointError, SpecDMError
from torchgeo_specdm.pipeline import SpecDMPipeline


@pytest.fixture
def copy(tiny_segmentation_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_segmentation_checkpoint, tmp_path / 'copy'))


@pytest.mark.parametrize('task', ['segmentation', 'change'])
def test_samples_fit_the_spec(task: str) -> None:
    spec = tiny_spec(task)
    samples = tiny_pipeline(spec).sample([0, 1, 5], steps=2)
    assert samples['image'].shape == (3, *spec.image_shape)
    assert samples['mask'].shape == (3, *spec.mask_shape)
    assert samples['image'].dtype == torch.float32
    assert samples['mask'].dtype == torch.int64
    assert torch.equal(samples['image'], samples['image'].round())  # a uint16 dataset
    assert samples['image'].min() >= 0
    assert set(samples['mask'].unique().tolist()) <= set(range(spec.num_classes))


def test_a_round_trip_changes_no_bit(tmp_path: Path) -> None:
    pipeline = tiny_pipeline(tiny_spec('segmentation'))
    pipeline.save_pretrained(tmp_path / 'a')
    loaded = SpecDMPipeline.from_pretrained(tmp_path / 'a')
    assert loaded.spec == pipeline.spec == SpecDMPipeline.read_spec(tmp_path / 'a')
    ours, theirs = pipeline.sample([3], steps=3), loaded.sample([3], steps=3)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    first = folder_hash(tmp_path / 'a')
    pipeline.save_pretrained(tmp_path / 'a')
    assert folder_hash(tmp_path / 'a') == first
    assert [path.name for path in tmp_path.iterdir()] == ['a']


def test_seed_and_index_decide_a_sample() -> None:
    pipeline = tiny_pipeline(tiny_spec('segmentation'))
    first = pipeline.sample([7, 8], steps=2, seed=1)['image']
    again = pipeline.sample([8, 7], steps=2, seed=1)['image']
    torch.testing.assert_close(first, again.flip(0), atol=1.0, rtol=0)
    assert not torch.equal(first, pipeline.sample([7, 8], steps=2, seed=2)['image'])
    assert not torch.equal(first[0], first[1])


def test_missing_folder_and_missing_files(copy: Path) -> None:
    with pytest.raises(CheckpointError, match='no checkpoint folder'):
        SpecDMPipeline.from_pretrained(copy / 'nowhere')
    for name in ('denoiser/config.json', f'autoencoder/{WEIGHTS}', 'specdm.json'):
        (copy / name).unlink()
        with pytest.raises(CheckpointError, match='missing'):
            SpecDMPipeline.from_pretrained(copy)


def test_truncated_weights(copy: Path) -> None:
    path = copy / 'denoiser' / WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match='truncated or damaged'):
        SpecDMPipeline.from_pretrained(copy)


def test_newer_format(copy: Path) -> None:
    path = copy / 'specdm.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | {'format': 99}))
    with pytest.raises(CheckpointError, match=r'format 99.*upgrade'):
        SpecDMPipeline.read_spec(copy)


def test_a_pickle_is_refused_unread(copy: Path) -> None:
    (copy / 'denoiser' / 'weights.bin').write_bytes(b'not even a pickle')
    with pytest.raises(CheckpointError, match='refused unread'):
        SpecDMPipeline.from_pretrained(copy)


@pytest.mark.parametrize('text', ['{"a":', '[]', '{"format": 1}', '{"format": 1, "spec": {"task": "x"}}'])
def test_malformed_description(copy: Path, text: str) -> None:
    (copy / 'specdm.json').write_text(text)
    for read in (SpecDMPipeline.read_spec, SpecDMPipeline.from_pretrained):
        with pytest.raises(CheckpointError):
            read(copy)


def test_weights_of_another_shape(copy: Path) -> None:
    path = copy / 'denoiser' / 'config.json'
    # A billion channels must be refused, not allocated
    path.write_text(json.dumps(json.loads(path.read_text()) | {'block_out_channels': [1_000_000, 32]}))
    with pytest.raises(CheckpointError, match='do not belong together'):
        SpecDMPipeline.from_pretrained(copy)


def test_parts_of_two_generators_do_not_mix() -> None:
    one = tiny_pipeline(tiny_spec('segmentation'))
    with pytest.raises(SpecDMError, match='do not belong together'):
        SpecDMPipeline(one.spec, one.autoencoder, one.denoiser, torch.zeros(9), torch.ones(9))


def test_half_precision_halves_the_size_and_keeps_the_samples(tmp_path: Path) -> None:
    pipeline = tiny_pipeline(tiny_spec('segmentation'))
    pipeline.save_pretrained(tmp_path / 'full')
    pipeline.save_pretrained(tmp_path / 'half', half_precision=True)
    full, half = ((tmp_path / name / 'denoiser' / WEIGHTS).stat().st_size for name in ('full', 'half'))
    assert half < 0.6 * full
    loaded = SpecDMPipeline.from_pretrained(tmp_path / 'half')
    assert next(loaded.denoiser.parameters()).dtype == torch.float32
    first, second = pipeline.sample(range(4), steps=4), loaded.sample(range(4), steps=4)
    assert (first['image'] - second['image']).abs().mean() < 0.05 * first['image'].std()
