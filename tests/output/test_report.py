"""report.html: what the figures are drawn from, the same bytes every time, names that are no markup, a browser."""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import flow
from flow.hardware import blocks
from flow.hardware.config import PE_KINDS, ArrayConfig
from flow.hardware.element import element_of
from flow.network.model import ArrayLayer, Network
from flow.output.build import read
from flow.output.report import layers as layer_reports
from flow.output.report.figures import figures
from flow.output.report.graph import edges, flow_graph, generations, short
from flow.output.report.layers import weight_change
from flow.output.report.report import Report, write_report
from flow.scheduling.cycles import breakdown, layer_cycles
from flow.scheduling.schedule import schedule
from flow.scheduling.traffic import memory_traffic
from tests.helpers.browser import browse, probed
from tests.helpers.layers import random_layer
from tests.helpers.nets import small
from tests.helpers.tools import require_engine, require_tool

HOSTILE = '<script>alert("x")</script> & $x_1$ ]]> \\frac'


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_engine("verilator")
    folder = tmp_path_factory.mktemp("report")
    assert flow.compile(small(folder), folder / "out", array=(4, 4), samples=1).passed
    return folder / "out"


@pytest.mark.parametrize("pe", PE_KINDS)
@pytest.mark.parametrize("drain", [1, 4])
def test_cycles_and_traffic_add_up(pe: str, drain: int) -> None:
    """Every cycle of the model belongs to one part; traffic is what the streams fetch."""
    config = ArrayConfig(3, 8, pe=pe, drain=drain)
    seen = dict.fromkeys(("load", "drain", "stall"), 0)
    for seed, (reduction, positions, raw) in enumerate([(9, 40, False), (70, 5, True), (300, 3, False), (8, 60, True)]):
        encoded, layer = random_layer(seed, reduction, positions, (0, 0, 4, 4, 4, 2, 6, 6, 6, 6, 2), raw)
        (scheduled,) = schedule([encoded], [layer], config).layers
        parts = breakdown(scheduled, config)
        assert parts.cycles == layer_cycles(scheduled, config)
        assert parts.compute == sum(block.tiles * block.steps * block.columns for block in scheduled.blocks)
        assert min(parts.load, parts.drain, parts.stall) >= 0
        for name in seen:
            seen[name] += getattr(parts, name)
        traffic = memory_traffic(scheduled, config)
        assert traffic["output"] == scheduled.output_words * config.rows
        weights = sum(block.steps * block.columns for block in scheduled.blocks)
        assert traffic["weight"] == weights * config.columns * config.step // 8
        assert (traffic["metadata"] > 0) == element_of(pe).encoded
    assert min(seen["load"], seen["drain"]) > 0
    assert seen["stall"] > 0 or drain == 1


def test_the_report_holds_what_the_figures_show(built: Path) -> None:
    for layer in Report.read(built).layers:
        assert sum(vars(layer.cycle_breakdown).values()) == layer.cycles
        assert layer.memory_traffic_dense is not None
        assert set(layer.memory_traffic) == set(layer.memory_traffic_dense)
    page = (built / "report.html").read_text()
    assert page.count("<svg") == page.count("</svg>") > 6 and page.count("<figure") == page.count("</figure>") == 7
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!#)""", page)  # nothing from elsewhere
    identities = re.findall(r'\bid="([^"]+)"', page)
    assert identities and len(set(identities)) == len(identities)
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(identities)


@pytest.mark.full
def test_a_sampled_build_says_what_went_through_rtl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_engine("verilator")
    require_tool("yosys")
    monkeypatch.setattr(blocks, "FAMILIES", {"ecp5": blocks.FAMILIES["ecp5"]})  # the others take minutes more
    report = flow.compile(small(tmp_path), tmp_path / "out", array=(2, 3), samples=2, coverage=0.2, synth=True)
    summary, layers = report.summary, report.layers
    assert report.passed and all(0.2 <= layer.rtl_share <= 1 for layer in layers)
    macs = sum(layer.macs for layer in layers)
    assert summary.rtl_share == pytest.approx(sum(each.macs * each.rtl_share for each in layers) / macs, abs=1e-5)
    for layer in layers:
        assert layer.elements_rtl == round(layer.rtl_share * layer.elements)
        assert layer.cycles_source == ("rtl" if layer.rtl_share == 1 else "pieces") and layer.pieces == 1
        assert layer.cycles == layer.cycles_model
    assert summary.area is not None
    (fpga,) = summary.area.fpgas
    assert fpga.family == "ecp5" and sum(block.takes.luts for block in fpga.blocks) == fpga.takes.luts > 5000
    shares = {block.block: block.share for block in fpga.blocks}
    assert sum(shares.values()) == pytest.approx(1, abs=1e-2) and shares["AXI registers"] > 0
    assert [fit.device for fit in summary.area.devices if fit.fits][-1] == "ECP5-85"
    assert Report.read(tmp_path / "out").summary.area == summary.area
    page = (tmp_path / "out" / "report.html").read_text()
    assert all(f">{100 * layer.rtl_share:.2f} %</td></tr>" in page for layer in layers)
    assert re.search(rf"RTL against integer reference \(1b\)</td><td[^>]*>{summary.elements_rtl:,}</td>", page)
    assert f"About {summary.area.transistors / 1e6:.2f} million transistors" in page
    assert f'<td data-head="lookup tables" data-value="{float(fpga.takes.luts)}">{fpga.takes.luts:,}</td>' in page
    assert ">ECP5-85</td>" in page
    nothing = flow.compile(tmp_path / "small.onnx", tmp_path / "nothing", array=(2, 3), coverage=0)
    assert nothing.summary.verdict is None and {layer.cycles_source for layer in nothing.layers} == {"model"}
    assert "not simulated" in (tmp_path / "nothing" / "report.html").read_text()


