"""Options of ``specdm experiment`` from a file: what wins, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from torchgeo_specdm.cli import _parser, main
from torchgeo_specdm.experiments.options import complete

FILE = """\
root: data/oscd
checkpoint: oscd-change
val_cities: [paris, pisa]
model: [fcsiamdiff:resnet18, siamcrnn]
steps: 600
batch-size: 8
lr: [1e-3, 0.01]
seeds: 3
task: change
fast: false
"""


def options(path: Path, *words: str) -> dict[str, Any]:
    return vars(complete(_parser().parse_args(['experiment', 'ratio', '--config', str(path), *words])))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / 'oscd.yaml'
    path.write_text(FILE)
    return path


def test_a_file_gives_what_the_command_line_would(file: Path) -> None:
    words = '--root data/oscd --checkpoint oscd-change --val-cities paris pisa --model fcsiamdiff:resnet18 siamcrnn'
    more = '--steps 600 --batch-size 8 --lr 1e-3 0.01 --seeds 3 --task change'
    given = _parser().parse_args(['experiment', 'ratio', *words.split(), *more.split()])
    assert options(file) == {**vars(complete(given)), 'config': file}


def test_the_command_line_wins_wherever_it_names_the_file(file: Path) -> None:
    found = options(file, '--steps', '5', '--seeds', '0', '1', '--protocol', 'paper')
    assert (found['steps'], found['seeds'], found['batch_size']) == (5, [0, 1], 8)
    before = _parser().parse_args(['experiment', 'ratio', '--steps', '5', '--config', str(file)])
    assert complete(before).steps == 5


def test_fast_keeps_model_and_task_and_brings_the_rest(file: Path) -> None:
    found = options(file, '--fast', '--steps', '2')
    assert (found['models'], found['task'], found['steps']) == (['fcsiamdiff:resnet18', 'siamcrnn'], 'change', 2)
    assert all(not found[name] for name in ('root', 'checkpoint', 'val_cities', 'seeds', 'rates', 'batch_size'))


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        (
            'step: 3',
            "has no option for 'step': it may give root, checkpoint, against, protocol, val-cities, model, seeds",
        ),
        ('name: ratio', "has no option for 'name'"),
        ('config: other.yaml', "has no option for 'config'"),
        ('rates: [1]', "has no option for 'rates'"),
        ('batch-size: 3\nbatch_size: 4', 'gives batch-size twice'),
        ('steps: many', "oscd.yaml: argument --steps: invalid int value: 'many'"),
        ('steps: [1, 2]', 'steps takes one value, not [1, 2]'),
        ('steps:', 'steps is None, which is no value'),
        ('seeds: []', 'argument --seeds: expected at least one argument'),
        ('seeds: [[1]]', 'seeds is [[1]], which is no value'),
        ('protocol: mine', "argument --protocol: invalid choice: 'mine'"),
        ('fast: 1', 'fast is 1; it must be true or false'),
        ('fast: true\nroot: data', 'leave out --root'),
        ('- steps', 'must give options as "name: value"'),
        ('a: [', 'is no YAML'),
        ('a: !!python/object:os.system {}', 'is no YAML'),
    ],
)
def test_mistakes_in_the_file_are_one_line(
    text: str, words: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(text)
    assert main(['experiment', 'ratio', '--config', str(file), '--out', str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1


def test_a_file_that_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['experiment', 'ratio', '--config', str(tmp_path / 'none.yaml')]) == 2
    assert 'none.yaml' in capsys.readouterr().err
