"""`bbs compile --on-chip`: what it writes, says and hands over."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from flow.network.model import HostSegment
from flow.network.reference import accumulator_scales
from flow.onnxtools import runtime
from flow.output.build import read
from flow.output.manifest import Manifest
from flow.output.report.report import Report
from flow.output.typed import as_json
from flow.scheduling.onchip.chain import chain
from flow.scheduling.onchip.program import assemble
from flow.simulation.onchip import as_map, by_reference
from tests.helpers.firmware import C99, CXX, check_driver, compiled, header
from tests.helpers.nets import residual_net
from tests.helpers.networks import Floats, dense, feeds, residual, saved, unet
from tests.helpers.tools import require_cocotb, require_engine, require_tool


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
    predicted = report.summary.predicted
    assert predicted is not None and predicted.on_chip and told.cycles <= predicted.cycles < 1.2 * told.cycles
    assert told.cycles_ideal == sum(step.cycles_ideal for step in told.steps) < told.cycles
    assert json.loads((folder / "report.json").read_text())["on_chip"] == as_json(told)
    page = (folder / "report.html").read_text()
    (segment,) = told.segments
    behind = f"{told.cycles:,} cycles ({segment.cycles_bus:,} behind the bus) from the input"
    assert "The whole network on chip" in page and behind in page


@pytest.mark.full
def test_a_unet_runs_by_one_start(tmp_path: Path) -> None:
    """With a bilinear upsampling and normalizations of groups: inspected and compiled."""
    require_engine("icarus")
    model = saved(unet(), tmp_path)
    told = flow.inspect(model, on_chip=True, array=(4, 4)).on_chip
    assert told is not None and told.whole
    places = {name.split("_")[0]: node.place for name, node in told.nodes.items()}
    assert places["Resize"] == places["InstanceNormalization"] == "post-processing"
    report = flow.compile(
        model,
        tmp_path / "out",
        array=(4, 4),
        samples=1,
        on_chip=True,
        engine="icarus",
        pruning=flow.pruning("moderate"),
    )
    assert report.passed and report.on_chip is not None and report.on_chip.whole and not report.on_chip.left
    kinds = {step.kind for step in report.on_chip.steps}
    assert {"lines", "layernorm", "turn", "gather", "scale", "table"} <= kinds


def test_an_earlier_build_runs_again(built: tuple[Path, Report]) -> None:
    folder, report = built
    again = flow.cosim(folder, samples=1)
    assert again.passed and again.on_chip is not None and report.on_chip is not None
    assert again.on_chip.cycles == report.on_chip.cycles and again.on_chip.samples == 1


@pytest.mark.full
def test_a_fault_fails_on_chip_too(built: tuple[Path, Report]) -> None:
    broken = flow.cosim(built[0], samples=1, fault="pe:stuck-sign")
    assert broken.on_chip is not None
    assert broken.on_chip.verdict == "fail" and broken.on_chip.tier1_mismatches > 0


@pytest.mark.parametrize("simulator", ["icarus", "ghdl", pytest.param("cocotb", marks=pytest.mark.full)])
def test_the_network_is_a_layer_of_the_testbench(built: tuple[Path, Report], simulator: str, tmp_path: Path) -> None:
    """It passes, cycle for cycle; a word that should be another fails. Under cocotb as one of all layers."""
    if simulator == "cocotb":
        require_cocotb()
    require_tool({"icarus": "iverilog", "cocotb": "iverilog"}.get(simulator, simulator))
    folder = Path(shutil.copytree(built[0], tmp_path / "copy"))
    chosen, said = ("all", "network: PASS, {} cycles") if simulator == "cocotb" else ("network", "CYCLES {}")
    command = ["make", "-s", "-C", str(folder / "testbench"), simulator, f"LAYER={chosen}"]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0 and "PASS" in done.stdout, done.stdout + done.stderr
    assert built[1].on_chip is not None and said.format(built[1].on_chip.cycles) in done.stdout
    expected = folder / "network" / "output.expected.hex"
    lines = expected.read_text().splitlines()
    lines[-1] = f"{int(lines[-1], 16) ^ 1:0{len(lines[-1])}x}"
    expected.write_text("\n".join(lines) + "\n")
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode != 0 and "FAIL" in done.stdout + done.stderr


def test_a_driver_places_the_network(built: tuple[Path, Report], tmp_path: Path) -> None:
    """Behind AXI, with a map of its own beside that of the layers."""
    folder, _ = built
    ports = memory_ports(read(folder).config)
    files = [folder / "network" / f"{'output.expected' if port.lanes else port.name}.bin" for port in ports]
    check_driver(folder, tmp_path, files, ports, network=True)
    count = re.search(r"^count (\d+)$", (folder / "network" / "layer.txt").read_text(), re.MULTILINE)
    assert count is not None
    name = header(folder).stem
    assert f"#define {name.upper()}_NETWORK_DESCRIPTORS {count[1]}u" in header(folder).read_text()


PROGRAM = r"""
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "HEADER"