def renamed(network: Network) -> Network:
    numbered = enumerate(network.steps)
    steps = (replace(step, name=f"{HOSTILE}{i}") if isinstance(step, ArrayLayer) else step for i, step in numbered)
    return replace(network, steps=tuple(steps))


def test_names_are_text_and_figures_the_same_bytes(built: Path, tmp_path: Path) -> None:
    build = read(built)
    network, original = renamed(build.compressed.network), renamed(build.compressed.original)
    stored = Report.read(built)
    layers = (replace(layer, name=made.name) for layer, made in zip(stored.layers, network.layers, strict=True))
    report = replace(stored, layers=tuple(layers))
    compressed = replace(build.compressed, network=network, original=original)
    pages = []
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        write_report(tmp_path / str(number), report, compressed)
        pages.append((tmp_path / str(number) / "report.html").read_bytes())
    assert pages[0] == pages[1]
    assert pages[0].count(b"<script") == 1 and b"<script>alert" not in pages[0]  # the page's own, without attributes
    assert "$x_1$" in pages[0].decode()
    assert "]]&gt;" in pages[0].decode()


def test_weights_are_compared_some_channels_at_a_time(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compressed = read(built).compressed
    for before, after in zip(compressed.original.layers, compressed.network.layers, strict=True):
        scales = np.linspace(0.5, 1.5, before.channels).astype(np.float32)
        moved = replace(after, weight_scales=after.weight_scales * scales)
        old, new = (each.weights * each.weight_scales[:, None].astype(np.float64) for each in (before, moved))
        steps = new / before.weight_scales[:, None].astype(np.float64)
        for together in (1, 3 * before.reduction, 2**22):
            monkeypatch.setattr(layer_reports, "TOGETHER", together)
            change = weight_change(before, moved)
            assert change.sqnr == pytest.approx(10 * np.log10((old**2).sum() / ((new - old) ** 2).sum()))
            assert change.mse == pytest.approx(((steps - before.weights) ** 2).mean())
            nearest = np.clip(np.rint(steps), -128, 127).astype(int)
            for counts, values in ((change.before, before.weights), (change.after, nearest)):
                assert counts.tolist() == [int((values == value).sum()) for value in range(-128, 128)]


def test_a_graph_of_every_size_is_drawn_or_left_out(built: Path) -> None:
    network = read(built).compressed.network
    graph = flow_graph(network)
    steps = [node for node in graph.values() if node.kind in ("array", "host")]
    assert len(steps) == len(network.steps)
    assert {end for _, end in edges(graph)} == {name for name, node in graph.items() if node.kind != "input"}
    rows = {name: number for number, names in enumerate(generations(graph)) for name in names}
    assert rows.keys() == graph.keys() and all(rows[start] < rows[end] for start, end in edges(graph))
    layers = Report.read(built).layers
    counts = np.arange(256)
    weights = {layer.name: (counts, counts) for layer in network.layers}
    assert "graph" in figures(network, layers, weights)
    long = replace(network, steps=network.steps * 60)
    assert "graph" not in figures(long, layers, weights)
    assert short("a" * 50 + "end", 10) == "…aaaaaaend" and short("abc") == "abc"


def picture(path: Path) -> np.ndarray:
    """The grey values of an 8-bit PNG without interlace, filters undone well enough to tell blank from drawn."""
    data, at, body = path.read_bytes(), 8, b""
    width = height = 0
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind == b"IHDR":
            width, height = struct.unpack(">II", data[at + 8 : at + 16])
        elif kind == b"IDAT":
            body += data[at + 8 : at + 8 + size]
        at += size + 12
    return np.frombuffer(zlib.decompress(body), np.uint8).reshape(height, -1)[:, 1 : 3 * width + 1]


@pytest.mark.parametrize(("width", "dark"), [(390, False), (390, True), (800, True), (1400, False), (1400, True)])
def test_a_browser_shows_it(built: Path, tmp_path: Path, width: int, dark: bool) -> None:
    """Nothing off the screen, nothing hard to read, no slab of another colour; tables sort, points have their rows."""
    seen = probed(built / "report.html", tmp_path, width, dark)
    assert seen["errors"] == []
    assert seen["width"][0] <= seen["width"][1] <= seen["width"][2] == width
    assert (seen["paper"] < 0.05) == dark
    assert seen["loaded"] == 0 and len(seen["heights"]) == 7 and min(seen["heights"]) > 50
    layers = len(Report.read(built).layers)
    assert seen["points"] >= 4 * layers + 4  # bars of every layer in four charts; two forms in two plots


def test_a_browser_paints_and_prints_it(built: Path, tmp_path: Path) -> None:
    page, shot, printed = built / "report.html", tmp_path / "shot.png", tmp_path / "page.pdf"
    browse(page, tmp_path, 800, True, f"--screenshot={shot}")
    assert picture(shot).any(axis=1).sum() > 1000  # rows of pixels with something new in them
    browse(page, tmp_path, 800, True, f"--print-to-pdf={printed}")
    assert printed.read_bytes().count(b"/Type /Page\n") > 1
