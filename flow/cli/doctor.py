"""What is installed here, in which version, and what that allows."""

from __future__ import annotations

import os
import platform
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.table import Table

from flow.cli.tables import escape, out
from flow.errors import FlowError
from flow.files import cache_folder
from flow.hardware.config import PE_KINDS
from flow.hardware.element import elements
from flow.hardware.synthesis import NEXTPNR, OSU018, YOSYS, tool
from flow.output.report.environment import environment
from flow.programs import ANSWER_SECONDS, run
from flow.simulation.engines import ENGINES
from flow.simulation.engines.verilator import compiler

CORE = ("myhdl", "numpy", "onnx", "onnxruntime")
EXTRAS = {
    "numba": ("fast", "compiled pruning, for networks of millions of weights"),
    "optuna": ("explore", "bbs explore"),
    "distributed": ("cluster", "--scheduler: simulation on many machines"),
    "cocotb": ("test", "the cocotb testbench of a build"),
}


@dataclass(frozen=True)
class Found:
    """One part of the installation: `version` is None where it is missing, `remedy` says how to get it.

    No command works without the parts that are `needed`.
    """

    name: str
    version: str | None
    allows: str
    remedy: str
    needed: bool = False


def diagnosis() -> list[Found]:
    """All parts: Python and packages, simulation engines, other programs."""
    return [*_packages(), *_elements(), *_engines(), *_programs()]


def _packages() -> Iterator[Found]:
    yield Found("Python", platform.python_version(), "all commands", "", needed=True)
    for name in CORE:
        yield Found(name, _package(name), "all commands", f"pip install {name}", needed=True)
    for name, (extra, allows) in EXTRAS.items():
        yield Found(name, _package(name), allows, f"pip install 'bbs-flow[{extra}]'")


def _package(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _elements() -> Iterator[Found]:
    for name, element in elements().items():
        columns = f"{element.least_columns} or more bit columns, {element.step} weights a step"
        yield Found(f"element {name}", "ours" if name in PE_KINDS else "installed", f"--pe {name}: {columns}", "")


def _engines() -> Iterator[Found]:
    for name, engine in ENGINES.items():
        reason, engine_version = engine.available(), None
        pace = "fast: whole networks" if engine.fast else "slow: small layers and arrays"
        if reason is None:
            try:
                engine_version = engine.version()
            except FlowError as error:
                reason = str(error)
        yield Found(f"engine {name}", engine_version, f"--engine {name}, {pace}", reason or "")


def _programs() -> Iterator[Found]:
    yield _compiler()
    yield _program(["make"], "builds the simulator of Verilator, testbenches", "apt-get install make")
    yield _program(["perl"], "starts Verilator", "apt-get install perl")
    yield _program(["gcc"], "the C headers of a build", "apt-get install gcc")
    yosys = "apt-get install yosys, or pip install 'bbs-flow[synth]'"
    yield _program(YOSYS, "--synth, bbs explore, python -m bench.area", yosys)
    for family, names in NEXTPNR.items():
        remedy = "apt-get install nextpnr-ice40" if family == "ice40" else "pip install 'bbs-flow[synth]'"
        yield _program(names, f"clock rates on {family}: python -m bench.area --fmax", remedy)
    cells = "OSU018 standard cells" if OSU018.is_file() else None
    yield Found("liberty file", cells, "areas in standard cells", "apt-get install qflow-tech-osu018, or --liberty")


def _compiler() -> Found:
    allows = "compiles the simulator of Verilator"
    try:
        command = compiler()
    except FlowError as error:
        return Found(os.environ.get("CXX") or "g++", None, allows, str(error))
    name = shlex.join(command) if command[0] == sys.executable else Path(command[0]).name
    return Found(name, _program_version(command), allows, "")


def _program(names: Sequence[str], allows: str, remedy: str) -> Found:
    """The first of these programs that is installed."""
    path = tool(names)
    return Found(names[0], _program_version([path]) if path else None, allows, remedy)


def _program_version(command: Sequence[str]) -> str:
    """The first version number that a program prints with --version or -V."""
    for option in ("--version", "-V"):
        try:
            answer = run([*command, option], seconds=ANSWER_SECONDS)
        except FlowError:
            continue
        if number := re.search(r"\bv?(\d+\.\d+[\w.+-]*)", answer):
            return number[1]
    return "unknown version"


def print_doctor(found: Sequence[Found]) -> None:
    """The table of `bbs doctor`."""
    table = Table(box=None, pad_edge=False)
    for head in ("part", "version", "allows, or how to get it"):
        table.add_column(head, overflow="fold")
    for each in found:
        shown = each.version or ("missing" if each.needed else "none")
        table.add_row(escape(each.name), escape(shown), escape(each.allows if each.version else each.remedy))
    out.print(table)
    engine = next((name for name, each in ENGINES.items() if each.available() is None), "none")
    about = environment(None)
    out.print(f"bbs-flow {about.versions['bbs-flow']} simulates by {engine} unless --engine says otherwise.")
    out.print(f"Processor: {escape(about.cpu)}. Cache: {cache_folder(None)}.", soft_wrap=True)
