"""testbench/: one self-checking bench in SystemVerilog, VHDL and cocotb, and a Makefile."""

from __future__ import annotations

from pathlib import Path

from flow.hardware.interface import ADDRESS_BITS
from flow.hardware.synthesis import memory_bits
from flow.output.handoff.whole import PER_LAYER, TEMPLATES, WHOLE, Handoff, layer_folders, layer_words
from flow.simulation.engines.base import RESET_EDGES
from flow.simulation.engines.testbench import axi_testbench, bus_bytes, verilog_testbench, vhdl_testbench


def write_testbenches(folder: Path, handoff: Handoff) -> None:
    """testbench/: one self-checking bench for all layers in SystemVerilog, VHDL and cocotb, and a Makefile.

    Behind AXI there is another in SystemVerilog, with host and memory.

    The whole network on chip, or each of its segments, counts as one more layer, if it was simulated: else there is
    nothing to expect of it.
    """
    built, run = handoff.device, handoff.run
    place = folder / "testbench"
    place.mkdir()
    layers = layer_folders(handoff.program)
    quickest = layers[min(range(len(layers)), key=lambda i: run.layers[i].cycles)]
    most = handoff.most_words
    top = built.name
    (place / f"tb_{top}.sv").write_text(verilog_testbench(top, built.ports, most, [PER_LAYER]))
    (place / f"tb_{top}.vhd").write_text(vhdl_testbench(top, built.ports, most, [PER_LAYER]))
    wrapper, config = handoff.wrapper, handoff.program.config
    each = [layer_words(handoff.program, scheduled) for scheduled in handoff.program.layers]
    each += [handoff.whole.words] if handoff.whole else []
    room = max(bus_bytes(config, wrapper.axi, words) for words in each)
    behind = axi_testbench(wrapper.name, config, wrapper.axi, room, [PER_LAYER])
    (place / f"tb_{wrapper.name}.sv").write_text(behind)
    values = {
        "top": top,
        "axi_top": wrapper.name,
        "axi_verilog": [f"../verilog/{path.name}" for path in wrapper.files],
        "layers": [*layers, *(handoff.whole.layers if handoff.whole else [])],
        "whole": WHOLE,
        "quickest": quickest,
        "verilog": [f"../verilog/{path.name}" for path in built.files],
        "macros": [f"../verilog/{path.name}" for path in wrapper.files if memory_bits(path.read_text())],
        "vhdl": [f"../vhdl/{path.name}" for path in built.vhdl_files],
        "ports": built.ports,
        "per_layer": PER_LAYER,
        "address_bits": ADDRESS_BITS,
        "reset_edges": RESET_EDGES,
    }
    (place / "Makefile").write_text(TEMPLATES.get_template("Makefile.j2").render(values))
    (place / f"test_{top}.py").write_text(TEMPLATES.get_template("test_cocotb.py.j2").render(values))
