"""A few kills of each command that writes; see ``tests/kill.py`` for more of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kill import COMMANDS


@pytest.fixture(scope='module')
def said() -> str:
    """What is printed of three kills of each command."""
    # In a process of its own: the killed ones are forked, and what other tests have left in this one is not theirs
    command = [sys.executable, '-m', 'tests.kill', '--kills', '3', '--seed', '0']
    root = Path(__file__).parents[1]
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(root), os.environ.get('PYTHONPATH', '')])}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize('name', COMMANDS)
def test_a_killed_run_is_completed_by_the_same_command(name: str, said: str) -> None:
    assert f'{name}: 3 kills, 0 went wrong' in said, said
