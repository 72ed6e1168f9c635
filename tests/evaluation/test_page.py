"""The report shows everything that was found, needs nothing but itself, and opens in a browser without an error."""

import dataclasses
import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import pytest
import torch
from PIL import Image

from tests.conftest import tiny_spec
from tests.fake import FakePairs
from tests.test_report import NASTY, Page
from torchgeo_specdm.class_statistics import ClassStatistics
from torchgeo_specdm.datasets.filtered import FilterSummary
from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.evaluation.measure import Interval, Measure, Section
from torchgeo_specdm.evaluation.page import FIGURES, write_evaluation
from torchgeo_specdm.evaluation.result import ClosePair, Evaluation, Generator, Misaligned
from torchgeo_specdm.evaluation.tables import FILTERED, filter_table, interval_text, measure_table, words
from torchgeo_specdm.spec import DatasetSpec

NAN = float('nan')
CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
FLAG = 'The masks do not fit: do not train on them.'


def statistics(spec: DatasetSpec, samples: Any) -> ClassStatistics:
    found = ClassStatistics(spec)
    for sample in samples:
        found.update(sample)
    return found


def measure(name: str = 'agreement', value: float = 0.5123, **changed: Any) -> Measure:
    reference = Interval(0.8123, 0.7, 0.9)
    settings = {'judge': 'small', 'steps': [1, 2]}
    found = Measure(name, Interval(value, 0.4, 0.6), reference, 'held-out real', 'mIoU', 437, settings)
    return dataclasses.replace(found, **changed)


def evaluation(task: str, generators: int = 1, samples: int = 6, **changed: Any) -> Evaluation:
    spec = tiny_spec(task)
    if task == 'segmentation':
        palette = ((0, 0, 255), (0, 90, 0), (200, 0, 0), (240, 200, 0))
        spec = dataclasses.replace(spec, wavelengths=(832.8, 559.8, 664.6), ignore_index=255, palette=palette)
    real, synthetic = (
        list(map(FakePairs(spec, split, samples).__getitem__, range(samples))) for split in ('train', 'val')
    )
    if task == 'segmentation':
        # The class field does not occur, and real pairs have pixels without a label
        synthetic = [sample | {'mask': (sample['mask'] > 0) * (1 + i % 2)} for i, sample in enumerate(synthetic)]
        real = [sample | {'mask': sample['mask'].index_fill(0, torch.tensor([0]), 255)} for sample in real]
    sections = [
        Section(
            'Alignment', 'Does the mask fit?', [measure(flag=FLAG), measure('edges', NAN, samples=0)], ['Read it so.']
        ),
        Section(
            'Copying', 'Copies?', [measure('share of copies', 0.0071)], details={'ratios': torch.tensor([0.25, NAN])}
        ),
        Section('Reconstruction', 'What is lost?', []),
        Section('Else', 'Something else?', [measure('else', 12_345.6, reference=None, unit='')]),
    ]
    rejected = torch.rand(spec.patch_size, spec.patch_size) > 0.5
    found = Generator(
        name='SpecDM',
        sections=sections,
        pairs=synthetic,
        statistics=statistics(spec, synthetic),
        closest=[ClosePair(a, b, 0.1) for a, b in zip(synthetic, real, strict=True)],
        worst=[Misaligned(sample, 0.625, rejected) for sample in synthetic],
        filtered={'candidates': 80, 'rejected': {'misaligned': 0.2125}},
    )
    other = dataclasses.replace(found, name='LDM', filtered=None, closest=[], sections=sections[1:])
    result = Evaluation(
        spec, 'Report', real, statistics(spec, real), [found, other][:generators], {'seed': '0', 'time': '1 minute'}
    )
    return dataclasses.replace(result, **changed)


class Written(NamedTuple):
    evaluation: Evaluation
    out: Path
    source: str
    page: Page
    metrics: dict[str, Any]


def written(found: Evaluation, out: Path) -> Written:
    write_evaluation(found, out)
    assert not plt.get_fignums()
    source = (out / 'report.html').read_text(encoding='utf-8')
    return Written(found, out, source, Page(source), json.loads((out / 'metrics.json').read_text()))


