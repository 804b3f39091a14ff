"""What is printed of a clock and its path; which blocks are measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.clock import Design, alone, chosen, described, signals, whole
from flow.errors import FlowError
from flow.hardware.axi.bus import AxiConfig
from flow.hardware.config import ArrayConfig
from flow.hardware.synthesis import Hop, Pins, Timing

CONFIG = ArrayConfig(2, 2, map_words=1024)
PATH = (
    Hop(0.5, False, "device.core.code_TRELLIS_FF_Q_3"),
    Hop(0.9, True, "device.core.code[0]"),
    Hop(0.2, False, "device.core.code_LUT4_A"),
    Hop(1.5, True, "device.core.code_LUT4_A_Z[3]"),
    Hop(0.4, False, "device.turn_CCU2C_A0"),
    Hop(0.0, True, "device.turn_CCU2C_A0$CCU2_FCI_INT"),
    Hop(0.3, False, "device.turn_CCU2C_A0_1"),
    Hop(0.7, True, "device.choice[2]"),
    Hop(0.0, False, "device.picked_TRELLIS_FF_Q_12"),
)


def test_a_path_is_told_by_the_designs_own_signals() -> None:
    assert signals(PATH) == ["core.code", "choice", "picked"]
    design = Design("whole", "top", (), Pins("clk", {}, {}))
    said = described(design, Timing(48.03, PATH, {"TRELLIS_COMB": 28830, "DCCA": 1, "DP16KD": 31}))
    assert said.splitlines() == [
        "whole              48.0 MHz  28,830 TRELLIS_COMB, 31 DP16KD",
        "    4.5 ns, of which 3.1 on wires: core.code > choice > picked",
    ]
    assert described(design, Timing(35, (), {})).strip() == "whole              35.0 MHz"


def test_blocks_are_measured_with_all_their_ports(tmp_path: Path) -> None:
    designs = alone(CONFIG, AxiConfig(), tmp_path)
    names = [design.name for design in designs]
    assert len(set(names)) == len(names) and {"fetch", "store", "post", "stream", "axi_requests"} <= set(names)
    assert "pe" not in names and "arbiter" not in names
    store = chosen(designs, ["store"])[0]
    assert store.pins.clock == "clk" and store.pins.inputs["entry"] == 104 and store.pins.outputs["write_mask"] == 8
    assert chosen(designs, ["all"]) == designs
    with pytest.raises(FlowError, match="no block 'sore'; give --block all, or one of .*, store, "):
        chosen(designs, ["sore"])
    top = whole(CONFIG, AxiConfig(), tmp_path)
    assert top.pins.clock == "aclk" and top.pins.outputs["m_axi_araddr"] == 32 and top.pins.inputs["aresetn"] == 1
