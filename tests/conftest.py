"""Fixtures that tests of several rooms use: the lint, the command."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from flow.cli import main
from flow.cli.commands import ENDING
from tests.helpers.tools import Run, verilator

# The same examples every time; what fails is shown as drawn, for shrinking takes minutes where a simulator runs.
settings.register_profile(
    "bbs", deadline=None, derandomize=True, database=None, phases=(Phase.explicit, Phase.generate)
)
settings.load_profile("bbs")

# The files whose tests take longest, the longest first: pytest-xdist gives files to workers in this order, so that no
# worker is left alone with a long one.
LONGEST = (
    "output/test_folder.py", "hardware/test_axi.py", "formal/test_formal.py", "judgement/test_localize.py",
    "test_docs.py", "api/test_compile.py", "simulation/test_onchip.py", "hardware/test_conversion.py",
    "test_fuzz.py", "hardware/test_accelerator.py", "exploration/test_explore.py", "output/test_handoff.py",
    "cli/test_commands.py", "simulation/test_workers.py", "output/test_schema.py", "hardware/test_handshakes.py",
    "api/test_requests.py", "hardware/core/test_array.py", "hardware/test_blocks.py", "test_reproducible.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files in LONGEST first; the order within a file stays."""
    ranks = {Path(__file__).parent / name: rank for rank, name in enumerate(LONGEST)}
    assert all(path.exists() for path in ranks)
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Signals as before the test: `bbs` ignores some when it was interrupted, and what a test starts inherits that."""
    before = {number: signal.getsignal(number) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def lint() -> Callable[..., None]:
    """lint(files, top): `verilator --lint-only -Wall` without a waiver; any warning fails the test."""

    def run(files: Sequence[Path], top: str) -> None:
        program, environment = verilator()
        command = [program, "--lint-only", "-Wall", "--top-module", top, *map(str, files)]
        result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert result.returncode == 0, result.stderr

    return run


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """run(*arguments): exit status, stdout, stderr of `bbs`."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["bbs", *map(str, arguments)])
        status = 0
        try:
            main()
        except SystemExit as stop:
            status = int(stop.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call
