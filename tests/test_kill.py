"""A few kills of each command that writes; see ``tests/kill.py`` for more of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import slow_but
from tests.kill import COMMANDS

# How often each command is killed; one after the other in one process, which imports once
SUITE = {3: ('fit', 'sample', 'materialize', 'export'), 1: ('restart', 'npz', 'oscd', 'segmunich')}


def test_all_commands_are_killed() -> None:
    assert sorted(name for names in SUITE.values() for name in names) == sorted(COMMANDS)


@pytest.mark.parametrize('kills', slow_but([3], SUITE))
def test_a_killed_run_is_completed_by_the_same_command(kills: int) -> None:
    # In a process of its own: the killed ones are forked, and what other tests have left in this one is not theirs
    command = [sys.executable, '-m', 'tests.kill', '--kills', str(kills), '--seed', '0', '--only', *SUITE[kills]]
    root = Path(__file__).parents[1]
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(root), os.environ.get('PYTHONPATH', '')])}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    for name in SUITE[kills]:
        assert f'{name}: {kills} kills, 0 went wrong' in done.stdout, done.stdout + done.stderr
