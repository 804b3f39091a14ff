"""What other tools take of a build: every format holds the same words, every simulator passes, and can fail."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import flow
from flow.files import layer_folder
from flow.hardware.axi.bus import register_map, registers
from flow.hardware.config import ArrayConfig, memory_ports
from flow.output.handoff import formats
from flow.simulation.engines.testbench import read_hex
from tests.helpers.firmware import check_driver, compiled, header
from tests.helpers.nets import residual_net, small, wide_net
from tests.helpers.tools import once_each, quick_engine, require_cocotb, require_engine, require_tool, verilator

LAYERS = 4


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network on a 3x4 array: ports of widths that fill neither bytes nor array."""
    require_engine("verilator")
    folder = tmp_path_factory.mktemp("handoff")
    report = flow.compile(small(folder), folder / "out", array=(3, 4), samples=1)
    assert report.passed and len(report.layers) == LAYERS
    return folder / "out"


@pytest.fixture
def elsewhere(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "copy"))


def layers(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "vectors").iterdir() if path.is_dir())


@pytest.mark.parametrize(("width", "depth"), [(1, 1), (5, 3), (8, 17), (13, 4), (416, 2)])
def test_every_format_holds_the_same_words(tmp_path: Path, width: int, depth: int) -> None:
    generator = np.random.default_rng(width)
    words = [int.from_bytes(generator.bytes(60)) % (1 << width) for _ in range(depth)]
    size = -(-width // 8)
    memory = np.array([list(word.to_bytes(size, "little")) for word in words], np.uint8)
    formats.write(tmp_path, "m", memory, width)
    assert [int(line, 16) for line in (tmp_path / "m.hex").read_text().split()] == words
    assert (read_hex(tmp_path / "m.hex", size) == memory).all()
    assert (np.load(tmp_path / "m.npy") == memory).all()
    assert (tmp_path / "m.bin").read_bytes() == memory.tobytes()
    coe = (tmp_path / "m.coe").read_text()
    head, body = coe.split("memory_initialization_vector=")
    assert head == "memory_initialization_radix=16;\n" and body.endswith(";\n")
    assert [int(word, 16) for word in body.rstrip(";\n").split(",")] == words
    mif = (tmp_path / "m.mif").read_text()
    assert f"WIDTH={width};" in mif and f"DEPTH={depth};" in mif and mif.endswith("END;\n")
    pairs = re.findall(r"^([0-9a-f]+) : ([0-9a-f]+);$", mif, re.MULTILINE)
    assert [(int(at, 16), int(word, 16)) for at, word in pairs] == list(enumerate(words))
    assert all(len(word) == -(-width // 4) for _, word in pairs)


def test_large_memories_are_written_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = np.random.default_rng(0).integers(0, 256, (100, 3), np.uint8)
    formats.write(tmp_path, "whole", memory, 20)
    for part in (1, 30, 150):  # a word at a time, ten, fifty
        monkeypatch.setattr(formats, "PART", part)
        formats.write(tmp_path, "parts", memory, 20)
        for kind in ("hex", "coe", "mif", "npy", "bin"):
            assert (tmp_path / f"parts.{kind}").read_bytes() == (tmp_path / f"whole.{kind}").read_bytes(), (kind, part)


def test_layer_folders_are_plain_names() -> None:
    assert layer_folder("/features/conv.0:Ünï", 7) == "007__features_conv_0__n_"
    assert len(layer_folder("x" * 500, 12)) == 64


def run_make(folder: Path, tool: str, layer: str) -> subprocess.CompletedProcess[str]:
    require_tool("make")
    command = ["make", "-C", str(folder / "testbench"), tool, f"LAYER={layer}"]
    environment = dict(os.environ)
    if tool.startswith("verilator"):
        program, environment = verilator()
        command.append(f"VERILATOR={program}")
    else:
        require_tool({"icarus": "iverilog", "icarus-axi": "iverilog", "cocotb": "iverilog"}.get(tool, tool))
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize("tool", once_each(["icarus", "verilator", "ghdl", "cocotb"], lambda tool: True))
def test_a_copied_build_passes_and_can_fail(elsewhere: Path, tool: str) -> None:
    if tool == "cocotb":
        require_cocotb()
    done = run_make(elsewhere, tool, "all")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall("PASS", done.stdout)) >= LAYERS
    # A wrong expectation, a wrong cycle, a wrong weight, a file too short: each must be found.
    folder = layers(elsewhere)[0]
    for file, change in (
        (folder / "output.expected.hex", lambda text: ("1" if text[0] == "0" else "0") + text[1:]),
        (folder / "layer.txt", lambda text: re.sub(r"cycles (\d+)", lambda m: f"cycles {int(m[1]) + 1}", text)),
        (elsewhere / "memory" / "parameter.hex", lambda text: re.sub(r"[0-7]\n", "f\n", text, count=1)),
        (folder / "output.expected.hex", lambda text: text[: len(text) // 2].rsplit("\n", 1)[0] + "\n"),
    ):
        right = file.read_text()
        assert change(right) != right
        file.write_text(change(right))
        done = run_make(elsewhere, tool, folder.name)
        assert done.returncode != 0, (file, done.stdout + done.stderr)
        file.write_text(right)
    assert run_make(elsewhere, tool, folder.name).returncode == 0
    assert not flow.verify(elsewhere)[1].any  # what make leaves does not count


@pytest.mark.parametrize("tool", ["icarus-axi", pytest.param("verilator-axi", marks=pytest.mark.full)])
def test_the_bench_behind_axi_passes_and_can_fail(elsewhere: Path, tool: str) -> None:
    done = run_make(elsewhere, tool, "all" if tool == "verilator-axi" else layers(elsewhere)[-1].name)
    assert done.returncode == 0 and "PASS" in done.stdout, done.stdout + done.stderr
    folder = layers(elsewhere)[-1]
    for file, change in (
        (folder / "output.expected.hex", lambda text: ("1" if text[0] == "0" else "0") + text[1:]),
        (folder / "output.expected.hex", lambda text: text[: len(text) // 2].rsplit("\n", 1)[0] + "\n"),
        (elsewhere / "memory" / "weight.hex", lambda text: text[: len(text) // 2]),
        (folder / "layer.txt", lambda text: re.sub(r"limit (\d+)", "limit 1", text)),
    ):
        right = file.read_text()
        file.write_text(change(right))
        done = run_make(elsewhere, tool, folder.name)
        assert done.returncode != 0 and "FAIL" in done.stdout, (file, done.stdout + done.stderr)
        file.write_text(right)


def test_make_names_the_layers_and_refuses_others(elsewhere: Path) -> None:
    require_tool("make")
    names = [path.name for path in layers(elsewhere)]
    command = ["make", "-s", "-C", str(elsewhere / "testbench")]
    listed = subprocess.run([*command, "layers"], capture_output=True, text=True, check=True).stdout
    assert listed.split() == names
    refused = subprocess.run([*command, "icarus", "LAYER=nothing"], capture_output=True, text=True, check=False)
    assert refused.returncode != 0 and "there is no layer nothing" in refused.stderr


def test_a_netlist_names_what_it_lacks(elsewhere: Path, tmp_path: Path) -> None:
    require_tool("make")
    command = ["make", "-s", "-C", str(elsewhere / "testbench"), "gate"]

    def refused(*more: str, **environment: str) -> str:
        variables = dict(os.environ) | environment
        done = subprocess.run([*command, *more], capture_output=True, text=True, check=False, env=variables)
        assert done.returncode and "PASS" not in done.stdout
        return done.stdout

    assert refused("YOSYS=no-yosys").startswith("no-yosys is not installed: a netlist takes Yosys")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("make", "sh"):
        (tools / name).symlink_to(require_tool(name))
    assert refused("YOSYS=sh", PATH=str(tools)).startswith("iverilog is not installed: a netlist takes Yosys")
    if shutil.which("iverilog"):
        assert refused("YOSYS=sh", "LIBERTY=cells.lib").startswith("LIBERTY takes CELLS=file.v")


PROGRAM = r"""
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "HEADER"

static uint8_t *blob(const char *folder, const char *path, size_t size)
{
    char name[4096];
    uint8_t *bytes = malloc(size + 1);
    FILE *file;
    snprintf(name, sizeof name, "%s/%s", folder, path);
    file = fopen(name, "rb");
    assert(file && bytes && fread(bytes, 1, size + 1, file) == size);
    fclose(file);
    return bytes;
}

/* Each memory has the size the header says; each layer's activation memory is made again from its codes, read
   out of the vectors by the layout the header's comment gives, and its outputs are printed. */
int main(int argc, char **argv)
{
    size_t i;
    assert(argc == 2);
    for (i = 0; i < sizeof NAME_memories / sizeof *NAME_memories; i++)
        free(blob(argv[1], NAME_memories[i].file, (size_t)NAME_memories[i].words * NAME_memories[i].bytes));
    for (i = 0; i < sizeof NAME_layers / sizeof *NAME_layers; i++) {
        const struct bbs_layer *layer = &NAME_layers[i];
        char path[512];
        size_t size = (size_t)layer->activation_words * UPPER_BYTES_ACTIVATION;
        uint8_t *given, *again = calloc(size, 1), *output;
        uint32_t p, c;
        snprintf(path, sizeof path, "vectors/%s/codes.bin", layer->vectors);
        given = blob(argv[1], path, (size_t)layer->groups * layer->positions * layer->reduction);
        for (c = 0; c < layer->groups; c++)
            for (p = 0; p < layer->positions * layer->reduction; p++)
                bbs_put_activation(layer, again, UPPER_BYTES_ACTIVATION, c, p / layer->reduction, p % layer->reduction,
                                   (int8_t)given[(size_t)c * layer->positions * layer->reduction + p]);
        free(given);
        snprintf(path, sizeof path, "vectors/%s/activation.bin", layer->vectors);
        given = blob(argv[1], path, size);
        assert(!memcmp(given, again, size));
        snprintf(path, sizeof path, "vectors/%s/output.expected.bin", layer->vectors);
        output = blob(argv[1], path, (size_t)layer->output_words * UPPER_BYTES_OUTPUT);
        printf("%s\n", layer->vectors);
        for (p = 0; p < layer->positions; p++)
            for (c = 0; c < layer->channels; c++)
                printf("%d\n", (int)bbs_get_output(layer, output, UPPER_BYTES_OUTPUT, p, c));
        free(given), free(again), free(output);
    }
    return 0;
}
"""


@pytest.mark.parametrize("network", [residual_net, wide_net])
def test_the_c_header_reads_the_vectors(tmp_path: Path, network: Callable[[], onnx.ModelProto]) -> None:
    """A C program fills and reads the memories as the header says; the package's own layout agrees."""
    from flow.network import reference
    from flow.network.model import ArrayLayer
    from flow.network.run import run_network
    from flow.onnxtools.runtime import Sessions
    from flow.output.build import read
    from flow.simulation.results import expected_rows

    elsewhere = tmp_path / "out"
    onnx.save(network(), str(tmp_path / "net.onnx"))
    assert flow.compile(tmp_path / "net.onnx", elsewhere, array=(3, 4), engine=quick_engine(), samples=1).passed
    name = header(elsewhere).stem
    build = read(elsewhere)
    wanted: dict[str, list[int]] = {}

    def take(layer: ArrayLayer, tensor: np.ndarray) -> np.ndarray:
        place = elsewhere / "vectors" / layer_folder(layer.name, len(wanted))
        codes = layer.input_quantization.to_int8(tensor)
        (place / "codes.bin").write_bytes(np.ascontiguousarray(reference.windows(layer, codes)).tobytes())
        wanted[place.name] = expected_rows(layer, codes).reshape(-1).tolist()
        return reference.run_layer(layer, tensor)

    run_network(build.compressed.network, build.samples.one(0), take, Sessions())
    kinds = {(layer.groups > 1, layer.output_quantization is None) for layer in build.compressed.network.layers}
    assert len(kinds) > 1  # a convolution in groups, or a layer of 32-bit sums, too
    source = PROGRAM.replace("HEADER", f"{name}.h").replace("NAME", name).replace("UPPER", name.upper())
    program = compiled(source, tmp_path, [elsewhere])
    printed = subprocess.run([program, str(elsewhere)], capture_output=True, text=True, check=True).stdout.split()
    got: dict[str, list[int]] = {}
    for word in printed:
        if word in wanted:
            got[word] = []
        else:
            got[list(got)[-1]].append(int(word))
    assert got == wanted


def test_a_driver_places_the_memories(built: Path, tmp_path: Path) -> None:
    """Each memory has room for the layer with most words."""
    ports, files = memory_ports(ArrayConfig(3, 4)), []
    for port in ports:
        name = {"activation": "activation", "output": "output.expected"}.get(port.name)
        made = [folder / f"{name}.bin" for folder in layers(built)] if name else [built / "memory" / f"{port.name}.bin"]
        files.append(max(made, key=lambda file: file.stat().st_size))
    placed = check_driver(built, tmp_path, files, ports, network=False)
    page = (built / "firmware" / "axi" / "registers.md").read_text()
    rows = re.findall(r"^\| `(0x[0-9a-f]{3})` \| `(\w+)` \|", page, re.MULTILINE)
    there = registers(ports)
    every = [*there.items(), *(item for item in register_map().items() if item[0] not in there)]
    assert [(name, int(at, 16)) for at, name in rows] == [(name, register.offset) for name, register in every]
    assert sorted(set(register_map()) - set(there)) == ["entry_base", "entry_base_high", "entry_stalls"]
    rows = re.findall(r"^\| `(0x[0-9a-f]{8})` \| `0x[0-9a-f]{8}` \| (\w+) \| (\d+) \|", page, re.MULTILINE)
    assert [(name, int(at, 16), int(words)) for at, name, words in rows] == [
        (region.name, region.offset, region.words) for region in placed
    ]
    assert "The whole network" not in page


FENCES = r"""
#include <stdint.h>
#include <stdio.h>

static uint32_t read_register(const volatile uint32_t *address);
static void write_register(volatile uint32_t *address, uint32_t value);
#define BBS_BARRIER() (void)printf("barrier ")
#define BBS_FENCE() (void)printf("fence ")
#define BBS_READ32(address) read_register(address)
#define BBS_WRITE32(address, value) write_register(address, value)
#include "HEADER"

static uint32_t device[1024], polls;

static uint32_t read_register(const volatile uint32_t *address)
{
    printf("r%02x ", (unsigned)((address - device) * 4));
    return address == device + BBS_REG_STATUS / 4 && ++polls == 4 ? BBS_STATUS_DONE_MASK : *address;
}

static void write_register(volatile uint32_t *address, uint32_t value)
{
    printf("w%02x ", (unsigned)((address - device) * 4));
    *address = value;
}

int main(void)
{
    if (bbs_axi_start(device, 0, 1, 0) != BBS_OK)
        return 1;
    printf("\n");
    return bbs_axi_wait(device) != 0;
}
"""

ORDER = r"""
#define _DEFAULT_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include "HEADER"

static uint8_t *window, output[4096];

/* The accelerator: the driver's look at its status is stopped, and the run ends, its results in memory. */
static void looked(int number)
{
    (void)number;
    mprotect(window, 4096, PROT_READ | PROT_WRITE);
    memset(output, 0x91, sizeof output);
    *(uint32_t *)(void *)(window + BBS_REG_STATUS) = BBS_STATUS_DONE_MASK;
}

int main(void)
{
    volatile uint32_t *device;
    uint8_t before, after;
    signal(SIGSEGV, looked);
    window = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    device = (volatile uint32_t *)(void *)window;
    before = output[0];
    bbs_axi_wait(device);
    after = output[0];
    printf("%02x %02x\n", before, after);
    return 0;
}
"""


def test_memory_is_written_before_a_start_and_read_after_the_end(built: Path, tmp_path: Path) -> None:
    """Compiler and processor are told so; where the compiler is not, it reads what was there before the run."""

    def printed(source: str, *options: str) -> str:
        program = compiled(source.replace("HEADER", header(built).name), tmp_path, [built], options)
        return subprocess.run([program], capture_output=True, text=True, check=True).stdout

    at = {name: f"{register.offset:02x}" for name, register in register_map().items()}
    start, wait = printed(FENCES).splitlines()
    assert start.split() == [
        f"r{at['status']}", f"w{at['command']}", "barrier", "fence", "barrier", f"w{at['control']}"
    ]  # fmt: skip
    assert wait.split() == [*[f"r{at['status']}"] * 4, f"w{at['status']}", "barrier", "fence", "barrier"]
    for options in ((), ("-DBBS_FENCE()=",), ("-DBBS_BARRIER()=",)):
        assert printed(ORDER, "-O2", *options) == "00 91\n", options
    assert printed(ORDER, "-O2", "-DBBS_FENCE()=", "-DBBS_BARRIER()=") == "00 00\n"


def test_verify_lists_what_differs(elsewhere: Path) -> None:
    files, differences = flow.verify(elsewhere)
    assert not differences.any
    assert files == len(json.loads((elsewhere / "manifest.json").read_text())["sha256"])
    (elsewhere / "memory" / "weight.bin").write_bytes(b"")
    (elsewhere / "report.html").unlink()
    (elsewhere / "vectors" / "new").write_text("")
    (elsewhere / "vectors" / "link").symlink_to("/etc/hostname")
    _, differences = flow.verify(elsewhere)
    assert differences.changed == ("memory/weight.bin",)
    assert differences.missing == ("report.html",)
    assert differences.additional == ("vectors/link", "vectors/new")
