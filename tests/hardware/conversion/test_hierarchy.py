"""The exported hierarchy behaves as its MyHDL source in Icarus and GHDL, and is the same every time."""

from __future__ import annotations

import dataclasses
import inspect
import os
import random
import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import myhdl._util
import pytest
from myhdl import (
    ConcatSignal,
    ResetSignal,
    Signal,
    StopSimulation,
    always,
    always_comb,
    always_seq,
    delay,
    instance,
    intbv,
    modbv,
)

from flow.hardware.conversion.bundles import ExportError, bits, flag, fresh, gathered, prefixed
from flow.hardware.conversion.hierarchy import Module, block, export, forgotten
from tests.helpers.clocking import Bench
from tests.helpers.tools import require_tool


@dataclasses.dataclass(frozen=True)
class Size:
    """A parameter object."""

    width: int
    depth: int = 8


@block
def accumulator(clk, reset, x, step, total, spare, size, extra=None):
    """Adds x and step to total, which wraps; spare shows x's top bit."""

    increment = Signal(intbv(0, min=total.min, max=total.max))

    @always_comb
    def sum_up():
        increment.next = x + step

    @always_seq(clk.posedge, reset=reset)
    def add():
        total.next = total + increment

    @always_comb
    def show():
        spare.next = x[size.width - 1]

    return sum_up, add, show


@block
def storage(clk, write, address, data, q, size):
    """One write port, one registered read port."""
    memory = [Signal(intbv(0)[size.width :]) for _ in range(size.depth)]

    @always(clk.posedge)
    def access():
        if write:
            memory[address].next = data
        q.next = memory[address]

    return access


@block
def register(clk, d, q):
    """One register, signed from unsigned; named like a VHDL keyword."""

    @always(clk.posedge)
    def take():
        q.next = d

    return take


@block
def nibbles(x, y):
    """Swaps the nibbles of each byte with a slice at a variable place."""

    @always_comb
    def swap():
        for i in range(4):
            low = 4 * i
            mirrored = 12 - 4 * i
            y.next[low + 4 : low] = x[mirrored + 4 : mirrored]

    return swap


@block
def lane(clk, reset, x, total, size):
    """Middle level: an accumulator with a constant step, named like a keyword; its spare output is unused."""
    constant = Signal(intbv(-3, min=-8, max=8))
    spare = Signal(bool(0))
    add = accumulator(clk, reset, x, constant, total, spare, size, None)
    return add


@block
def design(clk, reset, word, write, signed_bus, y, concat, stored, both, swapped, wide):
    """Four accumulators of two widths on list elements and slices, a RAM, a ConcatSignal."""
    totals = [Signal(modbv(0, min=-512, max=512)) for _ in range(2)]
    hidden = [[Signal(modbv(0, min=-8192, max=8192))] for _ in range(2)]
    children = []
    for i in range(2):
        children.append(lane(clk, reset, word(8 * i + 8, 8 * i), totals[i], Size(8)))
    for i in range(2):
        children.append(lane(clk, reset, ConcatSignal(word(4 + i), word(11, 4 * i)), hidden[i][0], Size(12 - 4 * i)))
    joined = ConcatSignal(hidden[1][0](6, 0), hidden[0][0], totals[0])
    children.append(storage(clk, write, word(3, 0), signed_bus(7, 1), stored, Size(6)))
    delayed = [Signal(intbv(0)[16:]) for _ in range(2)]
    children.append(nibbles(delayed[1], swapped))
    children.append(register(clk, ConcatSignal(totals[0](9, 0), word(8, 0)), wide))

    @always(clk.posedge)
    def wait():
        delayed[0].next = word
        delayed[1].next = delayed[0]

    @always_comb
    def show():
        y.next = totals[1]

    @always_comb
    def add():
        both.next = totals[0] + totals[1]

    @always_comb
    def join():
        concat.next = joined

    return children, wait, show, add, join


PORTS = {
    "clk": ("in", 1), "reset": ("in", 1), "word": ("in", 16), "write": ("in", 1), "signed_bus": ("in", -8),
    "y": ("out", -10), "concat": ("out", 30), "stored": ("out", 6), "both": ("out", -11),
    "swapped": ("out", 16), "wide": ("out", -19),
}  # fmt: skip


