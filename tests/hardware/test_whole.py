"""The emitted Verilog synthesises whole and as it is, in the time that is stated."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bench import area, whole
from flow.hardware import synthesis
from flow.hardware.axi.bus import AxiConfig
from flow.hardware.config import PE_KINDS, ArrayConfig
from flow.hardware.emit import emit, emit_wrapped
from flow.hardware.synthesis import Resources
from tests.helpers.tools import fake, require_tool

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
    found = synthesis.whole(device.files, device.name, "ecp5")
    assert next(iter(found)) == device.name
    total = found[device.name]
    found = {name.removeprefix(f"{device.name}_"): block for name, block in found.items()}
    assert total.luts > config.elements * found["pe"].luts > 0
    assert total.flip_flops > config.elements * found["pe"].flip_flops > 0
    assert all(total.luts >= block.luts for block in found.values())
    assert not found["lane_words"].flip_flops and found["collect"].flip_flops < 200


@pytest.mark.parametrize("family", synthesis.FAMILIES)
def test_a_block_is_synthesised_for_every_family(family: str, tmp_path: Path) -> None:
    """A counter: lookup tables or carries, and a flip-flop for each bit."""
    require_tool("yosys")
    file = tmp_path / "counter.v"
    file.write_text(
        "module bits(input clk, input [7:0] a, output reg [7:0] q);\nalways @(posedge clk) q <= q + a;\nendmodule\n"
        "module counter(input clk, input [7:0] a, output [7:0] q, r);\n"
        "bits one(clk, a, q);\nbits two(clk, q, r);\nendmodule\n"
    )
    found = synthesis.whole([file], "counter", family)
    assert found["counter"].flip_flops == 2 * found["bits"].flip_flops == 16
    assert found["counter"].luts == 2 * found["bits"].luts and 8 <= found["bits"].luts <= 16


STAT = """=== low ===
   Number of cells:                  5
     LUT4                            3
     TRELLIS_FF                      2

=== top ===
   Number of cells:                  4
     CCU2C                           1
     DP16KD                          1
     low                             2

=== design hierarchy ===
   top                               1
     low                             2
       other                         7

     LUT4                         9999
"""


def test_blocks_count_what_is_below_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "said").write_text(STAT)
    fake(tmp_path, "yosys", f"cp {tmp_path}/said stat.txt")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    file = tmp_path / "top.v"
    file.write_text("module top(); endmodule\n")
    found = synthesis.whole([file], "top", "ecp5")
    assert found == {"top": Resources(8, 4, 1, 0), "low": Resources(3, 2, 0, 0)}
    assert list(found) == ["top", "low"]


def everywhere(blocks: dict[str, Resources]) -> dict[str, dict[str, Resources]]:
    return {family: dict(blocks) for family in synthesis.FAMILIES}


def test_a_device_has_enough_or_too_little() -> None:
    few = everywhere({"top": Resources(5000, 5000, 30, 0)})
    assert all(whole.fits(few, device) == "yes" for device in whole.DEVICES)
    many = everywhere({"top": Resources(5000, 50_000, 31, 9)})
    assert whole.fits(many, "iCE40 UP5K") == "no: flip-flops 50,000 of 5,280, memories 31 of 30, multipliers 9 of 8"
    assert whole.fits(many, "Artix-7 100T") == "yes"


def test_the_bench_prints_blocks_and_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    found = everywhere({"top": Resources(9000, 10, 3, 0), "low": Resources(8, 0, 0, 0)})
    monkeypatch.setattr(area, "measure_whole", lambda config: found if config.map_words == 64 else None)
    done = CliRunner().invoke(area.main, ["--whole", "2x2", "--maps", "64"])
    assert done.exit_code == 0, done.output
    assert "9,000" in done.output and "low" not in done.output  # a hundredth is shown
    assert "fits ECP5-25k: yes" in done.output and "fits iCE40 HX8K: no: luts 9,000 of 7,680" in done.output
    failed = CliRunner().invoke(area.main, ["--whole", "big"])
    assert failed.exit_code == 2 and "ROWSxCOLUMNS" in failed.output
