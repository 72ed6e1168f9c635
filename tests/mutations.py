"""Strategies that spoil a file: its bytes, or the values of its JSON or YAML."""

import copy
import json
from collections.abc import Sequence
from typing import Any

import yaml
from hypothesis import strategies as st

# A place in a file as a share of its length, squared because headers come first; what to write there
Edit = tuple[str, float, bytes]
_KINDS = ('overwrite', 'insert', 'delete', 'truncate', 'repeat')
_PIECES = st.one_of(
    st.binary(max_size=8), st.sampled_from([b'\xff' * 4, b'\x00' * 8, b'\x7f\xff\xff\xff', b'-1', b'9' * 30, b'NaN'])
)
BYTES: st.SearchStrategy[Sequence[Edit]] = st.lists(
    st.tuples(st.sampled_from(_KINDS), st.floats(0, 1), _PIECES), min_size=1, max_size=5
)

_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from([-1, 0, 1, 2**16, 2**31, 2**63, 10**30, -(2**40), 1e308, 0.5]),
    st.sampled_from(['', '../../up', '/etc/passwd', r'..\up', 'os.system', '!!python/name:os.system', 'a\n']),
)
VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
# Where in the tree, step by step; what is done there; the new value
TREES = st.lists(
    st.tuples(
        st.lists(st.floats(0, 1), min_size=1, max_size=5),
        st.sampled_from(['set', 'set', 'delete', 'add', 'nest', 'repeat']),
        VALUES,
    ),
    min_size=1,
    max_size=3,
)


def spoil_bytes(content: bytes, edits: Sequence[Edit]) -> bytes:
    """``content`` after all edits."""
    for kind, share, piece in edits:
        at = int(share**2 * len(content))
        end = at + len(piece)
        content = {
            'overwrite': content[:at] + piece + content[end:],
            'insert': content[:at] + piece + content[at:],
            'delete': content[:at] + content[end:],
            'truncate': content[: max(at, 1)],
            'repeat': content[:end] + content[at:],
        }[kind]
    return content


def spoil_tree(text: str, edits: Sequence[tuple[Sequence[float], str, Any]], as_yaml: bool) -> str:
    """A JSON or YAML text after all edits of its values."""
    tree = yaml.safe_load(text) if as_yaml else json.loads(text)
    for path, kind, value in edits:
        tree = _edited(tree, list(path), kind, copy.deepcopy(value))
    return yaml.safe_dump(tree, allow_unicode=True) if as_yaml else json.dumps(tree)


def _edited(tree: Any, path: list[float], kind: str, value: Any) -> Any:
    if not isinstance(tree, dict | list) or not tree or not path:
        return _leaf(tree, kind, value)
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
    key = keys[min(int(path[0] * len(keys)), len(keys) - 1)]
    made = copy.copy(tree)
    if kind == 'delete' and len(path) == 1:
        del made[key]
    elif kind == 'add' and len(path) == 1 and isinstance(made, dict):
        made[str(value)[:20]] = value
    else:
        made[key] = _edited(tree[key], path[1:], kind, value)
    return made


def _leaf(tree: Any, kind: str, value: Any) -> Any:
    if kind == 'nest':
        # As deep as Python still writes JSON from inside of a test
        for _ in range(400 if value is None else 3):
            tree = [tree]
        return tree
    return [tree] * 1000 if kind == 'repeat' else value
