"""Offsets in loops are constants in the Verilog, where they can be, and nothing else changes."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from myhdl import Signal, Simulation, always_comb, instance, intbv
from myhdl import delay as wait

from flow.hardware.conversion.hierarchy import block, export, forgotten
from tests.helpers.tools import require_tool


@block
def shuffled(data, turn, mixed, bytewise, late, swapped):
    """Loops within loops, names in two loops, an offset that is read elsewhere, and offsets that are no constants."""

    @always_comb
    def nested():
        for k in range(4):
            for j in range(2):
                low = 4 * j + 4
                at = 32 * j + 8 * k
                mixed.next[at + 8 : at] = data[low + 8 : low]

    @always_comb
    def twice():
        for k in range(2):
            low = 4 * k
            bytewise.next[low + 4 : low] = turn
        for k in range(2):
            low = 4 * k + 8
            if low >= turn:
                bytewise.next[low + 4 : low] = data[low + 4 : low]
            else:
                bytewise.next[low + 4 : low] = 0

    @always_comb
    def carried():
        low = 0
        for k in range(3):
            late.next[low + 4 : low] = data[low + 4 : low]
            low = 4 * k + 4

    @always_comb
    def chosen():
        for k in range(4):
            at = 4 * k
            low = 4 * k
            if turn == k:
                low = 12
            opposite = 12 - low
            swapped.next[at + 4 : at] = data[low + 4 : low] ^ data[opposite + 4 : opposite]

    return nested, twice, carried, chosen


def signals() -> tuple[Signal, ...]:
    return tuple(Signal(intbv(0)[bits:]) for bits in (16, 4, 64, 16, 12, 16))


def verilog(folder: Path) -> str:
    with forgotten():
        (file,) = export(lambda: shuffled(*signals()), "shuffled", folder, "verilog")
    return file.read_text()


@pytest.mark.parametrize(
    ("process", "offsets", "integers"),
    [
        ("nested", {"(4 * j) + 4", "(32 * j) + (8 * k)"}, {"k", "j"}),
        ("twice", {"4 * k", "(4 * k) + 8"}, {"k", "low"}),  # low is compared, too
        ("carried", {"low"}, {"k", "low"}),  # each round reads what the one before left
        ("chosen", {"4 * k", "low", "opposite"}, {"k", "low", "opposite"}),  # by what is known at run time only
    ],
)
def test_offsets_are_written_out(process: str, offsets: set[str], integers: set[str], tmp_path: Path) -> None:
    text = re.split(rf"begin: {process}\b", verilog(tmp_path))[1].split("\nend")[0]
    assert set(re.findall(r"\[([^\[\]]+) \+:", text)) == offsets
    assert set(re.findall(r"integer (\w+);", text)) == integers


def test_the_values_are_the_same(tmp_path: Path) -> None:
    """MyHDL runs the variables, Icarus what was written out."""
    require_tool("iverilog")
    data, turn, mixed, bytewise, late, swapped = given = signals()
    cases = [(value, number) for value in (0x0000, 0xBEEF, 0x1234, 0xFFFF) for number in (0, 2, 9, 15)]
    expected = []

    @instance
    def stimulus():
        for data.next, turn.next in cases:
            yield wait(10)
            expected.append(f"{int(mixed):016x} {int(bytewise):04x} {int(late):03x} {int(swapped):04x}")

    with forgotten():
        Simulation(shuffled(*given), stimulus).run(quiet=1)
    show = '#10 $display("%h %h %h %h", mixed, bytewise, late, swapped);'
    steps = " ".join(f"data = {value}; turn = {number}; {show}" for value, number in cases)
    (tmp_path / "bench.v").write_text(
        "module bench; reg [15:0] data; reg [3:0] turn; wire [63:0] mixed; wire [15:0] bytewise, swapped;\n"
        "wire [11:0] late; shuffled device(data, turn, mixed, bytewise, late, swapped);\n"
        f"initial begin {steps} end\nendmodule\n"
        f"{verilog(tmp_path)}"
    )
    subprocess.run(["iverilog", "-g2005-sv", "-o", "bench", "bench.v"], cwd=tmp_path, check=True)
    done = subprocess.run(["vvp", "-n", "bench"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout.split("\n")[:-1] == expected
