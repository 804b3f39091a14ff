"""Energy of a gate-level netlist by its activity: a library's capacitances and internal energies, counted toggles.

    load      of every net 1/2 C V^2 a toggle, C the capacitances of the input pins on it, and `wire` for each
    internal  of every cell what its library's tables give for a transition of a pin, at the net's load and one slew;
              of a pin with several tables (one for each input that may have caused it) their mean
    clock     the part of both that the clock's net and pins take: no clock is gated
    leakage   of every cell, over the time simulated

Simulation has no delays, so that glitches are not counted. Libraries are read in the Liberty format, of which the
groups and attributes that energy needs are looked at.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flow.errors import FlowError
from flow.hardware import synthesis
from flow.programs import run

SLEW = 0.1  # ns, of every transition: about that of a gate with four loads at 180 nm
SCALES = {"f": 1e-15, "p": 1e-12, "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0}
TOKEN = re.compile(r'"[^"]*"|[(){};:,]|[^\s(){};:,"]+')
BUNDLE = 64  # nets that the monitor joins first: one long list would take the square of its length
RISE, FALL = "rise", "fall"
EDGES = {"01": RISE, "10": FALL}


@dataclass
class Group:
    """A group of a Liberty file: attributes by name, each a list of words, and the groups in it."""

    kind: str
    names: list[str]
    attributes: dict[str, list[str]] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)

    def all(self, kind: str) -> list[Group]:
        return [group for group in self.groups if group.kind == kind]

    def number(self, name: str, otherwise: float = 0.0) -> float:
        return float(self.attributes[name][0]) if name in self.attributes else otherwise


def read_liberty(file: Path) -> Group:
    """The library group. FlowError if the file is no Liberty file."""
    text = re.sub(r"/\*.*?\*/", " ", file.read_text(), flags=re.S).replace("\\\n", " ")
    try:
        library = next(_statements(iter(TOKEN.findall(text))))
        if isinstance(library, Group) and library.kind == "library":
            return library
    except (StopIteration, RuntimeError, ValueError):
        pass
    raise FlowError(f"'{file}' is no Liberty file: it must be one group 'library (NAME) {{ ... }}'; check --liberty")


def _statements(tokens: Iterator[str]) -> Iterator[Group | tuple[str, list[str]]]:
    """What stands in a group, up to its end: groups and attributes."""
    for name in tokens:
        if name == "}":
            return
        if name == ";":
            continue
        mark = next(tokens)
        if mark == ":":
            words = _until(tokens, ";")
        elif mark == "(":
            words = _until(tokens, ")")
            if (after := next(tokens)) == "{":
                yield _filled(Group(name, words), tokens)
                continue
            if after == "}":
                yield name, words
                return
        else:
            raise ValueError(mark)
        yield name, words


def _until(tokens: Iterator[str], end: str) -> list[str]:
    words = []
    while (token := next(tokens)) != end:
        if token != ",":
            words.append(token.strip('"').strip())
    return words


def _filled(group: Group, tokens: Iterator[str]) -> Group:
    for each in _statements(tokens):
        if isinstance(each, Group):
            group.groups.append(each)
        else:
            group.attributes[each[0]] = each[1]
    return group


@dataclass(frozen=True)
class Table:
    """Energy in joules over load (farads) and slew (seconds); either axis may have one value alone."""

    loads: NDArray[np.float64]
    slews: NDArray[np.float64]
    values: NDArray[np.float64]

    def at(self, load: float, slew: float) -> float:
        """Interpolated; beyond the table its border."""
        by_load = [float(np.interp(slew, self.slews, row)) for row in self.values]
        return float(np.interp(load, self.loads, by_load))


@dataclass(frozen=True)
class Pin:
    """`capacitance` in farads; energies of the transitions, by `RISE` and `FALL`, one for each cause; `clock`."""

    output: bool
    capacitance: float
    energies: Mapping[str, list[Table]]
    clock: bool

    def energy(self, edge: str, load: float, slew: float) -> float:
        """Joules of one transition."""
        tables = self.energies[edge]
        return sum(table.at(load, slew) for table in tables) / len(tables) if tables else 0.0


@dataclass(frozen=True)
class Cell:
    """`leakage` in watts."""

    pins: Mapping[str, Pin]
    leakage: float


@dataclass(frozen=True)
class Library:
    """The cells of a Liberty file, the supply in volts, the Verilog of the cells beside it."""

    file: Path
    voltage: float
    cells: Mapping[str, Cell]

    @property
    def models(self) -> Path:
        return self.file.with_suffix(".v")


def library(given: Path | None = None) -> Library:
    """A library in SI units. FlowError if it or its cells' Verilog is missing, or has no units."""
    file = synthesis.library(given)
    found = read_liberty(file)
    try:
        farads = float(found.attributes["capacitive_load_unit"][0]) * _unit(found.attributes["capacitive_load_unit"][1])
        seconds, volts, leaks = (
            _unit(found.attributes[name][0]) for name in ("time_unit", "voltage_unit", "leakage_power_unit")
        )
        units = Units(farads, seconds, farads * volts**2)
        templates = {each.names[0]: each for each in found.all("power_lut_template")}
        cells = {each.names[0]: _cell(each, units, leaks, templates) for each in found.all("cell")}
        made = Library(file, found.number("nom_voltage") * volts, cells)
    except (KeyError, IndexError, ValueError) as reason:
        raise FlowError(
            f"'{file}' lacks what energy needs, or has it in no known form: {reason}; check --liberty"
        ) from None
    if not made.models.is_file():
        raise FlowError(f"gates are simulated by the library's Verilog, but there is no '{made.models}'; put it there")
    return made


