from pathlib import Path

import pytest
import yaml

from torchgeo_specdm.errors import SpecDMError
from torchgeo_specdm.stages import merge, plan, read_config, select

STAGED = """
seed_everything: 3
trainer: {max_epochs: 1, callbacks: [a, b]}
data: {class_path: Data, init_args: {root: here, patch_size: 128}}
stages:
- model: {class_path: package.First, init_args: {lr: 1e-3}}
  trainer: {max_epochs: 2, callbacks: [c]}
- model: Second
  data: {init_args: {patch_size: 64}}
"""


@pytest.fixture
def staged(tmp_path: Path) -> str:
    path = tmp_path / 'staged.yaml'
    path.write_text(STAGED)
    return str(path)


def test_a_stage_is_merged_into_the_top_level(staged: str) -> None:
    first, second = plan([staged], ['--data.root', 'there'])
    assert (first.name, second.name) == ('First', 'Second')
    assert first.arguments[2:] == second.arguments[2:] == ('--data.root', 'there')
    configs = [yaml.safe_load(stage.arguments[1]) for stage in (first, second)]
    assert configs[0] == {
        'seed_everything': 3,
        'trainer': {'max_epochs': 2, 'callbacks': ['c']},
        'data': {'class_path': 'Data', 'init_args': {'root': 'here', 'patch_size': 128}},
        'model': {'class_path': 'package.First', 'init_args': {'lr': 0.001}},
    }
    assert configs[1]['trainer'] == {'max_epochs': 1, 'callbacks': ['a', 'b']}
    assert configs[1]['data']['init_args'] == {'root': 'here', 'patch_size': 64}


def test_later_files_win(staged: str, tmp_path: Path) -> None:
    (tmp_path / 'more.yaml').write_text('seed_everything: 4')
    first, _ = plan([staged, str(tmp_path / 'more.yaml')], [])
    assert yaml.safe_load(first.arguments[1])['seed_everything'] == 4


def test_a_plain_configuration_is_left_to_lightning(tmp_path: Path) -> None:
    path = tmp_path / 'plain.yaml'
    path.write_text('model: {class_path: a.Model}')
    (stage,) = plan([str(path)], ['--x', '1'])
    assert stage.name == 'Model'
    assert stage.arguments == ('--config', str(path), '--x', '1')
    assert plan([], ['--help'])[0].arguments == ('--help',)


def test_merging_changes_neither_side_and_is_idempotent() -> None:
    base, other = {'a': {'b': 1, 'c': [1]}}, {'a': {'c': [2]}, 'd': None}
    merged = merge(base, other)
    assert merged == {'a': {'b': 1, 'c': [2]}, 'd': None}
    assert merge(merged, other) == merged
    assert base == {'a': {'b': 1, 'c': [1]}}


def test_stages_are_selected_by_number_or_name(staged: str) -> None:
    stages = plan([staged], [])
    assert select(stages, '1') == select(stages, 'First') == stages[0]
    with pytest.raises(SpecDMError, match=r"no stage '3'.* 1 \(First\), 2 \(Second\)"):
        select(stages, '3')


@pytest.mark.parametrize(
    ('text', 'match'),
    [
        ('a: [', 'not valid YAML'),
        ('- a', 'must hold a YAML mapping'),
        ('stages: []', 'stages must be a list'),
        ('stages: [a]', 'stages must be a list'),
        ('stages: [{trainer: {}}]', 'stage 1 names no model'),
    ],
)
def test_bad_files_are_named(text: str, match: str, tmp_path: Path) -> None:
    path = tmp_path / 'bad.yaml'
    path.write_text(text)
    with pytest.raises(SpecDMError, match=f'bad.yaml.*{match}'):
        plan([str(path)], [])
    with pytest.raises(SpecDMError, match='there is no configuration file'):
        plan([str(tmp_path / 'absent.yaml')], [])


@pytest.mark.parametrize(
    'text',
    ['a: ' + '[' * 60 + ']' * 60, 'a: &a [*a, *a]', 'a: [' + '1, ' * 20_000 + ']'],
    ids=['deep', 'alias', 'long'],
)
def test_values_without_end_are_refused(text: str, tmp_path: Path) -> None:
    """The parser of Lightning's command line would take minutes."""
    (tmp_path / 'a.yaml').write_text(text)
    with pytest.raises(SpecDMError, match='more than 10000 values, or 50 levels'):
        read_config(tmp_path / 'a.yaml')