@pytest.fixture(scope='module')
def one(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A generator of segmentation."""
    return written(evaluation('segmentation'), tmp_path_factory.mktemp('one'))


@pytest.fixture(scope='module')
def two(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Two generators of change."""
    return written(evaluation('change', 2), tmp_path_factory.mktemp('two'))


@pytest.mark.parametrize('name', ['one', 'two'])
def test_everything_is_shown(name: str, request: pytest.FixtureRequest) -> None:
    found, out, source, page, metrics = request.getfixturevalue(name)
    assert page.tags.isdisjoint({'script', 'link', 'iframe'})
    assert not re.search(r'https?://|@import|url\(|src="(?!data:)', source)
    assert len(source) < 5e6
    assert len(page.images) == len(FIGURES)
    assert all(image['alt'] for image in page.images)
    assert sorted(path.stem for path in (out / 'figures').glob('*.png')) == sorted(FIGURES)
    for text in ('Can the labels be trusted?', 'Are these copies of my data?', 'Will it help?', FLAG, 'Read it so.'):
        assert text in page.text
    for text in (
        '0.512 [0.4, 0.6]',
        '0.812 [0.7, 0.9]',
        'held-out real',
        '437',
        'not defined',
        '12,346',
        'mIoU',
        '0.212',
    ):
        assert text in page.text
    assert 'Nothing was measured.' in page.text
    assert 'judge: small, steps: 1, 2' in page.text
    assert set(metrics['generators']) == {source.name for source in found.generators}
    assert ('Nothing of LDM was filtered.' in page.text) == (name == 'two')
    # Every column and row of a table has a heading
    assert source.count('<th ') == source.count('<th scope="')


def test_every_number_is_in_the_json(one: Written, two: Written) -> None:
    found, metrics = one.evaluation, one.metrics
    mine = metrics['generators']['SpecDM']
    first = mine['sections']['Alignment']['measures'][0]
    assert first['value'] == {'value': 0.5123, 'low': 0.4, 'high': 0.6}
    assert (first['reference_name'], first['samples'], first['flag']) == ('held-out real', 437, FLAG)
    assert first['settings'] == {'judge': 'small', 'steps': [1, 2]}
    assert mine['sections']['Alignment']['measures'][1]['value']['value'] is None
    assert mine['sections']['Copying']['details']['ratios'] == [0.25, None]
    assert mine['answers']['Can the labels be trusted?']['flags'] == [FLAG]
    assert two.metrics['generators']['LDM']['answers']['Can the labels be trusted?']['state'] == 'unmeasured'
    assert mine['closest'] == {'ratio': [0.1] * 6}
    assert mine['filtered']['rejected'] == {'misaligned': 0.2125}
    share = float(found.generators[0].worst[0].rejected.float().mean())
    assert mine['worst_aligned'][0] == {'score': 0.625, 'rejected_share': pytest.approx(share, abs=1e-5)}
    water, real = mine['classes']['water'], found.real_statistics
    assert metrics['real']['classes']['water']['share'] == pytest.approx(float(real.shares[0]), abs=1e-5)
    assert torch.tensor(water['mean']).shape == (1, 3)
    assert water['spectral_angle_rad'][0] is not None
    assert mine['classes']['field']['spectral_angle_rad'] == [None]
    assert (metrics['real']['absent'], mine['absent']) == ([], ['field'])
    assert metrics['made'] == found.made
    assert DatasetSpec.from_dict(metrics['spec']) == found.spec


def test_absent_classes_are_said_in_words(one: Written, two: Written) -> None:
    assert 'Absent from the real pairs: no class.' in one.page.text
    assert 'Absent from the pairs of SpecDM: field.' in one.page.text
    assert 'no label' in one.page.text
    assert 'Every class occurs on every side.' in two.page.text


def test_little_was_found(tmp_path: Path) -> None:
    (tmp_path / 'figures').mkdir()
    for name in ('closest.png', 'mine.png'):
        (tmp_path / 'figures' / name).write_bytes(b'old')
    full = evaluation('change')
    bare = dataclasses.replace(full.generators[0], sections=[], closest=[], worst=[], filtered=None)
    *_, page, metrics = written(dataclasses.replace(full, generators=[bare]), tmp_path)
    assert page.text.count('not measured') == 2 * 3
    assert 'Nothing was filtered' in page.text
    assert {found['state'] for found in metrics['generators']['SpecDM']['answers'].values()} == {'unmeasured'}
    # A picture of an older evaluation would be taken for this one's; other files are the user's
    assert sorted(path.name for path in (tmp_path / 'figures').iterdir()) == sorted(
        ['class-shares.png', 'mine.png', 'pairs.png', 'spectra.png']
    )


def test_text_is_text(tmp_path: Path) -> None:
    full = evaluation('segmentation')
    section = Section(NASTY, NASTY, [measure(NASTY, unit=NASTY, flag=NASTY, settings={NASTY: NASTY})], [NASTY])
    source = dataclasses.replace(full.generators[0], name=NASTY, sections=[section], filtered={NASTY: NASTY})
    spec = dataclasses.replace(full.spec, name=NASTY)
    found = dataclasses.replace(full, spec=spec, title=NASTY, generators=[source], made={NASTY: NASTY})
    *_, text, page, _ = written(found, tmp_path)
    assert 'script' not in page.tags
    assert page.text.count(NASTY) > 15
    assert '&amp;lt;' not in text


def test_generators_are_told_apart() -> None:
    found = evaluation('change', 2)
    one, other = found.generators
    for wrong in ([], [one, one], [one, other, other], [dataclasses.replace(one, name='real')]):
        with pytest.raises(SpecDMError, match='one or two generators'):
            dataclasses.replace(found, generators=wrong)


def test_measures_stand_side_by_side() -> None:
    one, other = evaluation('change', 2).generators
    changed = measure('share of copies', 0.3, reference=Interval(0.2, 0.1, 0.3), samples=12)
    other = dataclasses.replace(other, sections=[Section('Copying', '', [changed, measure('more')])])
    text = Page(''.join(measure_table('Copying', [one, other]))).text
    assert re.search(r'SpecDM: 0.812 \[0.7, 0.9\] held-out real LDM: 0.2 \[0.1, 0.3\] held-out real', text)
    assert 'SpecDM: 437 LDM: 12' in text
    assert measure_table('Masks', [one, other]) == []


def test_what_was_filtered_is_said_in_words(one: Written) -> None:
    assert set(FILTERED) == set(FilterSummary().to_dict())
    source = one.evaluation.generators[0]
    counts = FilterSummary(candidates=1600, accepted=1200, misaligned=396, copies=4, served=1204, filled=4)
    [shown] = filter_table([dataclasses.replace(source, filtered=counts.to_dict())])
    text = Page(shown).text
    for part in ('judged1,600', 'accepted1,200 (75 %)', 'training patches4 (0.25 %)', 'left4 (0.332 %)', 'for that0'):
        assert part in text


def test_numbers_as_readers_want_them() -> None:
    assert interval_text(Interval(12_345.6, 999.4, 2e6)) == '12,346 [999, 2,000,000]'
    assert interval_text(Interval(0.00123456, NAN, NAN)) == '0.00123'
    assert interval_text(Interval(NAN, 0, 1)) == 'not defined'
    assert words({'a': [1, 2], 'b': {'c': True, 'd': None}, 'e': 0.12345}) == 'a: 1, 2, b: c: yes, d: none, e: 0.123'
    assert words(list(range(40))).endswith('11, ... (40 in all)')


def test_a_page_of_real_size_stays_small(tmp_path: Path) -> None:
    full = evaluation('change', 2)
    spec = dataclasses.replace(full.spec, patch_size=128, wavelengths=(832.8, 559.8, 664.6))
    smooth = torch.linspace(0, 1, 128).expand(spec.image_shape)
    # Nothing takes more space than noise, which is what an untrained generator makes
    noise = torch.rand(spec.image_shape, generator=torch.Generator().manual_seed(0))
    real, synthetic = ({'image': image, 'mask': FakePairs(spec)[0]['mask']} for image in (smooth, noise))
    shown = {
        'pairs': 5 * [synthetic],
        'closest': 10 * [ClosePair(synthetic, real, 0.1)],
        'worst': 10 * [Misaligned(synthetic, 0.5, torch.zeros(128, 128, dtype=torch.bool))],
    }
    generators = [dataclasses.replace(source, **shown) for source in full.generators]
    write_evaluation(dataclasses.replace(full, spec=spec, real_pairs=5 * [real], generators=generators), tmp_path)
    assert (tmp_path / 'report.html').stat().st_size < 5e6
    assert Image.open(tmp_path / 'figures' / 'pairs.png').width > 1000


@pytest.mark.skipif(CHROMIUM is None, reason='no chromium here')
def test_a_phone_in_the_dark_shows_it_without_an_error(tmp_path: Path, two: Written) -> None:
    look = """onload = () => {
        const frame = document.querySelector('iframe'), page = frame.contentDocument.documentElement
        const color = frame.contentWindow.getComputedStyle(frame.contentDocument.body).backgroundColor
        const broken = [...frame.contentDocument.images].filter(image => !image.naturalWidth).length
        console.log(`width ${page.scrollWidth}, ground ${color}, broken ${broken}`)
    }"""
    frame = f'<iframe width="360" height="800" style="border: 0" srcdoc="{html.escape(two.source)}"></iframe>'
    (tmp_path / 'phone.html').write_text(f'<!doctype html>{frame}<script>{look}</script>', encoding='utf-8')
    assert CHROMIUM is not None
    options = ['--headless=new', '--no-sandbox', '--disable-gpu', '--enable-logging=stderr', '--hide-scrollbars']
    options += ['--dump-dom', f'--user-data-dir={tmp_path / "profile"}', '--blink-settings=preferredColorScheme=0']
    run = subprocess.run(
        [CHROMIUM, *options, (tmp_path / 'phone.html').as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    said = re.findall(r'CONSOLE[^"]*"(.*)", source', run.stderr)
    assert said == ['width 360, ground rgb(21, 24, 27), broken 0']
