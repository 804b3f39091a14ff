"""`make gate`: the hand-over's testbench on the netlist, with memories that refuse unknown controls; flipped gates."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest

import flow
from bench.flipped import Flip, Flipped
from flow.hardware.synthesis import memory_bits
from flow.simulation.engines.base import RESET_EDGES
from tests.helpers.nets import Builder
from tests.helpers.tools import quick_engine, require_tool

# A memory model takes an unknown enable for none, and the testbench an unknown request; from reset on there are none.
WATCH = """
`ifndef SYNTHESIS
integer edges = 0;
always @(posedge clk) begin
    edges = edges + 1;
    if (edges > {edges} && {unknown}) begin
        $display("FAIL: %m has an unknown control");
        $fatal(1, "FAIL");
    end
end
`endif
endmodule
"""


def sum_net() -> onnx.ModelProto:
    """Two convolutions of 3x3 maps, and their sum."""
    b = Builder(3)
    x = b.quantized("x", 0.05, 3)
    first = b.quantized(b.node("Relu", b.node("Conv", x, *b.weights((6, 4, 1, 1), 0, 0.05))), 0.05, -20)
    second = b.quantized(b.node("Conv", first, *b.weights((6, 6, 1, 1), 0, 0.05)), 0.08, 2)
    return b.model({"x": ["N", 4, 3, 3]}, b.quantized(b.node("Add", first, second), 0.1, -5), rank=4)


def watched(folder: Path) -> None:
    """In a build, the memories and the accelerator's own ports look at what is not known behind the reset."""
    bench = folder / "testbench"
    top = next(file.stem for file in bench.glob("tb_*.sv") if not file.stem.endswith("_axi"))
    ports = re.findall(r"^wire (?:\[\d+:0\] )?(\w+_(?:en|valid)|busy, done);", (bench / f"{top}.sv").read_text(), re.M)
    asked = ", ".join(f"{top}.{name}" for names in ports for name in names.split(", "))
    count = 0
    for file in sorted((folder / "verilog").glob("*.v")):
        if memory_bits(text := file.read_text()):
            inputs = re.findall(r"^input (?:\[\d+:0\] )?(\w+);", text, re.M)
            enables = [name for name in inputs if name in ("write", "read")]
            places = [name for name in inputs if re.fullmatch(r"write_(addr|line|place)|mask", name)]
            assert enables and places, file.name
            unknown = f"^{{{', '.join(enables)}, write && ^{{{', '.join(places)}}}}} === 1'bx"
            if "ram" in file.stem:
                unknown = f"({unknown} || ^{{{asked}}} === 1'bx)"
            file.write_text(text.replace("endmodule\n", WATCH.format(edges=RESET_EDGES, unknown=unknown)))
            count += 1
    assert count >= 5 and ports


def chosen(gates: list[Flip]) -> list[Flip]:
    """Gates that all work passes."""
    every = [each for each in gates if "multiplier_24" in each.text or "sequencer0" in each.text]
    return [every[place] for place in np.random.default_rng(4).choice(len(every), 3, replace=False)]


@pytest.mark.full
@pytest.mark.parametrize(("array", "on_chip"), [((1, 1), False), ((2, 1), True)])
def test_the_netlist_passes_and_flipped_gates_fail(array: tuple[int, int], on_chip: bool, tmp_path: Path) -> None:
    """Without initial values, from unknown flip-flops and memories, nothing unknown decides anything."""
    for name in ("make", "yosys", "iverilog"):
        require_tool(name)
    onnx.save(sum_net(), str(tmp_path / "net.onnx"))
    report = flow.compile(
        tmp_path / "net.onnx", tmp_path / "out", array=array, engine=quick_engine(), samples=1, on_chip=on_chip
    )
    assert report.passed
    watched(tmp_path / "out")
    bench = Flipped(tmp_path / "out", tmp_path / "copy", chosen)  # every layer passes as it is
    assert ("network" in bench.layers) == on_chip
    assert not re.search(r"\binitial\b|'[bh]\w*x|^ *reg .*=", bench.netlist, re.M)
    assert len(re.findall(r"^ *always @\(posedge clk\)$", bench.netlist, re.M)) > 1000
    assert not re.search(r"^ *if ", bench.netlist, re.M)  # no enable, no reset but by gates
    if not on_chip:  # whose runs take longer
        assert [each.verdict for each in bench.outcomes()] == ["failed"] * 3
