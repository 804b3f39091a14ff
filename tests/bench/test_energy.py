"""Energy at gate level: a circuit that can be counted by hand, a second count of its toggles, real operands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench import gates
from bench.energy import DIGITS, PICO, Measured, Operands, Options, gating_gain, idle_share, measure, operands, ratios
from bench.operands import BITVERT, DENSE, Driven
from bench.paper.workloads import source
from flow.errors import FlowError
from flow.hardware.config import ArrayConfig
from flow.hardware.synthesis import OSU018
from tests.helpers.tools import require_tool

PERIOD = 1e-8


@pytest.fixture(scope="module")
def cells() -> gates.Library:
    for name in ("yosys", "iverilog"):
        require_tool(name)
    if not OSU018.is_file():
        require_tool("the liberty file of Debian's qflow-tech-osu018")
    return gates.library()


@pytest.fixture(scope="module")
def chain(cells: gates.Library, tmp_path_factory: pytest.TempPathFactory) -> gates.Netlist:
    """Four flip-flops one after the other: no other cell."""
    folder = tmp_path_factory.mktemp("chain")
    (folder / "chain.v").write_text(
        "module chain(input clk, input d, output [3:0] result); reg [3:0] q; assign result = q;\n"
        "always @(posedge clk) q <= {q[2:0], d};\nendmodule\n"
    )
    made = gates.netlist([folder / "chain.v"], "chain", cells, folder)
    assert [each.cell for each in made.instances] == ["DFFPOSX1"] * 4
    return made


def test_a_chain_of_registers_takes_what_its_library_says(chain: gates.Netlist) -> None:
    """The numbers are the library's, copied by hand: farads of the pins, joules at 60 ps, watts."""
    data = [{"d": number % 2} for number in range(16)]
    activity = gates.simulate(chain, {"d": 1}, data, range(8, 16))
    # d, q0, q1 and q2 each drive a D pin; every one of them and q3 rises and falls four times in eight cycles
    d_pin, clk_pin, low, high = 0.00882947, 0.0279235, 0.005, 0.0125
    swing = 1.8**2 / 2
    clock = 8 * 4 * (2 * swing * clk_pin + 0.006865 + 0.11034)
    nets = 4 * 8 * swing * d_pin
    inputs = 4 * 4 * (0.045424 + 0.08841)
    between = (d_pin - low) / (high - low)
    loaded = (0.040752 + between * (0.041217 - 0.040752)) + (0.064773 + between * (0.063395 - 0.064773))
    outputs = 4 * (3 * loaded + 0.040752 + 0.064773)
    found = gates.energy(chain, activity, PERIOD, slew=0.06e-9)
    assert found.clock * PICO == pytest.approx(clock)
    assert (found.load + found.internal) * PICO == pytest.approx(clock + nets + inputs + outputs)
    assert found.leakage == pytest.approx(4 * 0.160725e-9 * PERIOD * 8)


def test_a_chain_at_rest_takes_its_clock_alone(chain: gates.Netlist) -> None:
    found = gates.energy(chain, gates.simulate(chain, {"d": 1}, [{"d": 1}] * 16, range(8, 16)), PERIOD)
    assert found.load + found.internal == pytest.approx(found.clock) and found.clock > 0


def test_wires_add_to_every_pin(chain: gates.Netlist, cells: gates.Library, tmp_path: Path) -> None:
    wired = gates.netlist([chain.verilog.parent / "chain.v"], "chain", cells, tmp_path, wire=1e-15)
    added = sorted(load - bare for load, bare in zip(wired.loads.values(), chain.loads.values(), strict=True))
    assert added == pytest.approx([1e-15] * 4 + [4e-15])


def test_toggles_are_counted_twice(chain: gates.Netlist, monkeypatch: pytest.MonkeyPatch) -> None:
    """The testbench's monitor does not take a count of the VCD that misses some."""
    monkeypatch.setattr(gates, "EDGES", {"01": gates.RISE})
    with pytest.raises(AssertionError, match="monitor"):
        gates.simulate(chain, {"d": 1}, [{"d": number % 2} for number in range(16)], range(8, 16))


@pytest.fixture(scope="module")
def layer() -> Operands:
    """Of the digits that ship, the layer of the shortest sums."""
    return min(operands(source(DIGITS)), key=lambda each: each.layer.reduction)


def test_pruned_columns_save_energy(cells: gates.Library, layer: Operands) -> None:
    """Every sum of the gates is compared with the exact one."""
    n0, n4 = measure(BITVERT, [layer], cells, Options(outputs=3), (0, 4))
    steps = -(-layer.layer.reduction // 16)
    assert (n0.cycles_per_mac, n4.cycles_per_mac) == pytest.approx(
        [bits * steps / layer.layer.reduction for bits in (8, 4)]
    )
    assert n4.per_mac < n0.per_mac
    assert n0.cycle.total > n0.cycle.clock > 0


def test_wrong_operands_are_noticed(cells: gates.Library, layer: Operands) -> None:
    wrong = replace(DENSE, drive=lambda weights, x: [cycle | {"negative": 0} for cycle in DENSE.drive(weights, x)])
    assert isinstance(wrong, Driven)
    with pytest.raises(AssertionError, match="stripes_8"):
        measure(wrong, [layer], cells, Options(outputs=6), (0,))


def test_idle_elements(layer: Operands) -> None:
    """Ten windows on four rows leave two of twelve idle, six channels on four columns two of eight."""
    shape = replace(layer.layer, output_shape=(6, 2, 5), weights=layer.layer.weights[:6])
    assert idle_share([shape], ArrayConfig(4, 4)) == pytest.approx(1 - 10 / 12 * 6 / 8)
    assert gating_gain(0.25, gates.Energy(2, 1, 1, 2)) == pytest.approx(0.25 * 2 / (0.25 * 2 + 0.75 * 4))


def test_ratios_stand_beside_the_published() -> None:
    found = {
        (name, 0): Measured(name, 0, gates.Energy(joules, 0, 0, 0), 1.0)
        for name, joules in (("stripes_8", 2.0), ("bitvert", 3.0), ("pairs_1", 4.0))
    }
    assert [ratios(found, each) for each in found.values()] == [("1.00", "1.00"), ("1.50", "1.22"), ("2.00", "")]
    del found["stripes_8", 0]
    assert ratios(found, found["bitvert", 0]) == ("", "1.22")


def test_libraries_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "own.lib"
    file.write_text("cell (INV) { area : 1; }")
    with pytest.raises(FlowError, match="is no Liberty file"):
        gates.library(file)
    file.write_text('library (own) { time_unit : "1ns"; voltage_unit : "1 parsec"; }')
    with pytest.raises(FlowError, match="lacks what energy needs"):
        gates.library(file)
    if OSU018.is_file():
        file.write_text(OSU018.read_text())
        with pytest.raises(FlowError, match=r"there is no '.*own\.v'"):
            gates.library(file)
