"""One HTML page that needs no other file: text, tables and figures, readable in light, in dark and on a phone.

Every function here escapes what it is given unless it is a :class:`Fragment`, and returns one.
"""

import base64
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from torchgeo_specdm.disk import write_whole


class Fragment(str):
    """A piece of valid HTML."""

    __slots__ = ()


_STYLE = """
:root { color-scheme: light dark; --text: #1c1f23; --soft: #59616a; --line: #d8dce1; --page: #fff; --head: #f3f5f7;
  --good: #1a6e36; --bad: #a33b00; --link: #1f5fae }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e8ea; --soft: #a6adb5; --line: #3a4047; --page: #15181b; --head: #20252a;
    --good: #63c983; --bad: #ffab70; --link: #8ab8f2 }
}
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1rem; max-width: 64rem; color: var(--text); background: var(--page);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.6rem; line-height: 1.2 }
h2 { margin-top: 2.6rem; font-size: 1.25rem; line-height: 1.3 }
h3 { margin: 0 0 .4rem; font-size: 1.05rem; line-height: 1.3 }
a { color: var(--link) }
p, li { max-width: 46rem }
ul { padding-left: 1.2rem }
figure { margin: 1rem 0 }
figcaption { margin-top: .4rem; color: var(--soft); font-size: .9rem; max-width: 46rem }
.wide { overflow-x: auto }
img { display: block; width: 100%; background: #fff; border-radius: 4px }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; overflow-wrap: normal }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top }
thead th { background: var(--head) }
tbody th { font-weight: normal; min-width: 9rem }
summary { cursor: pointer; color: var(--soft) }
.key span { display: inline-block; margin-right: .9rem }
.key i { display: inline-block; width: .8em; height: .8em; margin-right: .3em; border: 1px solid var(--line) }
.number { white-space: nowrap }
.soft { color: var(--soft); font-size: .9rem }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(17rem, 100%), 1fr)); gap: 1rem }
.card { padding: 1rem; border: 1px solid var(--line); border-radius: 8px; background: var(--head) }
.card p, .card ul { margin: .4rem 0; font-size: .95rem }
.card .name { margin-top: 1rem; padding-top: .6rem; border-top: 1px solid var(--line); font-weight: 600 }
.mark { display: inline-block; padding: 0 .45em; border: 1px solid; border-radius: 1em; font-size: .8rem;
  font-weight: 600; white-space: nowrap; color: var(--soft) }
.mark.good { color: var(--good) }
.mark.bad { color: var(--bad); border-width: 2px }
"""


def paragraph(text: str, style: str = '') -> Fragment:
    """A paragraph; styles are ``soft`` for what is less important, and ``name`` for whom the next ones are about."""
    return _element('p', text, style)


def heading(text: str) -> Fragment:
    """A heading below those of sections."""
    return _element('h3', text)


def bullets(items: Iterable[str]) -> Fragment:
    """A list; nothing if it has no items."""
    inner = ''.join(_element('li', item) for item in items)
    return Fragment(f'<ul>{inner}</ul>' if inner else '')


def mark(text: str, style: str = '') -> Fragment:
    """A word set apart, such as a verdict; ``good`` and ``bad`` are styles."""
    return _element('span', text, f'mark {style}'.strip())


def number(text: str) -> Fragment:
    """A figure that stays in one line."""
    return _element('span', text, 'number')


def link(text: str, heading: str) -> Fragment:
    """A link to the section of this heading."""
    return Fragment(f'<a href="#{_anchor(heading)}">{escape(text)}</a>')


def cards(*contents: Sequence[Fragment]) -> Fragment:
    """Boxes beside each other, below each other where there is little room."""
    inner = ''.join(f'<div class="card">{"".join(content)}</div>' for content in contents)
    return Fragment(f'<div class="cards">{inner}</div>')


def folded(summary: str, *contents: Fragment) -> Fragment:
    """What only some readers want to see, opened with a click."""
    return Fragment(f'<details><summary>{escape(summary)}</summary>{"".join(contents)}</details>')


def joined(*parts: str) -> Fragment:
    """Texts and fragments in one line."""
    return Fragment(' '.join(_escaped(part) for part in parts if part))


def table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str = '') -> Fragment:
    """A table; the first cell of a row is its heading.

    Raises:
        ValueError: A row is not as long as the header.
    """
    head = ''.join(f'<th scope="col">{_escaped(cell)}</th>' for cell in header)
    body = []
    for first, *rest in rows:
        if len(rest) + 1 != len(header):
            raise ValueError(f'the row {first!r} has {len(rest) + 1} cells for {len(header)} columns')
        cells = ''.join(f'<td>{_escaped(cell)}</td>' for cell in rest)
        body.append(f'<tr><th scope="row">{_escaped(first)}</th>{cells}</tr>')
    grid = f'<table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'
    return _captioned(grid, caption, 'table')


