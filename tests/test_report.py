"""The page needs nothing but itself, shows what it is given, and replaces an old one only when complete."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from torchgeo_specdm.comparison import Interval
from torchgeo_specdm.report import (
    Fragment,
    bullets,
    cards,
    colour_key,
    figure,
    folded,
    heading,
    joined,
    link,
    mark,
    number,
    paragraph,
    table,
    write_metrics,
    write_report,
)

NASTY = '<script>alert("1 & 2")</script>'


class Page(HTMLParser):
    """Text and images of a page whose elements are all closed, in order."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.tags: set[str] = set()
        self.text = ''
        self.feed(source)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == 'img':
            self.images.append(dict(attrs))
        elif tag != 'meta':
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def drawing() -> plt.Figure:
    result, axis = plt.subplots(figsize=(2, 1))
    axis.plot([0, 1])
    return result


def test_text_is_text_wherever_it_stands(tmp_path: Path) -> None:
    path = tmp_path / 'report.html'
    body = [
        paragraph(NASTY),
        table(['a', NASTY], [[NASTY, 'b']], caption=NASTY),
        figure(drawing(), NASTY),
        colour_key({NASTY: (1, 2, 3)}),
    ]
    write_report(path, NASTY, {'': body, NASTY: []})
    page = Page(path.read_text(encoding='utf-8'))
    assert 'script' not in page.tags
    # Title and heading, paragraph, three in the table, caption of the figure, key, second heading
    assert page.text.count(NASTY) == 9
    assert page.images[0]['alt'] == NASTY


def test_text_is_text_in_small_parts_and_fragments_stay(tmp_path: Path) -> None:
    path = tmp_path / 'report.html'
    body = [
        bullets([NASTY, joined(NASTY, mark(NASTY, 'bad'))]),
        cards([heading(NASTY)], [paragraph(number(NASTY), 'soft')]),
        folded(NASTY, table(['a'], [[mark(NASTY)]])),
        paragraph(link(NASTY, NASTY)),
    ]
    write_report(path, 'Report', {NASTY: body})
    source = path.read_text(encoding='utf-8')
    page = Page(source)
    assert 'script' not in page.tags
    # The heading of the section too
    assert page.text.count(NASTY) == 9
    assert '&amp;lt;' not in source
    anchor = re.search(r'<h2 id="(.+?)"', source)
    assert anchor
    assert f'href="#{anchor[1]}"' in source
    assert bullets([]) == ''
    assert isinstance(joined('a', '', 'b'), Fragment)


def test_photos_are_small_and_the_file_is_complete(tmp_path: Path) -> None:
    result, axis = plt.subplots(figsize=(4, 2))
    axis.imshow(torch.rand(100, 100, 3, generator=torch.Generator().manual_seed(0)))
    source = figure(result, 'caption', 100, alt='noise', file=tmp_path / 'a.png', photo=True)
    image = Page(source).images[0]
    assert image['alt'] == 'noise'
    kind, data = (image['src'] or '').split(',')
    assert kind == 'data:image/jpeg;base64'
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == Image.open(tmp_path / 'a.png').size == (400, 200)
    assert len(data) < (tmp_path / 'a.png').stat().st_size


def test_page_needs_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / 'report.html'
    write_report(path, 'Report', {'Figures': [figure(drawing(), 'one', dpi=50), paragraph('two')]})
    source = path.read_text(encoding='utf-8')
    page = Page(source)
    assert page.tags.isdisjoint({'script', 'link', 'iframe'})
    assert not re.search(r'https?://|@import|url\(', source)
    kind, data = (page.images[0]['src'] or '').split(',')
    assert kind == 'data:image/png;base64'
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (100, 50)
    assert not plt.get_fignums()
    for word in ('prefers-color-scheme: dark', 'width=device-width'):
        assert word in source


def test_ragged_table() -> None:
    with pytest.raises(ValueError, match='1 cells for 2 columns'):
        table(['a', 'b'], [['c']])


def test_old_page_stays_until_the_new_one_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / 'report.html'
    write_report(path, 'old', {})
    write_report(path, 'new', {})
    assert 'new' in path.read_text()
    assert list(tmp_path.iterdir()) == [path]

    def full(self: Path, text: str, encoding: str) -> int:
        raise OSError('no space left on device')

    with monkeypatch.context() as patch:
        patch.setattr(Path, 'write_text', full)
        with pytest.raises(OSError, match='no space'):
            write_report(path, 'newest', {})
    assert 'new</h1>' in path.read_text()


def test_metrics_are_plain_json(tmp_path: Path) -> None:
    values = {'a': Interval(1 / 3, float('nan'), 1.0), 'b': torch.tensor([[1.5, float('nan')]]), 'c': ['d', 2, None]}
    values |= {'d': np.array([1, 2]), 'e': (np.float64(0.5), float('inf'), True)}
    write_metrics(tmp_path / 'metrics.json', values)
    found = json.loads((tmp_path / 'metrics.json').read_text())
    first = {'a': {'value': 0.333333, 'low': None, 'high': 1.0}, 'b': [[1.5, None]], 'c': ['d', 2, None]}
    assert found == first | {'d': [1, 2], 'e': [0.5, None, True]}
