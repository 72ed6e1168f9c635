import dataclasses
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

from tests.conftest import strict_filter, tiny_pipeline, tiny_spec
from torchgeo_specdm.checkpoint import folder_hash
from torchgeo_specdm.cli import main
from torchgeo_specdm.datasets.synthetic import SpecDMSynthetic
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.export import export

COUNT = 5


@pytest.mark.parametrize('task', ['segmentation', 'change'])
def test_files_hold_the_samples_of_the_dataset(task: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    checkpoint = request.getfixturevalue(f'tiny_{task}_checkpoint')
    arguments = ['--steps', '2', '--seed', '7', '--batch-size', '4', '--device', 'cpu']
    assert main(['sample', str(checkpoint), '--n', str(COUNT), '--out', str(tmp_path), *arguments]) == 0
    dataset = SpecDMSynthetic(checkpoint, COUNT, seed=7, steps=2, batch_size=4, device='cpu')
    dates = ('_t1', '_t2') if task == 'change' else ('',)
    assert len(list(tmp_path.rglob('*.tif'))) == COUNT * (len(dates) + 1)
    assert [path.name for path in tmp_path.rglob('.*')] == ['.specdm.lock']
    for index, sample in enumerate(dataset):
        images = []
        for date in dates:
            with warnings.catch_warnings():
                warnings.simplefilter('error')
                with rasterio.open(tmp_path / 'image' / f'{index:06d}{date}.tif') as raster:
                    images.append(raster.read())
                    assert raster.dtypes == ('uint16',) * 3
                    assert raster.descriptions == dataset.spec.bands
                    assert raster.res == (10, 10)
                    assert raster.nodata is None
                    expected = {'SYNTHETIC': 'torchgeo_specdm', 'SEED': '7', 'INDEX': str(index)}
                    assert expected.items() <= raster.tags().items()
        np.testing.assert_array_equal(np.stack(images).squeeze(), sample['image'].numpy())
        with rasterio.open(tmp_path / 'mask' / f'{index:06d}.tif') as raster:
            assert raster.dtypes == ('uint8',)
            np.testing.assert_array_equal(raster.read(1), sample['mask'].squeeze(0).numpy())
            assert raster.tags()['CLASS_1'] == dataset.spec.classes[1]
    description = json.loads((tmp_path / 'specdm.json').read_text())
    assert description['spec'] == dataset.spec.to_dict()
    assert {'count': COUNT, 'seed': 7, 'steps': 2}.items() <= description.items()


def test_the_same_command_resumes_and_a_larger_one_continues(
    tiny_segmentation_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(count: int) -> None:
        export(tiny_segmentation_checkpoint, tmp_path, count, steps=1, batch_size=2, device='cpu')

    run(4)
    files = sorted(tmp_path.rglob('*.tif'))
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in files]
    (tmp_path / 'mask' / '000003.tif').unlink()
    run(4)
    after = [(path.read_bytes(), path.stat().st_mtime_ns) for path in files]
    assert [content for content, _ in before] == [content for content, _ in after]
    assert [time for _, time in before][:3] == [time for _, time in after][:3]
    run(5)
    assert json.loads((tmp_path / 'specdm.json').read_text())['count'] == 5
    # Nothing is missing, so that nothing is generated
    monkeypatch.setattr(SpecDMSynthetic, '__getitem__', None)
    run(5)
    run(2)
    assert json.loads((tmp_path / 'specdm.json').read_text())['count'] == 5


def test_colours_of_the_classes_are_written(tmp_path: Path) -> None:
    palette = ((0, 0, 255), (0, 100, 0), (255, 0, 0), (255, 255, 0))
    spec = dataclasses.replace(tiny_spec('segmentation'), palette=palette, licence='CC0')
    tiny_pipeline(spec).save_pretrained(tmp_path / 'checkpoint')
    export(tmp_path / 'checkpoint', tmp_path / 'out', 1, steps=1, batch_size=1, device='cpu')
    with rasterio.open(tmp_path / 'out' / 'mask' / '000000.tif') as raster:
        colours = raster.colormap(1)
        assert raster.tags()['LICENCE'] == 'CC0'
    assert tuple(colours[value][:3] for value in range(4)) == palette


def test_other_folders_are_left_alone(tiny_segmentation_checkpoint: Path, tmp_path: Path) -> None:
    export(tiny_segmentation_checkpoint, tmp_path / 'a', 1, steps=1, batch_size=1, device='cpu')
    before = {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()}
    with pytest.raises(SpecDMError, match='made with another seed, steps'):
        export(tiny_segmentation_checkpoint, tmp_path / 'a', 1, steps=2, seed=1, batch_size=1, device='cpu')
    for other in (tmp_path, tmp_path / 'a' / 'mask' / '000000.tif'):
        with pytest.raises(SpecDMError, match='name another folder'):
            export(tiny_segmentation_checkpoint, other, 1, steps=1, batch_size=1, device='cpu')
    assert before == {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()}


def test_a_device_that_is_absent_writes_nothing(tiny_segmentation_checkpoint: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip('CUDA is there')
    with pytest.raises(SpecDMError, match='no GPU'):
        export(tiny_segmentation_checkpoint, tmp_path / 'out', 1, device='cuda')
    assert not (tmp_path / 'out').exists()


def test_filtered_samples_and_their_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An interrupted run ends with the counts of an uninterrupted one; the hash of the filter is a setting."""
    spec = dataclasses.replace(tiny_spec('segmentation'), ignore_index=255)
    checkpoint = tmp_path / 'checkpoint'
    tiny_pipeline(spec).save_pretrained(checkpoint)
    command = ['sample', str(checkpoint), '--steps', '1', '--batch-size', '2', '--device', 'cpu', '--keep', 'aligned']
    assert main([*command, '--n', '5', '--out', str(tmp_path / 'none')]) == 2
    assert 'specdm fit --config CONFIG --stage JudgeTask' in capsys.readouterr().err
    assert not (tmp_path / 'none').exists()
    pair_filter = strict_filter(spec, checkpoint / 'filter')
    pair_filter.save(checkpoint / 'filter')

    assert main([*command, '--n', '5', '--out', str(tmp_path / 'once')]) == 0
    assert 'rejected=' in capsys.readouterr().err
    assert main([*command, '--n', '3', '--out', str(tmp_path / 'twice')]) == 0
    (tmp_path / 'twice' / 'mask' / '000001.tif').unlink()
    with (tmp_path / 'twice' / 'blocks.jsonl').open('a') as file:
        file.write('{"block": 2, "cand')
    assert main([*command, '--n', '5', '--out', str(tmp_path / 'twice')]) == 0
    once, twice = (json.loads((tmp_path / name / 'specdm.json').read_text()) for name in ('once', 'twice'))
    assert once == twice
    dataset = SpecDMSynthetic(checkpoint, 6, keep='aligned', steps=1, batch_size=2, device='cpu')
    samples = list(dataset)
    assert once['filtered'] == dataset.filter_summary().to_dict()
    assert once['filter'] == folder_hash(checkpoint / 'filter')
    for index in range(5):
        with rasterio.open(tmp_path / 'twice' / 'mask' / f'{index:06d}.tif') as raster:
            assert np.array_equal(raster.read(1), samples[index]['mask'])
            assert raster.tags()['IGNORE_INDEX'] == '255'
            assert raster.tags()['ACCEPTED'] == str(dataset.verdict(index).accepted)
            assert raster.tags()['CANDIDATE'] == str(dataset.verdict(index).candidate)
    assert main([*command, '--n', '5', '--out', str(tmp_path / 'twice')]) == 0, 'nothing is left to do'

    # Another filter, or none, is another dataset; a filter added later is no reason to generate plain samples again
    for other in ([], ['--keep', 'aligned']):
        dataclasses.replace(pair_filter, sample_threshold=0.9).save(checkpoint / 'filter')
        assert main([*command[:-2], *other, '--n', '5', '--out', str(tmp_path / 'once')]) == 2
        assert 'another filter' in capsys.readouterr().err
    assert main([*command[:-2], '--n', '2', '--out', str(tmp_path / 'plain')]) == 0
    pair_filter.save(checkpoint / 'filter')
    assert main([*command[:-2], '--n', '2', '--out', str(tmp_path / 'plain')]) == 0