def figure(
    drawing: Figure, caption: str, dpi: int = 110, *, alt: str = '', file: Path | None = None, photo: bool = False
) -> Fragment:
    """A drawing as an embedded image; the drawing is closed.

    Args:
        drawing: Any figure of matplotlib.
        caption: What it shows and how to read it.
        dpi: Resolution [pixels per inch].
        alt: What it shows, for those who cannot see it; by default the caption.
        file: PNG file to write as well.
        photo: Embed a JPEG, which takes a tenth of the space of a PNG of satellite images.
    """
    buffer = io.BytesIO()
    drawing.savefig(buffer, format='png', dpi=dpi, pil_kwargs={'compress_level': 3})
    width = drawing.get_figwidth()
    plt.close(drawing)
    if file is not None:
        file.write_bytes(buffer.getvalue())
    kind = 'png'
    if photo:
        picture, buffer, kind = Image.open(buffer).convert('RGB'), io.BytesIO(), 'jpeg'
        picture.save(buffer, 'jpeg', quality=75, optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    # So wide that 9 pt can be read; more scrolls in its own box
    style = f'min-width: {4.5 * width:.3g}rem'
    image = f'<img alt="{escape(alt or caption)}" style="{style}" src="data:image/{kind};base64,{data}">'
    return _captioned(image, caption, 'figure')


def colour_key(colours: Mapping[str, tuple[int, int, int]]) -> Fragment:
    """Which colour (0-255) stands for what."""
    entries = (f'<span><i style="background: rgb{rgb}"></i>{escape(name)}</span>' for name, rgb in colours.items())
    return Fragment(f'<p class="key">{" ".join(entries)}</p>')


def write_report(path: Path, title: str, sections: Mapping[str, Sequence[Fragment]]) -> None:
    """Write the page; a file that is there is replaced by the complete new one.

    Args:
        path: The file.
        title: Title and heading of the page.
        sections: Contents by heading; the one under the heading ``''`` comes right below the title.
    """
    parts = []
    for heading, fragments in sections.items():
        title_line = f'<h2 id="{_anchor(heading)}">{escape(heading)}</h2>' if heading else ''
        parts.append(f'<section>{title_line}' + '\n'.join(fragments) + '</section>')
    write_text(
        path,
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n'
        f'<body>\n<main>\n<h1>{escape(title)}</h1>\n' + '\n'.join(parts) + '\n</main>\n</body>\n</html>\n',
    )


def write_metrics(path: Path, values: Mapping[str, Any]) -> None:
    """Write numbers, texts, tensors, arrays and named tuples as JSON: six digits, null for what is not finite."""
    write_text(path, json.dumps(_plain(values), indent=1, allow_nan=False) + '\n')


def write_text(path: Path, text: str) -> None:
    """Write a file that is either the old one or complete.

    Raises:
        SpecDMError: The disk is full, or the file may not be written.
    """
    write_whole(path, lambda partial: partial.write_text(text, encoding='utf-8'))


def _escaped(text: str) -> str:
    return text if isinstance(text, Fragment) else escape(text)


def _element(tag: str, text: str, style: str = '') -> Fragment:
    return Fragment(f'<{tag}' + (f' class="{style}"' if style else '') + f'>{_escaped(text)}</{tag}>')


def _anchor(heading: str) -> str:
    return re.sub(r'[^a-z0-9]+', '-', heading.lower()).strip('-')


def _captioned(content: str, caption: str, kind: str) -> Fragment:
    text = f'<figcaption>{escape(caption)}</figcaption>' if caption else ''
    # What scrolls must be reachable with the keyboard, and then needs a name
    box = f'<div class="wide" role="group" tabindex="0" aria-label="{kind}">{content}</div>'
    return Fragment(f'<figure>{box}{text}</figure>')


def _plain(values: Any) -> Any:
    if isinstance(values, Tensor | np.ndarray | np.generic):
        values = values.tolist()
    if isinstance(values, tuple) and hasattr(values, '_asdict'):
        values = values._asdict()
    if isinstance(values, Mapping):
        return {str(key): _plain(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_plain(value) for value in values]
    if isinstance(values, float):
        return float(f'{values:.6g}') if math.isfinite(values) else None
    return values
