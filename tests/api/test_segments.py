"""`bbs compile --on-chip` of networks that leave the chip and come back, and `bbs inspect --on-chip`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import flow
from flow.api.inputs import with_maps
from flow.errors import FlowError
from flow.hardware.config import ArrayConfig
from flow.judgement.onchip import extent, summary
from flow.output.report.report import Report
from tests.helpers.firmware import compiled, header
from tests.helpers.heads import float_attention, for_the_chip
from tests.helpers.networks import Floats, attention, divided, heads, program, residual, saved
from tests.helpers.tools import Run, require_engine, require_tool


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    require_engine("icarus")
    folder = tmp_path_factory.mktemp("segments")
    made = saved(divided(), folder)
    options: dict[str, Any] = {"pruning": flow.pruning("moderate"), "array": (2, 2), "samples": 1, "engine": "icarus"}
    return folder / "out", flow.compile(made, folder / "out", on_chip=True, **options)


def test_the_report_tells_of_segments(built: tuple[Path, Report]) -> None:
    folder, report = built
    told = report.on_chip
    assert report.passed and told is not None and not told.whole and told.macs_share == 1.0 and not told.alone
    assert [segment.layers for segment in told.segments] == [("Conv_0", "Conv_3"), ("Conv_7", "Conv_10")]
    assert told.cycles == sum(segment.cycles for segment in told.segments)
    assert [segment.first for segment in told.segments] == [0, told.segments[0].count]
    (left,) = told.left
    assert left.segment == 1 and "Div_6" in left.nodes and "divides a map by another" in left.reason
    assert [output.mismatches for output in told.outputs] == [0]
    assert any(note.startswith("Leaves the chip before segment 2: Div 'Div_6'") for note in report.notes)
    predicted = report.summary.predicted
    assert predicted is not None and predicted.on_chip and told.cycles <= predicted.cycles < 1.3 * told.cycles
    page = (folder / "report.html").read_text()
    assert "By one start" not in page and "2 segments" in page and "Div_6" in page


def test_every_segment_has_its_cycles_behind_the_bus(built: tuple[Path, Report]) -> None:
    report = built[1]
    assert report.on_chip is not None and report.bus is not None
    for segment in report.on_chip.segments:
        assert segment.cycles_bus is not None and segment.cycles_bus > segment.cycles
    there = sum(segment.cycles_bus or 0 for segment in report.on_chip.segments)
    assert report.bus.on_chip == there and report.bus.cycles == sum(layer.cycles_bus for layer in report.layers)
    alone = [layer.cycles_bus for layer in report.layers if layer.name in report.on_chip.alone]
    assert report.bus.whole_cycles == there + sum(alone)
    assert report.bus.on_chip_cost == pytest.approx(there / report.on_chip.cycles - 1, abs=1e-4)


@pytest.mark.full
def test_an_earlier_build_runs_again(built: tuple[Path, Report]) -> None:
    folder, report = built
    again = flow.cosim(folder, samples=1, engine="icarus")
    assert again.passed and again.on_chip is not None and report.on_chip is not None
    assert again.on_chip.segments == report.on_chip.segments and again.on_chip.left == report.on_chip.left


def test_each_segment_is_a_layer_of_the_testbench(built: tuple[Path, Report], tmp_path: Path) -> None:
    """It passes, cycle for cycle; a word of a segment that should be another fails that segment."""
    require_tool("iverilog")
    folder = Path(shutil.copytree(built[0], tmp_path / "copy"))
    assert built[1].on_chip is not None
    command = ["make", "-s", "-C", str(folder / "testbench"), "icarus"]
    listed = subprocess.run([*command[:-1], "layers"], capture_output=True, text=True, check=True).stdout.split()
    assert listed[-2:] == ["network_1", "network_2"] and "network" not in listed
    for name, segment in zip(listed[-2:], built[1].on_chip.segments, strict=True):
        done = subprocess.run([*command, f"LAYER={name}"], capture_output=True, text=True, check=False)
        assert done.returncode == 0 and f"CYCLES {segment.cycles}" in done.stdout, done.stdout + done.stderr
    expected = folder / "network" / "network_2" / "output.expected.hex"
    lines = expected.read_text().splitlines()
    lines[-1] = f"{int(lines[-1], 16) ^ 1:0{len(lines[-1])}x}"
    expected.write_text("\n".join(lines) + "\n")
    done = subprocess.run([*command, "LAYER=network_2"], capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "FAIL" in done.stdout + done.stderr


PROGRAM = r"""
#include <stdio.h>
#include "HEADER"

