"""The stages of a configuration.

A configuration with a list ``stages:`` stands for one configuration per stage: the top level without ``stages``, into
which the stage is merged. Any other configuration is one stage and goes to Lightning as it is.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from torchgeo_specdm.errors import SpecDMError

_NO_DATA = re.compile(r'arguments are required: .*\.data\b')
# Values of a configuration and their levels; that of a sensor with hundreds of bands has some thousand
_MOST, _DEEPEST = 10_000, 50


@dataclass(frozen=True)
class Stage:
    """One run of Lightning's command line: the class name of its model, and the arguments."""

    name: str
    arguments: tuple[str, ...]


def merge(base: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` updated by ``other``: mappings recursively, everything else (lists too) replaced."""
    merged = dict(base)
    for key, value in other.items():
        inner = merged.get(key)
        both = isinstance(inner, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(inner, value) if both else value  # type: ignore[arg-type]
    return merged


def read_config(path: Path) -> dict[str, Any]:
    """Read a configuration.

    Raises:
        SpecDMError: The file is missing, is not a YAML mapping, or has values without end.
    """
    if not path.is_file():
        raise SpecDMError(f'there is no configuration file {path}')
    # Whoever merges stages alone does without the package
    from jsonargparse import get_loader

    try:
        # jsonargparse's YAML: 1e-3 is a number
        config = get_loader('yaml')(path.read_text(encoding='utf-8'))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpecDMError(f'{path} is not valid YAML: {error}') from error
    if not isinstance(config, dict):
        raise SpecDMError(f'{path} must hold a YAML mapping with model, data and trainer, or stages')
    _require_bounded(config, path)
    return config


def _require_bounded(config: Any, path: Path) -> None:
    """Refuse what jsonargparse would compare with types for minutes: endless nesting, lists or aliases."""
    level, seen = [config], 0
    for _ in range(_DEEPEST):
        level = [
            inner
            for value in level
            if isinstance(value, Mapping | list)
            for inner in (value.values() if isinstance(value, Mapping) else value)
        ][: _MOST + 1]
        seen += len(level)
    if level or seen > _MOST:
        raise SpecDMError(
            f'{path} has more than {_MOST} values, or {_DEEPEST} levels of them: no configuration needs so many'
        )


def _model_name(config: Mapping[str, Any]) -> str:
    model = config.get('model')
    path = model.get('class_path') if isinstance(model, Mapping) else model
    return path.rpartition('.')[-1] if isinstance(path, str) else ''


def plan(configs: Sequence[str], overrides: Sequence[str]) -> list[Stage]:
    """The stages that configuration files stand for; later files and then ``overrides`` win.

    Raises:
        SpecDMError: A file cannot be read, or ``stages`` is not a list of configurations with a model.
    """
    top: dict[str, Any] = {}
    for path in configs:
        top = merge(top, read_config(Path(path)))
    if 'stages' not in top:
        files = [argument for path in configs for argument in ('--config', path)]
        return [Stage(_model_name(top), (*files, *overrides))]
    stages = top.pop('stages')
    if not (isinstance(stages, list) and stages and all(isinstance(stage, dict) for stage in stages)):
        raise SpecDMError(f'{configs[-1]}: stages must be a list of mappings, each with a model')
    merged = [merge(top, stage) for stage in stages]
    for number, config in enumerate(merged, 1):
        if not _model_name(config):
            raise SpecDMError(f'{configs[-1]}: stage {number} names no model (model: {{class_path: ...}})')
    return [Stage(_model_name(c), ('--config', yaml.safe_dump(c, sort_keys=False), *overrides)) for c in merged]


def select(stages: Sequence[Stage], wanted: str) -> Stage:
    """The stage of that number (from 1) or class name.

    Raises:
        SpecDMError: There is none.
    """
    for number, stage in enumerate(stages, 1):
        if wanted in (str(number), stage.name):
            return stage
    names = ', '.join(f'{number} ({stage.name})' for number, stage in enumerate(stages, 1))
    raise SpecDMError(f'there is no stage {wanted!r}; the configuration has {names}')


def to_the_point(message: str) -> str:
    """The lines of an error of jsonargparse that say what is wrong with which argument."""
    noise = ('Does not validate', 'Subtypes:', 'Errors:', "- Expected a <class 'NoneType'>", 'Given value')
    lines = [line.strip() for line in message.splitlines()]
    text = ' '.join(line.removeprefix('- ') for line in lines if not line.startswith(noise))
    if _NO_DATA.search(text):
        text += '. The data can come from a second file, --config FILE, which "specdm init DATASET" writes'
    return text.replace('Expected a dot import path string:', 'there is no class called')