def signal(name):
    width = PORTS[name][1]
    if name == "reset":
        return ResetSignal(1, active=1, isasync=False)
    if width == 1:
        return Signal(bool(0))
    if name == "y":
        return Signal(modbv(0, min=-512, max=512))
    return Signal(intbv(0)[width:]) if width > 0 else Signal(intbv(0, min=-(2 ** (-width - 1)), max=2 ** (-width - 1)))


def build():
    return design(*(signal(name) for name in PORTS))


def cases(count=60):
    """Inputs (reset, word, write, signed_bus) per cycle; the first fill the whole memory."""
    draw = random.Random(7)
    rows = [(int(i < 2), 0x100 * i + i % 8, 1, i - 10) for i in range(10)]
    return rows + [(0, draw.randrange(2**16), draw.randrange(2), draw.randrange(-128, 128)) for _ in range(count)]


OUTPUTS = [name for name, (way, _) in PORTS.items() if way == "out"]


@pytest.fixture(scope="module")
def expected():
    """The output values after each cycle of the MyHDL simulation, as unsigned numbers."""
    ports = {name: signal(name) for name in PORTS}
    seen = []

    @block
    def bench():
        dut = design(*ports.values())

        @instance
        def drive():
            for reset, word, write, signed_bus in cases():
                ports["reset"].next = reset
                ports["word"].next = word
                ports["write"].next = write
                ports["signed_bus"].next = signed_bus
                yield delay(5)
                ports["clk"].next = 1
                yield delay(5)
                seen.append([int(ports[name]) % 2 ** abs(PORTS[name][1]) for name in OUTPUTS])
                ports["clk"].next = 0
            raise StopSimulation

        return dut, drive

    bench().run_sim(quiet=1)
    return seen


def verilog_bench(expected):
    """A self-checking testbench: it prints PASS, or the first wrong value."""
    lines = ["module bench;", "integer bad = 0;"]
    for name, (way, width) in PORTS.items():
        lines.append(f"{'reg' if way == 'in' else 'wire'} [{abs(width) - 1}:0] {name};")
    lines.append(f"top dut({', '.join(PORTS)});\ninitial begin clk = 0;")
    for number, (inputs, outputs) in enumerate(zip(cases(), expected, strict=True)):
        reset, word, write, signed_bus = inputs
        lines.append(f"reset = {reset}; word = {word}; write = {write}; signed_bus = {signed_bus}; #5 clk = 1; #5;")
        if number >= 10:
            for name, value in zip(OUTPUTS, outputs, strict=True):
                lines.append(f'if ({name} !== {value}) begin $display("{number} {name} %d", {name}); bad = 1; end')
        lines.append("clk = 0;")
    lines.append('if (!bad) $display("PASS");\nend\nendmodule')
    return "\n".join(lines)


def vhdl_bench(expected):
    """The same in VHDL; a wrong value ends the simulation."""
    lines = ["library ieee; use ieee.std_logic_1164.all; use ieee.numeric_std.all;"]
    lines.append("entity bench is end entity;\narchitecture test of bench is")
    for name, (_, width) in PORTS.items():
        kind = "std_logic := '0'" if width == 1 else f"{'un' * (width > 0)}signed({abs(width) - 1} downto 0)"
        lines.append(f"signal {name}: {kind};")
    lines.append(f"begin\ndut: entity work.top port map ({', '.join(PORTS)});\nprocess begin")
    for number, (inputs, outputs) in enumerate(zip(cases(), expected, strict=True)):
        reset, word, write, signed_bus = inputs
        lines.append(f"reset <= '{reset}'; word <= to_unsigned({word}, 16); write <= '{write}';")
        lines.append(f"signed_bus <= to_signed({signed_bus}, 8); wait for 5 ns; clk <= '1'; wait for 5 ns;")
        if number >= 10:
            for name, value in zip(OUTPUTS, outputs, strict=True):
                bits = f"{value:0{abs(PORTS[name][1])}b}"
                lines.append(f'assert std_logic_vector({name}) = "{bits}" report "{number} {name}" severity failure;')
        lines.append("clk <= '0';")
    lines.append('report "PASS"; wait;\nend process;\nend architecture;')
    return "\n".join(lines)