int main(void)
{
    uint32_t i, j;
    for (i = 0; i < UPPER_SEGMENTS; i++) {
        const struct bbs_segment *segment = NAME_segments + i;
        printf("%u %u", (unsigned)segment->first, (unsigned)segment->count);
        for (j = 0; j < segment->input_count; j++)
            printf(" <%s", segment->inputs[j].tensor);
        for (j = 0; j < segment->output_count; j++)
            printf(" >%s", segment->outputs[j].tensor);
        printf("\n");
    }
    return 0;
}
"""


def test_a_driver_has_the_segments_as_a_table(built: tuple[Path, Report], tmp_path: Path) -> None:
    """What a segment reads the host parts before it make, or an earlier segment; the last makes what the host wants."""
    folder, report = built
    name = header(folder).stem
    source = PROGRAM.replace("HEADER", f"{name}.h").replace("NAME", name).replace("UPPER", name.upper())
    printed = subprocess.run([compiled(source, tmp_path, [folder])], capture_output=True, text=True, check=True).stdout
    assert report.on_chip is not None
    made = set[str]()
    for number, (line, segment) in enumerate(zip(printed.splitlines(), report.on_chip.segments, strict=True), 1):
        first, count, *tensors = line.split()
        assert (int(first), int(count)) == (segment.first, segment.count)
        for path in (folder / "network" / "host").glob(f"before_{number}_*.onnx"):
            model = onnx.load(path)
            onnx.checker.check_model(model)
            assert {value.name for value in model.graph.input} <= made | {"x"}
            made |= {value.name for value in model.graph.output}
        assert {tensor[1:] for tensor in tensors if tensor[0] == "<"} <= made
        made |= {tensor[1:] for tensor in tensors if tensor[0] == ">"}
    (last,) = (folder / "network" / "host").glob("after_*.onnx")
    assert {value.name for value in onnx.load(last).graph.input} <= made
    text = (folder / "firmware" / "axi" / "registers.md").read_text()
    assert "| `before_2_1.onnx` |" in text and "one start for each segment" in text


def test_segments_are_handed_over_without_a_simulation(tmp_path: Path) -> None:
    """There is no output memory to expect, and no testbench of them; what later segments load is there all the same."""
    folder = tmp_path / "out"
    report = flow.compile(saved(divided(), tmp_path), folder, array=(4, 4), samples=1, coverage=0, on_chip=True)
    assert report.on_chip is None and report.passed
    there = folder / "network"
    commands = [dict(line.split() for line in (there / name / "layer.txt").read_text().splitlines())
                for name in ("network_1", "network_2")]  # fmt: skip
    assert [each["cycles"] for each in commands] == ["0", "0"]
    assert int(commands[1]["first"]) == int(commands[0]["count"]) and commands[0]["first"] == "0"
    assert not (there / "network_2" / "output.expected.hex").exists()
    assert (there / "network_2" / "activation.hex").read_text() == (there / "activation.hex").read_text()
    assert "network" not in (folder / "testbench" / "Makefile").read_text().split("LAYERS := ")[1].split("\n")[0]


def test_what_does_not_run_on_chip_at_all_runs_layer_by_layer(tmp_path: Path) -> None:
    """A note says so, and the array is the one without --on-chip."""
    net = Floats()
    weights = net.constant(net.rng.normal(0, 1, (4, 2, 1, 3, 3)).astype(np.float32))
    model = saved(net.model((2, 5, 5, 5), net.node("Conv", "x", weights)), tmp_path)
    report = flow.compile(model, tmp_path / "out", array=(4, 4), samples=1, coverage=0, on_chip=True)
    assert report.passed and report.on_chip is None and not (tmp_path / "out" / "network").exists()
    said = (
        "Nothing of the network runs on chip: layer 'Conv_0' would have 5.0 times as many products with planes as "
        "channels. It runs layer by layer."
    )
    assert said in report.notes
    assert flow.inspect(model, on_chip=True).on_chip is not None


def test_inspection_says_where_every_node_runs(tmp_path: Path, run: Run) -> None:
    model = saved(divided(), tmp_path)
    found = flow.inspect(model, on_chip=True)
    there = found.on_chip
    assert there is not None and len(there.segments) == 2 and not there.whole
    assert {node.name for node in found.nodes} == set(there.nodes)
    by_op = {node.op: there.nodes[node.name] for node in found.nodes}
    assert by_op["Div"].segment is None and "divides a map by another" in by_op["Div"].reason
    assert by_op["GlobalAveragePool"].segment == 1 and by_op["Add"].segment == 2
    assert by_op["GlobalAveragePool"].cycles and by_op["GlobalAveragePool"].map_bytes == 8
    assert (by_op["Div"].place, by_op["GlobalAveragePool"].place) == ("host", "post-processing")
    first, second = there.segments
    assert sum(segment.cycles for segment in there.segments) == there.cycles < (there.cycles_bus or 0)
    assert set(second.takes) <= {*first.gives, *second.host} and "x" in first.takes and not first.host
    assert there.map_bytes >= max(node.map_bytes or 0 for node in there.nodes.values())
    layers = [there.nodes[node.name] for node in found.nodes if node.target == "array"]
    assert [node.segment for node in layers] == [1, 1, 2, 2] and all(node.cycles for node in layers)
    clamped = [there.nodes[node.name].segment for node in found.nodes if node.target == "post-processing"]
    assert set(clamped) == {1, 2}
    assert 0 < there.macs == found.macs and there.cycles >= sum(node.cycles or 0 for node in layers)
    status, out, _ = run("inspect", model, "--on-chip")
    assert status == 0 and "On chip, 2 segments: " in out and "segment  cycles  bytes" in out
    assert (
        f"({there.cycles_bus:,} behind a bus of {there.bus} bits), {there.map_bytes / 1024:,.1f} KiB of feature maps"
        in out
    )
    given = ", ".join(f"{name} ({size:,} bytes)" for name, size in first.gives.items())
    assert f"cycles; takes x ({first.takes['x']:,} bytes); gives {given}.\nSegment 2: " in out
    assert f"; before it the host computes {', '.join(second.host)}.\n" in out
    assert "segment" not in run("inspect", model)[1]
    assert len(json.loads(run("inspect", model, "--on-chip", "--json")[1])["on_chip"]["segments"]) == 2


def test_inspection_of_steps_of_several_nodes(tmp_path: Path, run: Run) -> None:
    """Products of two maps are on the array; what scales and moves them has no cycles of its own."""
    found = flow.inspect(saved(float_attention(), tmp_path), on_chip=True)
    there = found.on_chip
    assert there is not None and there.whole and not there.around
    products = [node for node in found.nodes if node.op == "MatMul" and node.target == "host"]
    assert len(products) == 2 and all(there.nodes[node.name].place == "array" for node in products)
    assert all(there.nodes[node.name].cycles for node in products)
    scaled = next(node for node in found.nodes if node.op == "Mul")
    assert there.nodes[scaled.name].cycles is None
    assert there.nodes[scaled.name].reason == f"part of '{products[0].name}'"


def test_a_build_that_is_refused_is_said(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nodes have their places all the same: another array may take the network."""

    def refuse(*_: Any) -> None:
        raise FlowError("the network needs 70,000 descriptors, more than 65,535")

    monkeypatch.setattr(sys.modules["flow.api.inspect"], "fitted", refuse)
    status, out, _ = run("inspect", saved(logarithm(), tmp_path), "--on-chip")
    assert status == 0 and "On chip, 2 segments: " in out and "behind the bus" not in out
    assert "A build for this array is refused: the network needs 70,000 descriptors, more than 65,535.\n" in out
    monkeypatch.setattr(sys.modules["flow.scheduling.onchip.timing"], "fitted", refuse)  # no room for its maps
    status, out, _ = run("inspect", saved(logarithm(), tmp_path), "--on-chip")
    assert status == 0 and out.splitlines()[-1].startswith(
        "A build for this array is refused: the network needs 70,000"
    )