@dataclass(frozen=True)
class Units:
    """Of a library's tables: farads of a load, seconds of a slew, joules of an energy."""

    load: float
    slew: float
    energy: float


def _unit(text: str) -> float:
    """The SI value of "1ns", "10 mV", "pf"."""
    found = re.fullmatch(r"([\d.]*)\s*([fpnum]?)(s|V|W|A|F)", text.strip(), re.I)
    if found is None:
        raise ValueError(f"unit '{text}'")
    return float(found[1] or 1) * SCALES[found[2].lower()]


def _cell(group: Group, units: Units, leaks: float, templates: Mapping[str, Group]) -> Cell:
    pins = {}
    for pin in group.all("pin"):
        powers = pin.all("internal_power")
        energies = {
            edge: [_table(table, units, templates) for power in powers for table in power.all(f"{edge}_power")]
            for edge in (RISE, FALL)
        }
        output = pin.attributes.get("direction") == ["output"]
        clock = pin.attributes.get("clock") == ["true"]
        pins[pin.names[0]] = Pin(output, pin.number("capacitance") * units.load, energies, clock)
    return Cell(pins, group.number("cell_leakage_power") * leaks)


def _table(group: Group, units: Units, templates: Mapping[str, Group]) -> Table:
    template = templates[group.names[0]]
    axes = {"load": np.zeros(1), "slew": np.zeros(1)}
    for number in (1, 2):
        if (variable := template.attributes.get(f"variable_{number}")) is not None:
            index = group.attributes.get(f"index_{number}") or template.attributes[f"index_{number}"]
            axis = "load" if variable == ["total_output_net_capacitance"] else "slew"
            axes[axis] = _numbers(index) * (units.load if axis == "load" else units.slew)
    values = _numbers(group.attributes["values"]) * units.energy
    loads_first = template.attributes.get("variable_1") == ["total_output_net_capacitance"]
    shape = axes["load"].size, axes["slew"].size
    grid = values.reshape(shape) if loads_first or 1 in shape else values.reshape(shape[::-1]).T
    return Table(axes["load"], axes["slew"], grid)


def _numbers(words: Sequence[str]) -> NDArray[np.float64]:
    return np.array([float(each) for word in words for each in word.replace(",", " ").split()])


@dataclass(frozen=True)
class Instance:
    """A cell of the netlist: the net of each pin, None where it is a constant or open."""

    cell: str
    nets: Mapping[str, int | None]


@dataclass(frozen=True)
class Netlist:
    """A flat netlist of a library's cells, with single-bit ports and nets."""

    top: str
    verilog: Path
    library: Library
    instances: tuple[Instance, ...]
    names: Mapping[str, int]  # nets by name, a net may have several
    loads: Mapping[int, float]  # farads, by net


