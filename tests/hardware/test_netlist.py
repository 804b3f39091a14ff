"""What Yosys makes of the Verilog: no complaint, one clock, no latch, the memories of the page and no other."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flow.hardware import synthesis
from flow.hardware.axi.bus import AxiConfig
from flow.hardware.config import PE_KINDS, ArrayConfig, memory_ports
from flow.hardware.emit import emit, emit_wrapped
from tests.helpers.tools import require_tool

PAGE = Path(__file__).parents[2] / "docs" / "hardware.md"
SMALL: dict[str, Any] = {"weight_depth": 8, "metadata_depth": 4, "activation_depth": 16}
CONFIGS = {kind: ArrayConfig(2, 3, kind, **SMALL, drain=2) for kind in PE_KINDS}
CONFIGS["pairs"] = replace(CONFIGS["pairs"], columns_per_cycle=2)
CONFIGS["maps"] = CONFIGS["bitvert"].with_maps(24, True, True, True)
CLOCKED = re.compile(r"\$s?dffc?e?")  # flip-flops with an enable, a synchronous reset, or neither
STORING = re.compile(r"\$(.*dff|.*latch|sr|ff).*")


def elaborated(files: Sequence[Path], top: str, folder: Path) -> dict[str, dict[str, Any]]:
    """The cells of the flat design, after a check that finds nothing; AssertionError if it does."""
    if synthesis.tool(synthesis.YOSYS) is None:
        require_tool("yosys")
    texts = "\n".join(file.read_text() for file in files)
    (folder / "all.v").write_text(texts)
    script = (
        f"read_verilog -nomem2reg all.v; hierarchy -check -top {top}; proc; flatten; opt; check -assert; "
        "memory_collect; write_json netlist.json"
    )
    done = subprocess.run(
        [synthesis.yosys(), "-q", "-p", script], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, dict[str, Any]] = json.loads((folder / "netlist.json").read_text())["modules"][top]
    return found


def parameter(cell: dict[str, Any], name: str) -> int:
    return int(cell["parameters"][name], 2)


def stated(config: ArrayConfig, axi: AxiConfig | None = None) -> Counter[tuple[int, int]]:
    """(width, words) of the memories in the page's table, with `axi` those behind AXI, too."""
    names = ("rows", "columns", "step", "lanes", "weight_depth", "metadata_depth", "activation_depth", "map_words")
    more = ("tables", "normalizer", "columns_per_cycle", "descriptor_bits")
    scope: dict[str, Any] = {name: getattr(config, name) for name in (*names, *more)}
    page = PAGE.read_text()
    rows = _rows(page.split("### Memories\n")[1].split("\n##")[0])
    assert len(rows) == 12
    if axi:
        scope |= {"burst": axi.burst, "beats": axi.beats(memory_ports(config)[-1])}
        rows += _rows(page.split("| memory behind AXI | width | words | how many |\n")[1].split("\n### ")[0])
        assert len(rows) == 23
    found: Counter[tuple[int, int]] = Counter()
    for _, width, words, count in rows:
        found[eval(width, {}, scope), eval(words, {}, scope)] += eval(count, {}, scope)
    return found


def _rows(section: str) -> list[list[str]]:
    lines = [line for line in section.splitlines() if line.startswith("| ") and " | width | " not in line]
    return [line.strip("| ").split(" | ") for line in lines]


@pytest.mark.parametrize("name", CONFIGS)
def test_the_netlist_is_sound(name: str, tmp_path: Path) -> None:
    device = emit(CONFIGS[name], tmp_path)
    check(stated(CONFIGS[name]), elaborated(device.files, device.name, tmp_path), "clk")


def test_the_netlist_behind_axi_is_sound(tmp_path: Path) -> None:
    _, wrapper = emit_wrapped(CONFIGS["bitvert"], AxiConfig(), tmp_path)
    module = elaborated(wrapper.files, wrapper.name, tmp_path)
    check(stated(CONFIGS["bitvert"], wrapper.axi), module, "aclk")


def check(memories_stated: Counter[tuple[int, int]], module: dict[str, Any], clock_port: str) -> None:
    """One clock, no latch, no asynchronous reset, the memories that are stated."""
    (clock,) = module["ports"][clock_port]["bits"]
    cells = module["cells"].values()
    stores = [cell for cell in cells if STORING.fullmatch(cell["type"])]
    assert len(stores) > 100
    for cell in stores:
        assert CLOCKED.fullmatch(cell["type"]), cell["type"]
        assert cell["connections"]["CLK"] == [clock] and parameter(cell, "CLK_POLARITY") == 1
    memories = [cell for cell in cells if cell["type"].startswith("$mem")]
    for cell in memories:
        ports = parameter(cell, "WR_PORTS")
        assert cell["connections"]["WR_CLK"] == [clock] * ports or not parameter(cell, "WR_CLK_ENABLE")
    found = Counter((parameter(cell, "WIDTH"), parameter(cell, "SIZE")) for cell in memories)
    assert found and not found - memories_stated, found - memories_stated


def test_a_latch_is_found(tmp_path: Path) -> None:
    """So that the test above can fail."""
    design = tmp_path / "kept.v"
    design.write_text(
        "module kept(input clk, d, e, output reg q, r);\n"
        "always @* if (e) q = d;\nalways @(posedge clk or posedge e) if (e) r <= 0; else r <= d;\nendmodule\n"
    )
    cells = elaborated([design], "kept", tmp_path)["cells"].values()
    wrong = [cell["type"] for cell in cells if STORING.fullmatch(cell["type"]) and not CLOCKED.fullmatch(cell["type"])]
    assert sorted(wrong) == ["$adff", "$dlatch"]


def test_a_wire_of_two_drivers_is_found(tmp_path: Path) -> None:
    design = tmp_path / "fight.v"
    design.write_text("module fight(input a, b, output c);\nassign c = a;\nassign c = b;\nendmodule\n")
    with pytest.raises(AssertionError, match="check"):
        elaborated([design], "fight", tmp_path)
