"""The emitted Verilog synthesises whole and as it is, in the time that is stated."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bench import whole
from flow.hardware import blocks, synthesis
from flow.hardware.axi.bus import AxiConfig
from flow.hardware.blocks import CellBlock, Resources, Shortage
from flow.hardware.config import PE_KINDS, ArrayConfig
from flow.hardware.emit import emit, emit_wrapped
from flow.output.report.summary import Area
from tests.helpers.tools import fake, require_tool

PAGE = Path(__file__).parents[2] / "docs" / "hardware.md"
SMALL: dict[str, Any] = {"weight_depth": 8, "metadata_depth": 4, "activation_depth": 16}
SECONDS = 60.0  # on two processors that others use, too; alone the largest takes seven


def elaborate(files: Sequence[Path], top: str) -> None:
    require_tool("yosys")
    names = " ".join(str(file) for file in files)
    script = f"read_verilog -sv {names}; hierarchy -check -top {top}; proc; check -assert"
    done = subprocess.run(["yosys", "-q", "-p", script], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("config", "wrapped"),
    [
        *((ArrayConfig(1, 1, kind, **SMALL), False) for kind in PE_KINDS),
        (ArrayConfig(3, 5, **SMALL), True),
        (ArrayConfig(2, 2, **SMALL).with_maps(64, operands=True), True),
        pytest.param(ArrayConfig(16, 32).with_maps(8192, True, operands=True), True, marks=pytest.mark.full),
    ],
    ids=lambda value: value.name if isinstance(value, ArrayConfig) else "",
)
def test_it_is_elaborated_in_seconds(config: ArrayConfig, wrapped: bool, tmp_path: Path) -> None:
    if wrapped:
        _, wrapper = emit_wrapped(config, AxiConfig(), tmp_path)
        files, top = wrapper.files, wrapper.name
    else:
        device = emit(config, tmp_path)
        files, top = device.files, device.name
    for file in files:
        variable = re.search(r"\[\w+ *[+-]: *\d+\] *<?= ", file.read_text())
        assert not variable, f"{file.name}: {variable}"
    elaborate(files, top)


@pytest.mark.full
def test_it_is_synthesised_in_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With feature maps, whose results are in distributed RAM on their way into them."""
    require_tool("yosys")
    monkeypatch.setenv("BBS_SECONDS", "300")
    config = ArrayConfig(2, 2, **SMALL).with_maps(64)
    device = emit(config, tmp_path)
    found = synthesis.modules(device.files, device.name, f"synth_ecp5 -noflatten -top {device.name}", tmp_path / "kept")
    own = {name.removeprefix(f"{device.name}_"): blocks.resources(module) for name, module in found.items()}
    assert own["pe"].luts > 0 and own["pe"].flip_flops > 0
    assert not own["lane_words"].flip_flops and own["collect"].flip_flops < 200
    parts = blocks.fpga_blocks(device.files, device.name, device.name, "ecp5", tmp_path / "kept")
    there = blocks.in_blocks(device.files, device.name, device.name)
    total = blocks.whole(parts)
    assert total == sum((blocks.resources(found[name]) * count for (_, name), count in there.items()), Resources())
    assert total.luts > parts["elements"].luts > config.elements * own["pe"].luts
    assert set(parts) <= {*blocks.BLOCKS, blocks.REST}, "a block that no name stands for"


ADDERS = "module bits(input clk, input [7:0] a, output reg [7:0] q);\nalways @(posedge clk) q <= q + a;\nendmodule\n"
COUNTER = (
    "module counter(input clk, input [7:0] a, output [7:0] q, r);\n"
    "bits one(clk, a, q);\nbits two(clk, q, r);\nendmodule\n"
)


@pytest.mark.parametrize("family", blocks.FAMILIES)
def test_a_block_is_synthesised_for_every_family(family: str, tmp_path: Path) -> None:
    """A counter: lookup tables or carries, and a flip-flop for each bit."""
    require_tool("yosys")
    (tmp_path / "bits.v").write_text(ADDERS)
    (tmp_path / "counter.v").write_text(COUNTER)
    files = [tmp_path / "bits.v", tmp_path / "counter.v"]
    found = blocks.fpga_blocks(files, "counter", "counter", family, tmp_path / "cache")
    assert list(found) == ["bits", blocks.REST] and found[blocks.REST] == Resources()
    assert found["bits"].flip_flops == 16 and 16 <= found["bits"].luts <= 32


def test_cells_of_blocks_and_their_memories_apart(tmp_path: Path) -> None:
    """A memory is bits and no cells; an array without a clock is logic."""
    require_tool("yosys")
    if not synthesis.OSU018.is_file():
        require_tool("the liberty file of Debian's qflow-tech-osu018")
    texts = {
        "t": "module t(input clk, input [1:0] a, input [7:0] d, output [7:0] q, r);\nwire [7:0] e;\n"
        "t_wires w(d, e);\nt_ram x(clk, a, e, q);\nt_ram y(clk, a, q, r);\nendmodule\n",
        "t_ram": "module t_ram(input clk, input [1:0] a, input [7:0] d, output reg [7:0] q);\n\nreg [7:0] m [0:4-1];\n"
        "always @(posedge clk) begin m[a] <= d; q <= m[a]; end\nendmodule\n",
        "t_wires": "module t_wires(input [7:0] d, output reg [7:0] e);\n\nreg [7:0] m [0:1-1];\n"
        "always @(d) begin m[0] = d; e = ~m[0]; end\nendmodule\n",
    }
    files = [tmp_path / f"{name}.v" for name in texts]
    for file in files:
        file.write_text(texts[file.stem])
    found = blocks.cell_blocks(files, "t", "t", synthesis.library(), tmp_path / "cache")
    assert found["ram"] == CellBlock(0, 2 * 4 * 8) and found[blocks.REST] == CellBlock(0, 0)
    assert found["wires"].area > 0 and found["wires"].memory_bits == 0