def run(*command, cwd):
    result = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def test_modules_are_shared_and_come_children_first(tmp_path):
    names = [file.name for file in export(build, "top", tmp_path, "verilog")]
    assert names == [
        "accumulator.v", "lane.v", "accumulator_1.v", "lane_1.v", "accumulator_2.v", "lane_2.v", "storage.v",
        "nibbles.v", "register_block.v", "top.v",
    ]  # fmt: skip
    text = (tmp_path / "top.v").read_text()
    assert text.count("lane lane") == 2
    assert export(build, "top", tmp_path, "vhdl")[0].name == "pck_myhdl_011.vhd"


def test_a_source_is_read_once(tmp_path, monkeypatch):
    """However many instances have its processes, in however many exports."""
    asked: Counter[Any] = Counter()
    actual = inspect.getsourcelines

    def counted(item):
        asked[item] += 1
        return actual(item)

    monkeypatch.setattr(inspect, "getsourcelines", counted)
    for language in ("verilog", "vhdl"):
        export(build, "top", tmp_path, language)
    assert not [item for item, times in asked.items() if times > 1 or not inspect.iscode(item)]


def test_equal_code_of_two_files_has_two_sources(tmp_path):
    texts = []
    for name in ("one", "other"):
        text = f"def value():\n    return 1  # {name}\n"
        names: dict[str, Any] = {}
        (tmp_path / name).write_text(text)
        exec(compile(text, str(tmp_path / name), "exec"), names)
        texts.append((myhdl._util.inspect.getsource(names["value"]), text))
    assert all(got == text for got, text in texts)


def test_verilog_in_icarus_equals_myhdl(tmp_path, expected):
    icarus = require_tool("iverilog")
    files = export(build, "top", tmp_path, "verilog")
    (tmp_path / "bench.v").write_text(verilog_bench(expected))
    run(icarus, "-g2005", "-o", "bench", *map(str, files), "bench.v", cwd=tmp_path)
    assert run(require_tool("vvp"), "bench", cwd=tmp_path).strip() == "PASS"


def test_vhdl_in_ghdl_equals_myhdl(tmp_path, expected):
    ghdl = require_tool("ghdl")
    files = export(build, "top", tmp_path, "vhdl")
    (tmp_path / "bench.vhd").write_text(vhdl_bench(expected))
    run(ghdl, "-a", "--std=08", *map(str, files), "bench.vhd", cwd=tmp_path)
    run(ghdl, "-e", "--std=08", "bench", cwd=tmp_path)
    assert "PASS" in run(ghdl, "-r", "--std=08", "bench", "--ieee-asserts=disable-at-0", cwd=tmp_path)


def test_lint(tmp_path, lint):
    lint(export(build, "top", tmp_path, "verilog"), "top")


@pytest.mark.parametrize("language", ["verilog", "vhdl"])
def test_two_exports_are_equal_whatever_the_hash_seed(tmp_path, language):
    def read(files):
        return [(file.name, file.read_bytes()) for file in files]

    first = read(export(build, "top", tmp_path / "first", language))
    assert read(export(build, "top", tmp_path / "second", language)) == first
    code = (
        f"import sys; from pathlib import Path; from {__name__} import build, export;"
        f"export(build, 'top', Path(sys.argv[1]), '{language}')"
    )
    path = os.pathsep.join([str(Path(__file__).parents[3]), *sys.path])
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "third")], check=True, env=environment)
    assert read(tmp_path / "third" / name for name, _ in first) == first


@block
def mixture(clk, x, y, z):
    """A list driven by a block and by a process."""
    values = [Signal(intbv(0)[8:]) for _ in range(2)]
    child = register(clk, x, values[0])

    @always(clk.posedge)
    def other():
        values[1].next = x
        y.next = values[0]
        z.next = values[1]

    return child, other


@block
def keyword(clk, reg):
    """A port with a name of Verilog."""

    @always(clk.posedge)
    def take():
        reg.next = 1

    return take