def netlist(files: Sequence[Path], top: str, cells: Library, folder: Path, wire: float = 0.0) -> Netlist:
    """The module `top` in the library's cells, as `flow.hardware.synthesis.area` maps it.

    `wire` farads are added for every input pin on a net. FlowError if Yosys is missing or fails.
    """
    verilog, described = synthesis.netlist(files, top, cells.file, folder)
    module = json.loads(described.read_text())["modules"][top]
    instances = tuple(
        Instance(each["type"], {pin: _net(bits) for pin, bits in each["connections"].items()})
        for each in module["cells"].values()
    )
    loads: dict[int, float] = defaultdict(float)
    for instance in instances:
        for name, net in instance.nets.items():
            pin = cells.cells[instance.cell].pins[name]
            if net is not None and not pin.output:
                loads[net] += pin.capacitance + wire
    names = {name: net for name, each in module["netnames"].items() if (net := _net(each["bits"])) is not None}
    return Netlist(top, verilog, cells, instances, names, loads)


def _net(bits: Sequence[int | str]) -> int | None:
    (bit,) = bits
    return bit if isinstance(bit, int) else None


@dataclass(frozen=True)
class Activity:
    """Transitions of every net, by edge, in so many clock cycles; what the simulation printed of results."""

    edges: Mapping[str, Counter[int]]
    cycles: int
    results: list[int]


def simulate(
    design: Netlist, inputs: Mapping[str, int], cycles: Sequence[Mapping[str, int]], counted: range
) -> Activity:
    """The netlist in Icarus Verilog, `inputs` by name and width, their values cycle by cycle (one not named stays).

    Transitions of the cycles `counted` are. "result" is read where an input "capture" was high. A monitor in the
    testbench counts all toggles a second time. FlowError if Icarus Verilog is missing.
    """
    simulator, player = synthesis.tool(["iverilog"]), synthesis.tool(["vvp"])
    if simulator is None or player is None:
        raise FlowError("gates are simulated by Icarus Verilog, but there is none; install Debian's iverilog")
    folder = design.verilog.parent
    (folder / "words.hex").write_text("\n".join(_words(inputs, cycles)))
    (folder / "bench.v").write_text(_testbench(design, inputs, len(cycles), counted))
    call = [simulator, "-g2012", "-s", "bench", "-o", "gates.vvp", str(design.library.models), design.verilog.name]
    run([*call, "bench.v"], f"on {design.top}", folder=folder, temporary=folder)
    printed = run([player, "gates.vvp"], f"on {design.top}", folder=folder, temporary=folder)
    edges = _edges(folder / "gates.vcd", design.names)
    (monitor,) = re.findall(r"^toggles (\d+)$", printed, re.M)
    assert int(monitor) == sum(each.total() for each in edges.values()), (
        f"monitor {monitor}, VCD {[each.total() for each in edges.values()]}"
    )
    return Activity(edges, len(counted), [int(each) for each in re.findall(r"^result (-?\d+)$", printed, re.M)])


def _words(inputs: Mapping[str, int], cycles: Sequence[Mapping[str, int]]) -> Iterator[str]:
    state = dict.fromkeys(inputs, 0)
    for cycle in cycles:
        state |= {name: int(value) for name, value in cycle.items()}
        word, begin = 0, 0
        for name, width in inputs.items():
            word |= (state[name] & ((1 << width) - 1)) << begin
            begin += width
        yield f"{word:x}"


