"""quality.py runs on tiny datasets of both tasks, measures every row, and goes on where it stopped."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import quality
from quality_table import unet

from tests.conftest import slow_but, tiny_pipeline, tiny_spec
from tests.data.oscd.data import write_oscd
from torchgeo_specdm.datamodules import OSCDLandCoverDataModule, OSCDPatchesDataModule
from torchgeo_specdm.datasets import SpecDMSynthetic
from torchgeo_specdm.evaluation import quality as observers

CONF = Path(__file__).parents[2] / 'examples' / 'conf'
TASKS = {
    'segmentation': (OSCDLandCoverDataModule, 'oscd-landcover-cpu.yaml'),
    'change': (OSCDPatchesDataModule, 'oscd-cpu.yaml'),
}
SMALL = [
    '--n',
    '24',
    '--steps',
    '3',
    '--reference-n',
    '8',
    '--reference-steps',
    '9',
    '--conditions-n',
    '2',
    '--given-n',
    '3',
]


@pytest.fixture(params=slow_but(['segmentation'], TASKS))
def task(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Data, and a generator that can be asked for everything."""
    write_oscd(tmp_path / 'oscd', test_cities=('dubai',), height=96, width=112)
    module = TASKS[request.param][0](tmp_path / 'oscd', patch_size=32, overlap=0.25)
    module.setup('fit')
    spec = module.train_dataset.spec
    told: dict[str, Any] = {'clocks': 2, 'num_classes': spec.num_classes}
    tiny_pipeline(spec, **told).save_pretrained(tmp_path / 'checkpoint')
    # Its network takes longer than all else
    monkeypatch.setattr(observers, 'has_lite0', lambda: False)
    return str(request.param)


def run(task: str, folder: Path, *options: str) -> dict[str, dict[str, Any]]:
    """The rows, by figure."""
    data = ['--data', str(CONF / TASKS[task][1]), f'--data.root={folder / "oscd"}', '--data.patch_size=32']
    quality.main([str(folder / 'checkpoint'), *data, *SMALL, '--out', str(folder / 'q.json'), *options])
    return {row['figure']: row for row in json.loads((folder / 'q.json').read_text())['rows']}


def test_all_rows_are_measured_and_nothing_twice(
    task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = str(tmp_path / 'checkpoint')
    autoencoder = str(tmp_path / 'checkpoint' / 'autoencoder')
    options = ['--baseline', checkpoint, '--seeds', checkpoint, checkpoint, '--unet-steps', '2', '--degenerate']
    options += ['--with-sad', autoencoder, autoencoder, '--without-sad', autoencoder, autoencoder]
    rows = run(task, tmp_path, *options)
    printed = capsys.readouterr().out
    assert [row['figure'] for row in rows.values() if row['bar'] and row['met'] is None] == []
    assert all(f'| {figure} |' in printed for figure in rows)
    assert 'images, date1: FD at 3 steps over 9 ancestral ones' in rows
    assert ('images, date2: FD' in rows) == (task == 'change')
    assert ('exact alignment of synthetic pairs, mIoU' in rows) == (task == 'segmentation')
    assert any(figure.startswith('mask edges that the image shows') for figure in rows) == (task == 'change')
    assert ('images for real test masks: rule(image) with the mask, mIoU' in rows) == (task == 'segmentation')
    assert ('image → mask on real test images, IoU of change, vote of 8' in rows) == (task == 'change')
    assert rows['planted copies found']['samples'] == 24
    shares = rows['class share asked 0.1 / 0.4 / 0.7: mean absolute error per sample']
    assert shares['samples'] == 2 * 3 * (1 if task == 'change' else 6)
    # The baseline, and every training seed, is the generator itself
    for row in (
        rows[f'images, date1: FD minus floor, {checkpoint} over this'],
        rows['images, date1: KID in 1 training seeds, baseline over this'],
    ):
        assert (row['value'][0], row['met']) == (1, False)
    assert rows['spectral angle of decoded test images, with over without its loss, 2 seeds']['met'] is False

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError('nothing is generated or trained again')

    monkeypatch.setattr(SpecDMSynthetic, '__getitem__', fail)
    monkeypatch.setattr(unet, 'train_judge', fail)
    assert run(task, tmp_path, *options) == rows
    assert capsys.readouterr().out == printed


def test_what_a_checkpoint_cannot_do_is_said(task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = SpecDMSynthetic(tmp_path / 'checkpoint').spec
    shutil.rmtree(tmp_path / 'checkpoint')
    tiny_pipeline(spec).save_pretrained(tmp_path / 'checkpoint')
    rows = run(task, tmp_path, '--reference-n', '0')
    notes = {row['note'] for row in rows.values() if row['bar'] and row['met'] is None}
    assert {'trained without class_control', 'trained with one clock', '--seeds', '--baseline'} <= notes
    with pytest.raises(SystemExit):
        run(task, tmp_path, '--with-sad', 'one', 'two', '--without-sad', 'one')


def test_a_unet_sees_as_many_patches_as_the_denoiser(tmp_path: Path) -> None:
    pipeline = tiny_pipeline(tiny_spec('segmentation'))
    known = SimpleNamespace(checkpoint=tmp_path, data=SimpleNamespace(datamodule=SimpleNamespace(batch_size=16)))
    pipeline.save_pretrained(tmp_path)
    assert unet.equal_steps(known) is None
    pipeline.training = {'steps': 11, 'batch_size': 32}
    pipeline.save_pretrained(tmp_path)
    assert unet.equal_steps(known) == 22