STAT = """=== top_pe ===
   Number of cells:                  5
     LUT4                            3
     TRELLIS_FF                      2

=== top_odd_3 ===
   Number of cells:                  2
     LUT4                            2

=== top ===
   Number of cells:                  5
     CCU2C                           1
     DP16KD                          1
     top_pe                          2
     top_odd_3                       1

=== design hierarchy ===
   top                               1
     top_pe                          2
       other                         7

     LUT4                         9999
"""


def test_blocks_count_what_is_below_them_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An element below a block without a name of its own, which is in the top once more; Yosys runs once."""
    (tmp_path / "said").write_text(STAT)
    fake(tmp_path, "yosys", f"echo run >> {tmp_path}/log; cp {tmp_path}/said stat.txt")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    texts = {
        "top": "module top();\ntop_pe a();\ntop_pe b();\ntop_odd_3 c();\nendmodule\n",
        "top_odd_3": "module top_odd_3();\ntop_pe a();\nendmodule\n",
        "top_pe": "module top_pe();\nendmodule\n",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.v").write_text(text)
    files = [tmp_path / f"{name}.v" for name in texts]
    for _ in range(2):
        found = blocks.fpga_blocks(files, "top", "top", "ecp5", tmp_path / "cache")
        assert found == {"elements": Resources(9, 6), "odd": Resources(2), blocks.REST: Resources(2, 0, 1)}
        assert list(found) == ["elements", "odd", blocks.REST]
    runs = [line for line in (tmp_path / "log").read_text().splitlines() if line == "run"]
    assert len(runs) <= 2, "the version, and once the design"


def everywhere(few: Resources) -> whole.Whole:
    cells = {"elements": CellBlock(30, 0), blocks.REST: CellBlock(70, 64)}
    return whole.Whole(cells, {family: {"elements": few, blocks.REST: Resources()} for family in blocks.FAMILIES})


def test_a_device_has_enough_or_too_little() -> None:
    few = everywhere(Resources(5000, 5000, 30, 0))
    assert all(whole.fits(few, device) == "yes" for device in blocks.DEVICES)
    many = everywhere(Resources(5000, 50_000, 31, 9))
    assert whole.fits(many, "iCE40 UP5K") == "no: flip-flops 50,000 of 5,280, memories 31 of 30, multipliers 9 of 8"
    assert whole.fits(many, "Artix-7 100T") == "yes"
    exactly = blocks.DEVICES["ECP5-25"].has
    assert not blocks.shortages(exactly, blocks.DEVICES["ECP5-25"])
    more = blocks.shortages(exactly + Resources(memories=0.5), blocks.DEVICES["ECP5-25"])
    assert more == (Shortage("memories", 56.5, 56),)


def test_the_devices_are_the_pages() -> None:
    rows = re.findall(r"^\| (.+) \| ([\d,]+) \| ([\d,]+) \| (\d+) \| (\d+) \| (.+) \|$", PAGE.read_text(), re.M)
    said, source = {}, ""
    for name, *counts, cited in rows:
        source = source if cited == "the same" else cited
        said[name] = Resources(*(int(count.replace(",", "")) for count in counts)), source
    assert said == {name: (device.has, device.source) for name, device in blocks.DEVICES.items()}


def test_the_report_says_which_devices_fit() -> None:
    takes = {"elements": Resources(6000, 10, 2.5, 0), blocks.REST: Resources(2000, 0, 0, 0)}
    made = Area.of(synthesis.Estimate(1, 2, 3), {"ecp5": takes, "ice40": takes})
    assert made.transistors == 1 + 2 * synthesis.FLIP_FLOP + 3 * synthesis.SRAM_CELL
    assert [(each.family, each.takes.luts, each.takes.memories) for each in made.fpgas] == [
        ("ecp5", 8000, 2.5), ("ice40", 8000, 2.5),
    ]  # fmt: skip
    assert [block.share for block in made.fpgas[0].blocks] == [0.75, 0.25]
    fits = {each.device: each for each in made.devices}
    assert set(fits) == {name for name, device in blocks.DEVICES.items() if device.family in ("ecp5", "ice40")}
    assert fits["ECP5-25"].fits and not fits["ECP5-25"].short
    assert fits["iCE40 HX8K"].short == (Shortage("luts", 8000, 7680),) and not fits["iCE40 HX8K"].fits


def test_the_bench_prints_blocks_and_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    found = everywhere(Resources(9000, 10, 3, 0))
    monkeypatch.setattr(whole, "measure_whole", lambda config, liberty: found if config.map_words == 64 else None)
    done = CliRunner().invoke(whole.main, ["2x2", "--maps", "64"])
    assert done.exit_code == 0, done.output
    assert "9,000" in done.output and "70.0%" in done.output and "2.33" in done.output
    assert "fits ECP5-25: yes" in done.output and "fits iCE40 HX8K: no: luts 9,000 of 7,680" in done.output
    failed = CliRunner().invoke(whole.main, ["big"])
    assert failed.exit_code == 2 and "ROWSxCOLUMNS" in failed.output
