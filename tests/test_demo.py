"""The demo runs offline on both tasks, writes a complete report, and writes nothing when it cannot."""

import dataclasses
import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from tests.conftest import tiny_pipeline
from tests.data.oscd.data import write_oscd
from torchgeo_specdm import demo_cases
from torchgeo_specdm.comparison import Comparison, Interval
from torchgeo_specdm.datasets import OSCD, IndianPines
from torchgeo_specdm.demo import _verdict, run
from torchgeo_specdm.demo_cases import CASES, Budget, Case
from torchgeo_specdm.disk import LOCK
from torchgeo_specdm.errors import CheckpointError, SpecDMError, SpecMismatchError
from torchgeo_specdm.pipeline import SpecDMPipeline

pytest.importorskip('tensorly.datasets', reason="the scene needs the extra 'demo'")
SMALL = Budget(real=4, test=5, ratio=1.5, steps=2, batch_size=4, runs=2)


@pytest.fixture(autouse=True)
def offline_and_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError('the demo must not need the network')

    monkeypatch.setattr(socket.socket, 'connect', refuse)
    monkeypatch.chdir(tmp_path)
    for name, make in CASES.items():

        def small(root: Path | None, make: Any = make) -> Case:
            return dataclasses.replace(make(root), budget=SMALL)

        monkeypatch.setitem(CASES, name, small)


@pytest.fixture
def oscd_root(tmp_path: Path) -> Path:
    write_oscd(tmp_path / 'data', height=64, width=64)
    return tmp_path / 'data'


def test_indian_pines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_pipeline(IndianPines().spec).save_pretrained(tmp_path / 'checkpoint')
    monkeypatch.setattr(demo_cases, '_INDIAN_PINES', tmp_path / 'checkpoint')
    torch.manual_seed(0)
    run(tmp_path / 'out')
    metrics = check(tmp_path / 'out', capsys.readouterr().out, IndianPines.classes, ['mIoU'])
    scored = [name for name, found in metrics['classes'].items() if found['scored']]
    assert scored == IndianPines.test_classes(50)
    assert '(6)' not in metrics['notes'][0]
    assert len(metrics['classes']['Woods']['mean']['synthetic'][0]) == len(metrics['wavelengths_nm']) == 200


def test_oscd(tmp_path: Path, oscd_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = OSCD(oscd_root, patch_size=32).spec
    tiny_pipeline(spec).save_pretrained(tmp_path / 'runs' / 'oscd-cpu' / 'checkpoint')
    run(tmp_path / 'out', 'oscd', oscd_root)
    names = ['IoU of change', 'F1 of change', 'mIoU']
    metrics = check(tmp_path / 'out', capsys.readouterr().out, spec.classes, names)
    assert '2 test cities' in metrics['notes'][0]
    # The patches that are drawn overlap no other; a share is of all pixels
    assert sum(found['share']['real'] for found in metrics['classes'].values()) == pytest.approx(1)


def check(out: Path, printed: str, classes: tuple[str, ...], scores: list[str]) -> dict[str, Any]:
    assert sorted(path.name for path in out.iterdir()) == [LOCK, 'metrics.json', 'report.html']
    metrics: dict[str, Any] = json.loads((out / 'metrics.json').read_text())
    page = (out / 'report.html').read_text(encoding='utf-8')
    assert len(page) < 5e6
    assert page.count('<img') == 3
    assert list(metrics['scores']) == scores
    assert list(metrics['classes']) == list(classes)
    for found in metrics['scores'].values():
        assert found['difference']['value'] == pytest.approx(
            found['real + synthetic']['value'] - found['real alone']['value'], abs=1e-5
        )
        for interval in found.values():
            assert interval['low'] <= interval['high']
            assert str(Interval(**interval)) in page
    for note in metrics['notes']:
        assert note in page
        assert note in printed
    assert 'not that synthetic data brings a gain' in printed
    assert '4 real and 6 synthetic' in page
    assert re.search(r'^\[ +\d+ s\] Sampling 6 ', printed, re.MULTILINE)
    return metrics


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        ({'dataset': 'cifar'}, SpecDMError, 'indian-pines, oscd'),
        ({'dataset': 'oscd'}, SpecDMError, '--root'),
        ({'dataset': 'oscd', 'root': Path('data')}, SpecDMError, r'oscd-cpu\.yaml.*runs/oscd-cpu/checkpoint'),
    ],
)
def test_wrong_arguments_write_nothing(
    tmp_path: Path,
    arguments: dict[str, Any],
    error: type[Exception],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A checkout has a generator of OSCD, an installation has none
    monkeypatch.setattr(demo_cases, '_OSCD', demo_cases._OSCD[:1])
    with pytest.raises(error, match=message):
        run(tmp_path / 'out', **arguments)
    assert not (tmp_path / 'out').exists()


def test_a_wrong_generator_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_segmentation_checkpoint: Path
) -> None:
    monkeypatch.setattr(demo_cases, '_INDIAN_PINES', tmp_path / 'nowhere')
    with pytest.raises(CheckpointError, match='nowhere'):
        run(tmp_path / 'out')
    monkeypatch.setattr(demo_cases, '_INDIAN_PINES', tiny_segmentation_checkpoint)
    with pytest.raises(SpecMismatchError, match='bands'):
        run(tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_out_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_pipeline(IndianPines().spec).save_pretrained(tmp_path / 'checkpoint')
    monkeypatch.setattr(demo_cases, '_INDIAN_PINES', tmp_path / 'checkpoint')
    (tmp_path / 'out').write_text('mine')
    with pytest.raises(SpecDMError, match='is a file'):
        run(tmp_path / 'out')
    assert (tmp_path / 'out').read_text() == 'mine'


def test_a_second_demo_in_one_folder_is_refused(tmp_path: Path) -> None:
    with FileLock(tmp_path / LOCK), pytest.raises(SpecDMError, match=r'another demo is at work in .*--out'):
        run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_the_shipped_generator_fits_the_scene() -> None:
    folder = demo_cases._INDIAN_PINES
    assert not IndianPines().spec.differences(SpecDMPipeline.read_spec(folder))
    assert sum(path.stat().st_size for path in folder.rglob('*') if path.is_file()) < 8e6


@pytest.mark.parametrize(
    ('low', 'high', 'words'), [(-0.2, -0.1, 'lower the mIoU'), (0.1, 0.2, 'raise the mIoU'), (-0.1, 0.1, 'no effect')]
)
def test_the_verdict_says_no_more_than_the_interval(low: float, high: float, words: str) -> None:
    score = Interval(0.5, 0.4, 0.6)
    assert words in _verdict({'mIoU': Comparison(score, score, Interval((low + high) / 2, low, high))})