def test_a_product_on_chip_does_not_stay_on_the_host() -> None:
    network = for_the_chip(float_attention())
    notes = ["Another one.", *network.notes]
    assert len(notes) == 3 and all(" stays on the host: " in note for note in notes[1:])
    config = with_maps(network, ArrayConfig(4, 4), notes)
    assert config.operands and notes == ["Another one."]


def test_inspection_of_an_array(tmp_path: Path, run: Run) -> None:
    model = saved(attention(), tmp_path)
    large, small = (flow.inspect(model, on_chip=True, array=size).on_chip for size in (None, (2, 4)))
    assert large and small and (large.array, small.array) == ("16x32", "2x4") and small.cycles > 2 * large.cycles
    assert flow.inspect(model, on_chip=True, array="2x4").on_chip == small
    status, _, err = run("inspect", model, "--array", "2x4")
    assert status == 2 and "give --on-chip, too" in err
    status, _, err = run("inspect", model, "--bus", "64")
    assert status == 2 and "--bus makes no difference" in err


def test_inspection_behind_a_bus(tmp_path: Path) -> None:
    """The cycles behind the bus are those of a build of the network that prunes nothing."""
    model = saved(divided(), tmp_path)
    asked: dict[str, Any] = {"array": (2, 4), "on_chip": True, "bus": 32, "latency": 60}
    found = flow.inspect(model, **asked).on_chip
    built = flow.compile(model, tmp_path / "out", columns=0, sensitive=0.0, coverage=0, samples=1, **asked)
    assert found is not None and built.bus is not None and found.bus == 32
    assert found.cycles_bus == built.bus.whole_cycles


