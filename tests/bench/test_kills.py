"""Commands that are killed leave nothing half, and nothing at all after the next run."""

from __future__ import annotations

import pytest

from bench.kills import kills
from tests.helpers.tools import require_engine, require_tool


@pytest.mark.full
@pytest.mark.parametrize("command", ["cosim", "explore"])
def test_killed_at_random_moments(command: str) -> None:
    """`compile` is killed in tests/output/test_folder.py."""
    require_engine("icarus")
    if command == "explore":
        require_tool("yosys")
    assert kills(command, 2, 0, "icarus") >= 2