/* The input's codes into an activation memory, which must be the one given, one by one and all at once; the results of
   an output memory, without gaps and as it lies on the bus. */
int main(int argc, char **argv)
{
    const struct bbs_input *input = NAME_inputs;
    const struct bbs_output *output = NAME_outputs;
    const uint32_t gaps[] = {UPPER_BYTES_ACTIVATION, UPPER_STRIDE_ACTIVATION};
    uint32_t words = WORDS, c, y, x, i;
    const size_t size = (size_t)words * UPPER_STRIDE_ACTIVATION, pixels = (size_t)input->height * input->width;
    uint8_t *memory = malloc(size), *given = malloc(size), *image = malloc(size);
    int8_t *codes = malloc(input->channels * pixels);
    FILE *file = fopen(argv[1], "rb");
    assert(argc == 4 && memory && given && image && codes && file);
    assert(fread(codes, pixels, input->channels, file) == input->channels);
    fclose(file);
    file = fopen(argv[2], "rb");
    assert(file && fread(image, UPPER_BYTES_ACTIVATION, words, file) == words && fgetc(file) == EOF);
    fclose(file);
    for (i = 0; i < 2; i++) {
        bbs_axi_spread(given, image, words, UPPER_BYTES_ACTIVATION, gaps[i]);
        memset(memory, 0, size);
        for (c = 0; c < input->channels; c++)
            for (y = 0; y < input->height; y++)
                for (x = 0; x < input->width; x++)
                    bbs_put_input(input, memory, gaps[i], c, y, x, codes[c * pixels + y * input->width + x]);
        assert(!memcmp(memory, given, (size_t)words * gaps[i]));
        memset(memory, 0, size);
        bbs_put_tensor(input, memory, gaps[i], codes);
        assert(!memcmp(memory, given, (size_t)words * gaps[i]));
    }
    image = realloc(image, OUTPUTS * UPPER_BYTES_OUTPUT);
    memory = realloc(memory, OUTPUTS * UPPER_STRIDE_OUTPUT);
    file = fopen(argv[3], "rb");
    assert(memory && image && file && fread(image, UPPER_BYTES_OUTPUT, OUTPUTS, file) == OUTPUTS);
    bbs_axi_spread(memory, image, OUTPUTS, UPPER_BYTES_OUTPUT, UPPER_STRIDE_OUTPUT);
    printf("%u\n", UPPER_NETWORK_DESCRIPTORS);
    for (c = 0; c < output->channels; c++)
        for (y = 0; y < output->height; y++)
            for (x = 0; x < output->width; x++) {
                int32_t code = bbs_get_result(output, memory, UPPER_STRIDE_OUTPUT, c, y, x);
                assert(code == bbs_get_result(output, image, UPPER_BYTES_OUTPUT, c, y, x));
                printf("%d %.9g\n", (int)code, (double)bbs_get_real(output, memory, UPPER_STRIDE_OUTPUT, c, y, x));
            }
    free(memory), free(given), free(image), free(codes), fclose(file);
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


@pytest.mark.full
@pytest.mark.parametrize(("network", "bus"), [(residual, 32), (ends_in_columns, 512), (ends_in_sums, 128)])
def test_the_c_header_fills_the_input_and_finds_the_results(
    network: Callable[[], onnx.ModelProto], bus: int, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    require_engine("icarus")
    model = saved(network(), tmp_path)
    chosen = flow.pruning("moderate")
    options: dict[str, Any] = {"pruning": chosen, "array": (2, 4), "engine": "icarus", "samples": 1, "on_chip": True}
    report = flow.compile(model, folder, bus=bus, **options)
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
    for segment in onchip.chain.segments[0].before:
        assert isinstance(segment, HostSegment)
        feed.update(runtime.run(segment.model, feed))
    codes = as_map(held, feed[held.tensor])
    (tmp_path / "codes.bin").write_bytes(codes.tobytes())
    want = by_reference(onchip, {held.tensor: codes})[len(onchip.chain.steps) - 1]
    layer = layers[-1]
    if made := layer.output_quantization:
        reals = (want.astype(np.float32) - made.zero_point) * made.scale
    else:
        reals = want.astype(np.float32) * accumulator_scales(layer)[:, None, None]
    name = header(folder).stem
    source = PROGRAM.replace("HEADER", f"{name}.h").replace("NAME", name).replace("UPPER", name.upper())
    source = source.replace("OUTPUTS", f"{onchip.output_words}u")
    source = source.replace("WORDS", f"{len(np.load(folder / 'network' / 'activation.npy'))}u")
    program = compiled(source, tmp_path, [folder])
    files = [tmp_path / "codes.bin", folder / "network" / "activation.bin", folder / "network" / "output.expected.bin"]
    printed = subprocess.run([program, *map(str, files)], capture_output=True, text=True, check=True).stdout.split()
    assert int(printed[0]) == onchip.descriptors
    assert [int(number) for number in printed[1::2]] == want.reshape(-1).tolist()
    assert np.array_equal(np.array(printed[2::2], np.float32), reals.reshape(-1).astype(np.float32))
    assert (tensor in onchip.chain.held) == (network is not ends_in_sums)


TWO = r"""
#include <assert.h>
#include <stdio.h>
#include "FIRST.h"
#include "SECOND.h"

/* A driver of both accelerators. */
int main(void)
{
    uint32_t device[1024] = {0};
    device[BBS_REG_ID / 4] = BBS_IDENTITY;
    device[BBS_REG_VERSION / 4] = BBS_VERSION;
    device[BBS_REG_BUILD / 4] = SECOND_accelerator.build;
    assert(bbs_axi_init(device, &SECOND_accelerator) == BBS_OK);
    assert(bbs_axi_init(device, &FIRST_accelerator) == BBS_OTHER_BUILD);
    printf("%u %u %s %s\n", (unsigned)FIRST_layers[0].accelerator->rows, (unsigned)SECOND_layers[0].accelerator->rows,
           FIRST_layers[0].name, SECOND_layers[0].name);
    return 0;
}
"""


@pytest.mark.parametrize("compiler", [C99, CXX], ids=["C99", "C++"])
def test_headers_of_two_builds_in_one_file(
    built: tuple[Path, Report], second: Path, compiler: tuple[str, ...], tmp_path: Path
) -> None:
    """Two networks on two arrays: no name is of both, and each header is refused by the other accelerator."""
    one, other = header(built[0]).stem, header(second).stem
    includes = re.findall(r'#include "\w+.h"\n', TWO)
    for order in (includes, includes[::-1]):
        source = TWO.replace("".join(includes), "".join(order))
        source = source.replace("FIRST", one).replace("SECOND", other)
        program = compiled(source, tmp_path, [built[0], second], compiler=compiler)
        printed = subprocess.run([program], capture_output=True, text=True, check=True).stdout
        layers = [Report.read(folder).layers[0].name for folder in (built[0], second)]
        assert printed.split() == ["4", "3", *layers]


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of another network on another array, of which nothing is simulated."""
    folder = tmp_path_factory.mktemp("second")
    onnx.save(residual_net(), str(folder / "other.onnx"))
    flow.compile(folder / "other.onnx", folder / "out", array=(3, 4), coverage=0, samples=1, prefix="camera_npu")
    return folder / "out"


def test_the_prefix_is_in_every_name(second: Path) -> None:
    manifest = Manifest.read(second)
    assert (manifest.top, manifest.axi.top, header(second).stem) == ("camera_npu", "camera_npu_axi", "camera_npu")
    hdl = [*manifest.axi.verilog, *manifest.axi.vhdl]
    assert all(Path(name).stem == "camera_npu" or name.startswith("camera_npu_") for name in hdl)
    names = {path.name for path in (second / "testbench").iterdir()}
    assert names == {"Makefile", "tb_camera_npu.sv", "tb_camera_npu.vhd", "tb_camera_npu_axi.sv", "test_camera_npu.py"}
    assert "ifndef CAMERA_NPU_H" in header(second).read_text()


FREE = r"""
#include "HEADER"

int main(void)
{
    volatile uint32_t *const registers = (volatile uint32_t *)(uintptr_t)0x40000000u;
    uint8_t *const memory = (uint8_t *)(uintptr_t)0x80000000u;
    const int8_t *const codes = (const int8_t *)(uintptr_t)0x20000000u;
    int32_t sum = 0;
    if (bbs_axi_init(registers, &NAME_accelerator) || bbs_axi_place(registers, &NAME_network_map, 0x80000000u))
        return 1;
    bbs_copy(memory, codes, (size_t)NAME_network_map.image);
    bbs_clear(memory + NAME_network_map.image, (size_t)(NAME_network_map.bytes - NAME_network_map.image));
    bbs_put_tensor(NAME_inputs, memory + UPPER_NETWORK_OFFSET_ACTIVATION, UPPER_STRIDE_ACTIVATION, codes);
    bbs_put_activation(NAME_layers, memory, UPPER_STRIDE_ACTIVATION, 0, 0, 0, codes[0]);
    bbs_axi_spread(memory, codes, 17, 13, 16);
    bbs_axi_gather(memory, codes, 17, 13, 16);
    if (bbs_axi_start(registers, 0, UPPER_NETWORK_DESCRIPTORS, 0) || bbs_axi_wait(registers))
        return 2;
    sum += bbs_get_output(NAME_layers, memory, UPPER_STRIDE_OUTPUT, 0, 0);
    sum += bbs_get_result(NAME_outputs, memory, UPPER_STRIDE_OUTPUT, 0, 0, 0);
    return sum + (int)bbs_get_real(NAME_outputs, memory, UPPER_STRIDE_OUTPUT, 0, 0, 0);
}
"""


@pytest.mark.parametrize("compiler", [C99, CXX], ids=["C99", "C++"])
@pytest.mark.parametrize("level", ["-O0", "-O2", "-O3", "-m32"])
def test_a_driver_needs_no_library(
    built: tuple[Path, Report], compiler: tuple[str, ...], level: str, tmp_path: Path
) -> None:
    """Compiled for a machine without one, nothing is left to link; with 32 bits, too, where a header permits that."""
    name = header(built[0]).stem
    source = FREE.replace("HEADER", f"{name}.h").replace("NAME", name).replace("UPPER", name.upper())
    options = ("-ffreestanding", "-nostdlib", "-c", *((level,) if level != "-m32" else ("-m32", "-O2")))
    left = subprocess.run(
        [require_tool("nm"), "-u", compiled(source, tmp_path, [built[0]], options, compiler)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    undefined = set(left.stdout.split()) - {"U", "_GLOBAL_OFFSET_TABLE_", "__x86.get_pc_thunk.bx"}
    assert not undefined, undefined


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
    made = saved(net.model((3, 5, 5), net.conv("x", 3, 8, 3)), tmp_path)
    with pytest.raises(FlowError, match="the rows must be a power of two from 2"):
        flow.compile(made, tmp_path / "out", array=(3, 4), on_chip=True)
    assert not (tmp_path / "out").exists()
