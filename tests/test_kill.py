"""A few kills of each command that writes; see ``tests/kill.py`` for more of them."""

from pathlib import Path

import pytest

from tests.kill import COMMANDS, kill


@pytest.mark.parametrize('name', COMMANDS)
def test_a_killed_run_is_completed_by_the_same_command(name: str, tmp_path: Path) -> None:
    assert kill(name, 3, seed=0, root=tmp_path) == []
