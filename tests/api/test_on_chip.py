"""`bbs compile --on-chip`: what it writes, says and hands over."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

import flow
from flow.cli.commands import bbs
from flow.compression.prune import prune
from flow.errors import FlowError
from flow.frontend.preparation.prepare import prepare
from flow.frontend.quantize import quantize
from flow.hardware.config import memory_ports
from flow.network.reference import accumulator_scales
from flow.onnxtools import runtime
from flow.output.build import read
from flow.output.report.report import Report
from flow.output.typed import as_json
from flow.scheduling.onchip.chain import chain
from flow.scheduling.onchip.program import assemble
from flow.simulation.onchip import as_map, by_reference
from tests.helpers.firmware import STRICT, check_driver
from tests.helpers.networks import Floats, dense, feeds, residual, saved
from tests.helpers.tools import require_engine, require_tool


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    require_engine("verilator")
    folder = tmp_path_factory.mktemp("onchip")
    chosen = flow.pruning("moderate")
    made = saved(residual(), folder)
    return folder / "out", flow.compile(made, folder / "out", pruning=chosen, array=(4, 4), samples=2, on_chip=True)


def test_the_report_tells_of_both_ways(built: tuple[Path, Report]) -> None:
    folder, report = built
    told = report.on_chip
    assert report.passed and told is not None
    assert told.verdict == "pass" and told.samples == 2 and told.failure is None
    assert [step.kind for step in told.steps].count("move") == 2 and len(told.steps) == 8
    assert told.cycles_ideal == sum(step.cycles_ideal for step in told.steps) < told.cycles
    assert json.loads((folder / "report.json").read_text())["on_chip"] == as_json(told)
    page = (folder / "report.html").read_text()
    assert "The whole network on chip" in page and f"{told.cycles:,} cycles from the input" in page


def test_an_earlier_build_runs_again(built: tuple[Path, Report]) -> None:
    folder, report = built
    again = flow.cosim(folder, samples=1)
    assert again.passed and again.on_chip is not None and report.on_chip is not None
    assert again.on_chip.cycles == report.on_chip.cycles and again.on_chip.samples == 1


def test_a_fault_fails_on_chip_too(built: tuple[Path, Report]) -> None:
    broken = flow.cosim(built[0], samples=1, fault="pe:stuck-sign")
    assert broken.on_chip is not None
    assert broken.on_chip.verdict == "fail" and broken.on_chip.tier1_mismatches > 0


@pytest.mark.parametrize("simulator", ["icarus", "ghdl"])
def test_the_network_is_a_layer_of_the_testbench(built: tuple[Path, Report], simulator: str, tmp_path: Path) -> None:
    """It passes, cycle for cycle; a word that should be another fails."""
    require_tool({"icarus": "iverilog"}.get(simulator, simulator))
    folder = Path(shutil.copytree(built[0], tmp_path / "copy"))
    command = ["make", "-s", "-C", str(folder / "testbench"), simulator, "LAYER=network"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "PASS" in done.stdout, done.stdout + done.stderr
    assert built[1].on_chip is not None and f"CYCLES {built[1].on_chip.cycles}" in done.stdout
    expected = folder / "network" / "output.expected.hex"
    lines = expected.read_text().splitlines()
    lines[-1] = f"{int(lines[-1], 16) ^ 1:0{len(lines[-1])}x}"
    expected.write_text("\n".join(lines) + "\n")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "FAIL" in done.stdout + done.stderr


def test_a_driver_places_the_network(built: tuple[Path, Report], tmp_path: Path) -> None:
    """Behind AXI, with a map of its own beside that of the layers."""
    folder, _ = built
    ports = memory_ports(read(folder).config)
    files = [folder / "network" / f"{'output.expected' if port.lanes else port.name}.bin" for port in ports]
    check_driver(folder, tmp_path, files, ports, network=True)
    count = re.search(r"^count (\d+)$", (folder / "network" / "layer.txt").read_text(), re.MULTILINE)
    assert count is not None
    assert f"#define BBS_NETWORK_COUNT {count[1]}u" in (folder / "firmware" / "axi" / "registers.h").read_text()


PROGRAM = r"""
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "HEADER"

