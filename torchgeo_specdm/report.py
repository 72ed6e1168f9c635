"""One HTML page that needs no other file: text, tables and figures, readable in light, in dark and on a phone.

Every function here escapes what it is given and returns a :data:`Fragment`, which is all that a page accepts.
"""

import base64
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NewType

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

Fragment = NewType('Fragment', str)
"""A piece of valid HTML."""

_STYLE = """
:root { color-scheme: light dark; --text: #1c1f23; --soft: #5c636b; --line: #d8dce1; --page: #fff; --head: #f3f5f7 }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e8ea; --soft: #a0a7af; --line: #3a4047; --page: #15181b; --head: #20252a }
}
body { margin: 0 auto; padding: 1rem; max-width: 64rem; color: var(--text); background: var(--page);
  font: 16px/1.5 system-ui, sans-serif }
h1 { font-size: 1.6rem; line-height: 1.2 }
h2 { margin-top: 2.2rem; font-size: 1.2rem }
p, li { max-width: 46rem; overflow-wrap: break-word }
figure { margin: 1rem 0 }
figcaption { color: var(--soft); font-size: .9rem; max-width: 46rem }
.wide { overflow-x: auto }
img { display: block; width: 100%; min-width: 38rem; background: #fff; border-radius: 4px }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top }
thead th { background: var(--head) }
tbody th { font-weight: normal }
.key span { display: inline-block; margin-right: .9rem }
.key i { display: inline-block; width: .8em; height: .8em; margin-right: .3em; border: 1px solid var(--line) }
"""


def paragraph(text: str) -> Fragment:
    """A paragraph of plain text."""
    return Fragment(f'<p>{escape(text)}</p>')


def table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str = '') -> Fragment:
    """A table; the first cell of a row is its heading.

    Raises:
        ValueError: A row is not as long as the header.
    """
    head = ''.join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    body = []
    for first, *rest in rows:
        if len(rest) + 1 != len(header):
            raise ValueError(f'the row {first!r} has {len(rest) + 1} cells for {len(header)} columns')
        body.append(f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(c)}</td>" for c in rest)}</tr>')
    grid = f'<table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'
    return _captioned(grid, caption)


def figure(drawing: Figure, caption: str, dpi: int = 110) -> Fragment:
    """A drawing as an embedded PNG; the drawing is closed.

    Args:
        drawing: Any figure of matplotlib.
        caption: What it shows, also for those who cannot see it.
        dpi: Resolution [pixels per inch].
    """
    buffer = io.BytesIO()
    drawing.savefig(buffer, format='png', dpi=dpi)
    plt.close(drawing)
    data = base64.b64encode(buffer.getvalue()).decode()
    return _captioned(f'<img alt="{escape(caption)}" src="data:image/png;base64,{data}">', caption)


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
        inner = (f'<h2>{escape(heading)}</h2>' if heading else '') + '\n'.join(fragments)
        parts.append(f'<section>{inner}</section>')
    write_text(
        path,
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n'
        f'<body>\n<h1>{escape(title)}</h1>\n' + '\n'.join(parts) + '\n</body>\n</html>\n',
    )


def write_metrics(path: Path, values: Mapping[str, Any]) -> None:
    """Write numbers, texts, tensors and named tuples as JSON, as complete as the page: six digits, null for NaN."""
    write_text(path, json.dumps(_plain(values), indent=1, allow_nan=False) + '\n')


def write_text(path: Path, text: str) -> None:
    """Write a file that is either the old one or complete."""
    partial = path.with_name(f'.{path.name}.partial-{os.getpid()}')
    partial.write_text(text, encoding='utf-8')
    partial.replace(path)


def _captioned(content: str, caption: str) -> Fragment:
    text = f'<figcaption>{escape(caption)}</figcaption>' if caption else ''
    return Fragment(f'<figure><div class="wide">{content}</div>{text}</figure>')


def _plain(values: Any) -> Any:
    if isinstance(values, Tensor):
        values = values.tolist()
    if isinstance(values, tuple) and hasattr(values, '_asdict'):
        values = values._asdict()
    if isinstance(values, Mapping):
        return {str(key): _plain(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_plain(value) for value in values]
    if isinstance(values, float):
        return None if math.isnan(values) else float(f'{values:.6g}')
    return values