def byte():
    return Signal(intbv(0)[8:])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: mixture(Signal(bool(0)), byte(), byte(), byte()), "driven by processes and by blocks"),
        (lambda: keyword(Signal(bool(0)), Signal(bool(0))), "port 'reg' is a keyword"),
        (lambda: register(Signal(bool(0)), byte(), byte()(4, 0)), "cannot be tied to a slice"),
        (lambda: register(Signal(bool(0)), [byte()], byte()), "parameter d.*a block takes Signals"),
    ],
)
def test_what_cannot_be_exported_is_refused(tmp_path, make, text):
    with pytest.raises(ExportError, match=text):
        export(make, "top", tmp_path, "verilog")


@dataclasses.dataclass(frozen=True)
class Word:
    """A byte with its flag."""

    valid: Any = flag()
    data: Any = bits()
    tag: Any = None


@dataclasses.dataclass(frozen=True)
class Link:
    """Words both ways, and what they wait for."""

    out: Word
    back: Word
    steps: tuple[Any, ...] = ()


@dataclasses.dataclass
class Loose:
    """A dataclass that can change."""

    valid: Any
    data: Any


@block
def shift_up(clk, taken, given):
    """given is twice taken, a cycle later."""

    @always(clk.posedge)
    def step():
        given.valid.next = taken.valid
        given.data.next = taken.data << 1

    return step


@block
@prefixed(link="")
def linked(clk, link, size):
    """Doubles link.out twice on its way back; steps[0] shows the first doubling, steps[1].valid the second's flag."""
    between = fresh(Word, data=size.width)
    first_step, second_flag = link.steps[0], link.steps[1].valid
    first = shift_up(clk, link.out, between)
    second = shift_up(clk, between, link.back)

    @always_comb
    def show():
        first_step.next = between.data
        second_flag.next = link.back.valid

    return first, second, show


LINK = {"clk": 1, "out_valid": 1, "out_data": 8, "back_valid": 1, "back_data": 8, "steps_0": 8, "steps_1_valid": 1}


def link_signals():
    return {name: Signal(bool(0)) if width == 1 else Signal(intbv(0)[width:]) for name, width in LINK.items()}


def link_of(ports):
    out, back = (gathered(Word, ports, prefix) for prefix in ("out_", "back_"))
    return Link(out, back, (ports["steps_0"], Word(ports["steps_1_valid"], None)))


def build_link():
    ports = link_signals()
    return linked(ports["clk"], link_of(ports), Size(8))


def link_cases():
    """Inputs (valid, data) a cycle, and what is to be seen two cycles later: (valid, data)."""
    draw = random.Random(3)
    return [(draw.randrange(2), draw.randrange(32)) for _ in range(20)]


def test_bundles_are_ports_of_their_fields_names(tmp_path):
    modules: dict[str, Module] = {}
    files = export(build_link, "top", tmp_path, "verilog", modules)
    assert [file.name for file in files] == ["shift_up.v", "top.v"]  # one module for both: bundles of equal types
    assert modules["top"].inputs == ["clk", "out_valid", "out_data"]
    assert sorted(modules["top"].outputs) == sorted(set(LINK) - {"clk", "out_valid", "out_data"})
    text = (tmp_path / "top.v").read_text()
    assert re.findall(r"^ +(\w+),?$", text.split(");")[0], re.MULTILINE) == list(LINK)
    assert "wire [7:0] between_data;" in text and ".given_data(between_data)" in text
    assert modules["shift_up"].inputs == ["clk", "taken_valid", "taken_data"]


def test_bundles_in_myhdl_and_of_a_module_alone(tmp_path):
    modules: dict[str, Module] = {}
    export(build_link, "top", tmp_path, "verilog", modules)
    with forgotten():
        ports = link_signals()
        for made, signals in ((linked(ports["clk"], link_of(ports), Size(8)), ports), modules["top"].build()):
            bench = Bench(made, signals["clk"])
            seen = []
            for valid, data in link_cases():
                signals["out_valid"].next, signals["out_data"].next = valid, data
                bench.step()
                seen.append([int(signals[name]) for name in ("steps_0", "back_valid", "back_data", "steps_1_valid")])
            bench.close()
            given = link_cases()
            assert [step for step, *_ in seen] == [2 * data for _, data in given]
            assert [rest for _, *rest in seen[1:]] == [[valid, 4 * data, valid] for valid, data in given[:-1]]