def _testbench(design: Netlist, inputs: Mapping[str, int], count: int, counted: range) -> str:
    """Inputs change while the clock is low; the monitor looks at all nets after every change."""
    pins, begins, begin = [r".\clk (clk)"], {}, 0
    for name, width in inputs.items():
        begins[name] = begin
        pins += [f".\\{_bit(name, bit, width)} (word[{begin + bit}])" for bit in range(width)]
        begin += width
    results = sorted((name for name in design.names if name.startswith("result[")), key=lambda name: int(name[7:-1]))
    pins += [f".\\{name} (result[{bit}])" for bit, name in enumerate(results)]
    nets = {net: name for name, net in design.names.items()}
    seen = [f"device.\\{name} " for name in nets.values()]
    parts = (", ".join(seen[first : first + BUNDLE]) for first in range(0, len(seen), BUNDLE))
    watched = ", ".join(f"{{{part}}}" for part in parts)
    show = f'if (word[{begins["capture"]}]) $display("result %0d", $signed(result));' if "capture" in begins else ""
    return f"""`timescale 1ns/10ps
module bench;
  reg clk = 0, looks; reg [{begin - 1}:0] words [0:{count - 1}]; reg [{begin - 1}:0] word;
  wire [{max(len(results), 1) - 1}:0] result; reg [{len(nets) - 1}:0] now, kept;
  integer i, toggles;
  {design.top} device({", ".join(pins)});
  task count; begin now = {{{watched}}}; toggles = toggles + $countbits(now ^ kept, 1'b1); kept = now; end endtask
  initial begin
    toggles = 0; kept = 0;
    $dumpfile("gates.vcd");
    $readmemh("words.hex", words);
    for (i = 0; i < {count}; i = i + 1) begin
      if (i == {counted.start}) begin kept = {{{watched}}}; $dumpvars(1, device); #1; end
      if (i == {counted.stop}) $dumpoff;
      looks = i >= {counted.start} && i < {counted.stop};
      word = words[i]; #1; if (looks) count;
      clk = 1; #1; if (looks) count;
      clk = 0; #1; if (looks) count;
      {show}
    end
    $display("toggles %0d", toggles);
  end
endmodule
"""


def _bit(name: str, bit: int, width: int) -> str:
    return name if width == 1 else f"{name}[{bit}]"


def _edges(file: Path, names: Mapping[str, int]) -> dict[str, Counter[int]]:
    """Transitions of every net between 0 and 1, of Icarus' VCD of single bits, of which each change is a line."""
    ids: dict[str, int] = {}
    last: dict[int, str] = {}  # a net of several names changes once
    counts: dict[str, Counter[int]] = {RISE: Counter(), FALL: Counter()}
    with file.open() as lines:
        for line in lines:
            if line.startswith("$var"):
                _, _, _, identifier, name, *_ = line.split()
                ids[identifier] = names.get(name.lstrip("\\"), -1)
            elif line[0] in "01xz":
                net, value = ids[line[1:-1]], line[0]
                edge = EDGES.get(last.get(net, "x") + value)
                last[net] = value
                if edge is not None and net >= 0:
                    counts[edge][net] += 1
    missing = set(names.values()) - set(ids.values())
    assert not missing, f"nets {missing} are not in the VCD"
    return counts


@dataclass(frozen=True)
class Energy:
    """Joules, or joules a cycle; see the top of the file. `total` is all of it; `clock` counts in load and internal."""

    load: float
    internal: float
    leakage: float
    clock: float

    @property
    def total(self) -> float:
        return self.load + self.internal + self.leakage

    def __mul__(self, factor: float) -> Energy:
        return Energy(*(factor * value for value in astuple(self)))

    def __add__(self, other: Energy) -> Energy:
        return Energy(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


NOTHING = Energy(0, 0, 0, 0)


def energy(design: Netlist, activity: Activity, period: float, slew: float = SLEW * 1e-9) -> Energy:
    """Joules of all cycles counted; `period` in seconds is what a cycle leaks."""
    rises, falls = activity.edges[RISE], activity.edges[FALL]
    swing = design.library.voltage**2 / 2
    clocks = {net for each in design.instances for name, net in each.nets.items()
              if net is not None and design.library.cells[each.cell].pins[name].clock}  # fmt: skip
    charged = {net: swing * load * (rises[net] + falls[net]) for net, load in design.loads.items()}
    internal, clock = 0.0, sum(charged.get(net, 0.0) for net in clocks)
    for each in design.instances:
        for name, net in each.nets.items():
            if net is None:
                continue
            pin, load = design.library.cells[each.cell].pins[name], design.loads.get(net, 0.0)
            spent = rises[net] * pin.energy(RISE, load, slew) + falls[net] * pin.energy(FALL, load, slew)
            internal += spent
            clock += spent if pin.clock else 0.0
    leaks = sum(design.library.cells[each.cell].leakage for each in design.instances)
    return Energy(sum(charged.values()), internal, leaks * period * activity.cycles, clock)