def logarithm() -> onnx.ModelProto:
    """A LogSoftmax between two convolutions, which leaves the chip."""
    net = Floats(8)
    return net.model((2, 2, 2), net.conv(net.node("LogSoftmax", net.conv("x", 2, 2, 1), axis=1), 2, 2, 1))


def test_inspection_on_a_narrow_terminal(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name and number is whole in 80 columns, and the reasons stand below, once each."""
    model = saved(logarithm(), tmp_path)
    wide = run("inspect", model, "--on-chip")[1]
    monkeypatch.setattr("flow.cli.tables.WHOLE", 80)
    narrow = run("inspect", model, "--on-chip")[1]
    beside = ("(", "On chip", "It leaves", "Segment ")
    rows = [line for line in narrow.splitlines() if not line.startswith(beside)]
    assert max(map(len, rows)) <= 80
    found = flow.inspect(model, on_chip=True)
    there = found.on_chip
    assert there is not None
    for node in found.nodes:
        (row,) = (line.split() for line in rows if line.split()[0] == node.name)
        assert row[1] == node.op and str(there.nodes[node.name].segment or "off") in row
        if there.nodes[node.name].reason:
            assert f"{row[-1]} {there.nodes[node.name].reason}" in narrow
    assert narrow.count("8-bit in and out") == 1 < wide.count("8-bit in and out")


@pytest.mark.parametrize("make", [residual, attention])
def test_one_start_is_said_where_one_start_it_is(make: object, tmp_path: Path, run: Run) -> None:
    assert callable(make)
    status, out, _ = run("inspect", saved(make(), tmp_path), "--on-chip")
    assert status == 0 and "On chip, the whole network by one start: " in out


def test_what_the_host_computes_behind_is_said(tmp_path: Path, run: Run) -> None:
    """With a Softmax at an output, one start runs all layers, but not the whole network."""
    model = saved(heads(), tmp_path)
    status, out, _ = run("inspect", model, "--on-chip")
    assert status == 0 and "On chip, all layers by one start, 1 node before or behind them by the host: " in out
    there = flow.inspect(model, on_chip=True).on_chip
    assert there is not None and there.whole and there.around == ("Softmax_8",)
    assert (there.nodes["Softmax_8"].place, there.nodes["Softmax_8"].segment) == ("host", None)
    _, onchip = program(heads(), ArrayConfig(4, 4))
    assert onchip.chain.around == there.around
    assert extent(summary(onchip, [], [])).startswith("all layers by one start, 1 node ")