/* The input's codes into an activation memory, which must be the one given; the results of an output memory. */
int main(int argc, char **argv)
{
    const struct bbs_input *input = bbs_network_inputs;
    const struct bbs_output *output = bbs_network_outputs;
    uint32_t words = WORDS, c, y, x;
    uint8_t *memory = calloc(words, BBS_ACTIVATION_BYTES), *given = malloc(words * BBS_ACTIVATION_BYTES + 1u);
    FILE *codes, *file;
    assert(argc == 4 && memory && given);
    codes = fopen(argv[1], "rb"), file = fopen(argv[2], "rb");
    assert(codes && file && fread(given, BBS_ACTIVATION_BYTES, words + 1u, file) == words);
    fclose(file);
    for (c = 0; c < input->channels; c++)
        for (y = 0; y < input->height; y++)
            for (x = 0; x < input->width; x++)
                bbs_put_input(input, memory, c, y, x, (int8_t)fgetc(codes));
    assert(!memcmp(memory, given, (size_t)words * BBS_ACTIVATION_BYTES));
    memory = realloc(memory, OUTPUTS * BBS_OUTPUT_BYTES);
    file = fopen(argv[3], "rb");
    assert(memory && file && fread(memory, BBS_OUTPUT_BYTES, OUTPUTS, file) == OUTPUTS);
    printf("%u\n", BBS_NETWORK_DESCRIPTORS);
    for (c = 0; c < output->channels; c++)
        for (y = 0; y < output->height; y++)
            for (x = 0; x < output->width; x++)
                printf("%d %.9g\n", (int)bbs_get_result(output, memory, c, y, x),
                       (double)bbs_get_real(output, memory, c, y, x));
    free(memory), free(given), fclose(codes), fclose(file);
    return 0;
}
"""


def ends_in_columns() -> onnx.ModelProto:
    """Its last layer computes several pixels of a channel at once, and has a line of them left over.

    Between its layers are HardSwish, SiLU and LeakyRelu.
    """
    net = Floats(9)
    a = net.node("HardSwish", net.conv("x", 3, 8, 3, relu=False))
    b = net.conv(a, 8, 8, 1, relu=False)
    c = net.conv(net.node("Mul", b, net.node("Sigmoid", b)), 8, 8, 1, relu=False)
    return net.model((3, 9, 7), net.conv(net.node("LeakyRelu", c, alpha=0.2), 8, 8, 3, group=8, relu=False))


def ends_in_sums() -> onnx.ModelProto:
    """What its last layer makes is not quantized."""
    made = quantize(prepare(dense()), feeds(dense(), 16)).model
    name = made.graph.output[0].name
    dequantizer = next(node for node in made.graph.node if name in node.output)
    quantizer = next(node for node in made.graph.node if dequantizer.input[0] in node.output)
    kept = [node for node in made.graph.node if node not in (quantizer, dequantizer)]
    for node in kept:
        node.output[:] = [name if output == quantizer.input[0] else output for output in node.output]
    del made.graph.node[:]
    made.graph.node.extend(kept)
    return made


@pytest.mark.parametrize("network", [residual, ends_in_columns, ends_in_sums])
def test_the_c_header_fills_the_input_and_finds_the_results(
    network: Callable[[], onnx.ModelProto], tmp_path: Path
) -> None:
    compiler, folder = require_tool("gcc"), tmp_path / "out"
    require_engine("icarus")
    model = saved(network(), tmp_path)
    chosen = flow.pruning("moderate")
    report = flow.compile(model, folder, pruning=chosen, array=(4, 8), engine="icarus", samples=1, on_chip=True)
    assert report.passed and report.on_chip is not None
    tables = [step.tier2_mismatches for step in report.on_chip.steps if step.kind == "table"]
    assert tables == ([0, 0, 0] if network is ends_in_columns else [])
    build = read(folder)
    assert build.config.tables == (network is ends_in_columns)
    layers = build.compressed.network.layers
    encoded = {layer.name: prune(layer.weights, build.compressed.allocation[layer.name])[0] for layer in layers}
    onchip = assemble(chain(build.compressed.network), encoded, build.config)
    (held,), (tensor,) = onchip.chain.inputs, onchip.chain.outputs
    feed = build.samples.one(0)
    for segment in onchip.chain.before:
        feed.update(runtime.run(segment.model, feed))
    codes = as_map(held, feed[held.tensor])
    (tmp_path / "codes.bin").write_bytes(codes.tobytes())
    want = by_reference(onchip, {held.tensor: codes})[len(onchip.chain.steps) - 1]
    layer = layers[-1]
    if made := layer.output_quantization:
        reals = (want.astype(np.float32) - made.zero_point) * made.scale
    else:
        reals = want.astype(np.float32) * accumulator_scales(layer)[:, None, None]
    (header,) = (folder / "firmware").glob("*.h")
    source = PROGRAM.replace("HEADER", str(header)).replace("OUTPUTS", f"{onchip.output_words}u")
    source = source.replace("WORDS", f"{len(np.load(folder / 'network' / 'activation.npy'))}u")
    (tmp_path / "try.c").write_text(source)
    program = str(tmp_path / "try")
    subprocess.run([compiler, *STRICT, "-o", program, str(tmp_path / "try.c")], check=True)
    files = [tmp_path / "codes.bin", folder / "network" / "activation.bin", folder / "network" / "output.expected.bin"]
    printed = subprocess.run([program, *map(str, files)], capture_output=True, text=True, check=True).stdout.split()
    assert int(printed[0]) == onchip.descriptors
    assert [int(number) for number in printed[1::2]] == want.reshape(-1).tolist()
    assert np.array_equal(np.array(printed[2::2], np.float32), reals.reshape(-1).astype(np.float32))
    assert (tensor in onchip.chain.held) == (network is not ends_in_sums)


def test_the_command_says_it(tmp_path: Path) -> None:
    require_engine("verilator")
    made = saved(residual(), tmp_path)
    asked = ["compile", str(made), "-o", str(tmp_path / "out"), "--array", "4x4", "--samples", "1", "--on-chip"]
    done = CliRunner().invoke(bbs, [*asked, "--preset", "moderate"])
    assert done.exit_code == 0
    told = Report.read(tmp_path / "out").on_chip
    assert told is not None
    assert f"On chip, the whole network by one start: {told.cycles:,} cycles" in " ".join(done.output.split())


def test_what_cannot_run_on_chip_is_refused_before_any_work(tmp_path: Path) -> None:
    net = Floats()
    softmax = net.node("Softmax", net.conv("x", 3, 8, 3), axis=1)
    made = saved(net.model((3, 5, 5), net.conv(softmax, 8, 8, 1)), tmp_path)
    with pytest.raises(FlowError, match=r"Softmax .* has no place in hardware \(never on chip: Softmax\); leave out"):
        flow.compile(made, tmp_path / "out", array=(4, 4), on_chip=True)
    with pytest.raises(FlowError, match="the rows must be a power of two from 2"):
        flow.compile(made, tmp_path / "out", array=(3, 4), on_chip=True)
    assert not (tmp_path / "out").exists()
