"""Flipped gates: which gates there are of a netlist, and when two netlists are equivalent."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import flipped
from flow.hardware.synthesis import YOSYS, tool
from tests.helpers.tools import require_tool

NETLIST = """module top(clk, a, b, \\c.d , y);
  input clk, a, b;
  input [3:0] \\c.d ;
  output y;
  reg y;
  wire _0_, _1_, _2_, _3_, _4_, _5_;
  assign _0_ = a & \\c.d [2];
  assign _1_ = a | \\c.d [2];
  assign _2_ = \\c.d [1] ^ _1_;
  assign _3_ = ~_2_;
  assign _4_ = \\c.d [0] ? a : \\c.d [3];
  assign _5_ = _3_ & _4_;
  assign { \\c.e , _6_ } = { a, 1'h0 };
  kept kept0 (.clk(clk), .d(_5_), .q(_7_));
  always @(posedge clk)
    y <= _8_;
  assign _8_ = _0_ | _9_;
  assign _9_ = _7_ | _1_;
endmodule
"""
KEPT = "module kept(input clk, d, output reg q); always @(posedge clk) q <= d; endmodule\n"


def test_every_gate_becomes_another() -> None:
    found = {each.net: " ".join(each.text.split(" = ")[1].split()) for each in flipped.flips(NETLIST)}
    assert found == {
        "_0_": "a | \\c.d [2];",
        "_1_": "a & \\c.d [2];",
        "_2_": "\\c.d [1] ~^ _1_;",
        "_3_": "_2_;",
        "_4_": "\\c.d [0] ? \\c.d [3] : a;",
        "_5_": "_3_ | _4_;",
        "_8_": "_0_ & _9_;",
        "_9_": "_7_ & _1_;",
    }


@pytest.mark.parametrize(
    ("net", "same"), [("_0_", True), ("_1_", False), ("_3_", False), ("_4_", False), ("_5_", False), ("_8_", False)]
)
def test_equivalence_is_decided(net: str, same: bool, tmp_path: Path) -> None:
    """(a and c2) or (q or a or c2) does not depend on its first gate; what goes into a macro alone counts, too."""
    if tool(YOSYS) is None:
        require_tool("yosys")
    (flip,) = (each for each in flipped.flips(NETLIST) if each.net == net)
    lines = NETLIST.splitlines()
    lines[flip.line] = flip.text
    own, other, macro = tmp_path / "own.v", tmp_path / "other.v", tmp_path / "kept.v"
    own.write_text(NETLIST)
    other.write_text("\n".join(lines))
    macro.write_text(KEPT)
    assert flipped.equivalent(own, other, [macro]) is same