def test_bundles_in_verilog(tmp_path):
    files = export(build_link, "top", tmp_path, "verilog")
    lines = [f"{'reg' if i < 3 else 'wire'} [{width - 1}:0] {name};" for i, (name, width) in enumerate(LINK.items())]
    pins = ", ".join(f".{name}({name})" for name in LINK)
    steps = [f"out_valid = {v}; out_data = {d}; #1 clk = 1; #1 clk = 0;" for v, d in link_cases()]
    shows = '$display("%0d %0d %0d", steps_0, back_valid, back_data);'
    text = "\n".join([*lines, f"top dut({pins});", "initial begin clk = 0;", *(step + shows for step in steps), "end"])
    (tmp_path / "bench.v").write_text(f"module bench;\n{text}\nendmodule\n")
    run(require_tool("iverilog"), "-g2005", "-o", "bench", *map(str, files), "bench.v", cwd=tmp_path)
    seen = [
        [int(word) for word in line.split()]
        for line in run(require_tool("vvp"), "bench", cwd=tmp_path).split("\n")[1:-1]
    ]
    given = link_cases()
    assert seen == [[2 * now[1], before[0], 4 * before[1]] for before, now in pairwise(given)]


def test_bundles_are_legal_in_both_languages(tmp_path, lint):
    lint(export(build_link, "top", tmp_path, "verilog"), "top")
    files = export(build_link, "top", tmp_path, "vhdl")
    ghdl = require_tool("ghdl")
    run(ghdl, "-a", "--std=08", *map(str, files), cwd=tmp_path)
    run(ghdl, "-e", "--std=08", "top", cwd=tmp_path)


@block
@prefixed(taken="", given="")
def alike(clk, taken, given):
    """Two bundles whose ports have the same names."""
    return shift_up(clk, taken, given)


@block
def hidden(clk, taken, given):
    """A signal of its own that is called like a port."""
    taken_data = Signal(intbv(0)[8:])

    @always(clk.posedge)
    def step():
        taken_data.next = taken.data
        given.data.next = taken_data

    return step


@dataclasses.dataclass(frozen=True)
class Reserved:
    """A field that MyHDL reads as an attribute of a Signal."""

    next: Any


def word(data=None):
    return Word(Signal(bool(0)), byte() if data is None else data)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: shift_up(Signal(bool(0)), Loose(Signal(bool(0)), byte()), word()),
            "^shift_up: parameter taken is a Loose, which can change; a bundle of Signals is a frozen dataclass$",
        ),
        (
            lambda: shift_up(Signal(bool(0)), word(8), word()),
            "^shift_up: parameter taken.data is a int; a bundle holds Signals, bundles, or None for a port that is "
            "not there$",
        ),
        (
            lambda: shift_up(Signal(bool(0)), Link(word(), word([byte()])), word()),
            r"^shift_up: parameter taken.back.data is a list; a bundle holds",
        ),
        (lambda: shift_up(Signal(bool(0)), Reserved(byte()), word()), "'next' means something else in a process"),
        (lambda: alike(Signal(bool(0)), word(), word()), "alike: two ports are called 'valid'"),
        (lambda: hidden(Signal(bool(0)), word(), word()), "hidden: port taken_data has the name of another signal"),
        (lambda: linked(Signal(bool(0)), word(), Loose(1, 2)), "linked: parameter size is a Loose; a block takes"),
    ],
)  # fmt: skip
def test_bundles_that_cannot_be_ports_are_refused(tmp_path, make, text):
    with pytest.raises(ExportError, match=text):
        export(make, "top", tmp_path, "verilog")


def test_missing_tool_skips_here_and_fails_in_ci(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-tool is not installed"):
        require_tool("no-such-tool")
    monkeypatch.setenv("CI", "1")
    with pytest.raises(pytest.fail.Exception, match="no-such-tool is not installed"):
        require_tool("no-such-tool")
