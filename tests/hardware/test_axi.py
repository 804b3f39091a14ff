"""The accelerator behind AXI: cocotb with third-party bus models, in Verilator and Icarus Verilog.

What is checked is in axi_bench.py, and in axi_network_bench.py for networks on chip.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from flow.errors import FlowError
from flow.hardware.axi.bus import AxiConfig, fitting_bits
from flow.hardware.config import ArrayConfig
from flow.hardware.emit import emit_wrapped
from tests.helpers.layers import TINY
from tests.helpers.networks import on_chip
from tests.helpers.tools import require_engine, require_tool, verilator

BENCH, NETWORK_BENCH = "axi_bench", "axi_network_bench"


@pytest.mark.parametrize(
    ("config", "bits"),
    [
        (ArrayConfig(1, 32), 32), (ArrayConfig(2, 32), 64), (ArrayConfig(3, 1), 128), (ArrayConfig(64, 64), 128),
        (ArrayConfig(1, 4, pe="pairs", columns_per_cycle=2), 64), (ArrayConfig(4, 4, pe="dense"), 32),
        (ArrayConfig(8, 4, pe="dense"), 64), (ArrayConfig(16, 4, pe="parallel"), 128),
    ],
)  # fmt: skip
def test_a_bus_that_fits_the_array(config: ArrayConfig, bits: int) -> None:
    """A step's activations, rows * step bytes, over its cycles: 4 of pruned weights, 8 of whole ones; 128 at most."""
    assert fitting_bits(config) == bits


@dataclass(frozen=True)
class Case:
    """An accelerator, its bus, the simulator; how many layers run one after the other, how many behind stalls.

    With a `network` the accelerator has the feature maps of this kind of network, which runs, too.
    """

    config: ArrayConfig
    axi: AxiConfig
    simulator: str
    layers: int
    stalled: int
    network: str = ""

    @property
    def benches(self) -> tuple[str, ...]:
        return (BENCH, NETWORK_BENCH) if self.network else (BENCH,)

    @property
    def checks(self) -> list[str]:
        """The names of what the benches check."""
        texts = [Path(__file__).with_name(f"{bench}.py").read_text() for bench in self.benches]
        return [name for text in texts for name in re.findall(r"@cocotb\.test\(\)\nasync def (\w+)", text)]


CASES = {
    "64 bits": Case(ArrayConfig(2, 3, **TINY, drain=2), AxiConfig(), "verilator", 500, 12),
    "128 bits": Case(ArrayConfig(3, 2, "dense", **TINY, drain=1), AxiConfig(128, 40, 4), "icarus", 10, 2),
    "32 bits": Case(ArrayConfig(2, 3, **TINY, drain=3), AxiConfig(32, 32, 1), "verilator", 200, 6),
    "on chip": Case(ArrayConfig(2, 3, **TINY, drain=2), AxiConfig(), "verilator", 10, 2, "residual"),
}

QUICK = "128 bits"


RUNTIME = ("verilated", "verilated_dpi", "verilated_vpi", "verilated_threads")
COMPILE = (
    "-std=gnu++17", "-pthread", "-w", "-DVERILATOR=1", "-DVM_COVERAGE=0", "-DVM_SC=0", "-DVM_TIMING=0", "-DVM_TRACE=0",
    "-DVM_TRACE_FST=0", "-DVM_TRACE_VCD=0", "-DVM_TRACE_SAIF=0",
)  # fmt: skip


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, str]]:
    """failures(case): its checks by name, each with how it failed, or ""; each case runs once."""
    compiler = Compiler(tmp_path_factory.mktemp("runtime"))

    @cache
    def run(name: str) -> dict[str, str]:
        require_engine(CASES[name].simulator)
        if importlib.util.find_spec("cocotbext") is None:
            assert not os.environ.get("CI")
            pytest.skip("cocotbext-axi is not installed")
        return run_bench(CASES[name], tmp_path_factory.mktemp("axi"), compiler)

    return run


@dataclass
class Compiler:
    """Compiles Verilog with Verilator for cocotb, whose makefile would compile Verilator's own files for each design.

    They lie in `folder`, compiled once. Files are joined, so that headers are read once; those that run seldom, of
    which Verilator says so by their name, are not optimised, for that takes long.
    """

    folder: Path

    def build(self, files: Sequence[Path], top: str, target: Path) -> None:
        from cocotb_tools import config

        program, environment = verilator()
        options = ["--cc", "--vpi", "--public-flat-rw", "--prefix", "Vtop", "--top-module", top, "--Mdir", str(target)]
        quiet = ["-Wno-fatal", "-Wno-lint", "-Wno-style"]
        subprocess.run([program, *options, *quiet, *map(str, files)], env=environment, check=True)
        root = (
            environment.get("VERILATOR_ROOT")
            or subprocess.run(
                [program, "--getenv", "VERILATOR_ROOT"], capture_output=True, text=True, check=True
            ).stdout.strip()
        )
        include = Path(root) / "include"
        runtime = self.folder / "runtime.o"
        if not runtime.exists():
            self._compile([include / f"{name}.cpp" for name in RUNTIME], "-O1", runtime, [include])
        slow = sorted(target.glob("Vtop*Slow.cpp"))
        fast = [
            config.share_dir / "lib" / "verilator" / "verilator.cpp",
            *sorted(set(target.glob("Vtop*.cpp")) - set(slow)),
        ]
        objects = [target / "slow.o", target / "fast.o"]
        for sources, level, output in zip((slow, fast), ("-O0", "-O1"), objects, strict=True):
            self._compile(sources, level, output, [target, include])
        libraries = [
            f"-Wl,-rpath,{config.libs_dir}",
            f"-L{config.libs_dir}",
            "-lcocotbvpi_verilator",
        ]
        linked = ["g++", "-pthread", *map(str, [*objects, runtime]), *libraries, "-o", str(target / top)]
        subprocess.run(linked, check=True)

    def _compile(self, sources: Sequence[Path], level: str, output: Path, include: Sequence[Path]) -> None:
        joined = output.with_suffix(".cpp")
        joined.write_text("".join(f'#include "{file}"\n' for file in sources))
        places = [f"-I{each}" for folder in include for each in (folder, folder / "vltstd")]
        subprocess.run(["g++", level, *COMPILE, *places, "-c", str(joined), "-o", str(output)], check=True)


def run_bench(case: Case, folder: Path, compiler: Compiler) -> dict[str, str]:
    """Runs the benches in one process of the simulator."""
    from cocotb_tools.runner import get_runner

    require_tool("g++" if case.simulator == "verilator" else "vvp")
    config = on_chip(case.network, case.config)[1].config if case.network else case.config
    _, wrapper = emit_wrapped(config, case.axi, folder)
    runner: Any = get_runner(case.simulator)
    parameters = {
        "CONFIG": json.dumps(asdict(config)), "AXI": json.dumps(asdict(case.axi)), "NETWORK": case.network,
        "LAYERS": str(case.layers), "STALLED": str(case.stalled),
    }  # fmt: skip
    place = folder / "build"
    if case.simulator == "verilator":
        place.mkdir()
        compiler.build(wrapper.files, wrapper.name, place)
    else:
        runner.build(sources=list(wrapper.files), hdl_toplevel=wrapper.name, build_dir=place)
    with suppress(SystemExit):  # what failed is in the results
        runner.test(
            hdl_toplevel=wrapper.name,
            hdl_toplevel_lang="verilog",
            test_module=[f"tests.hardware.{bench}" for bench in case.benches],
            build_dir=place,
            extra_env=parameters,
            results_xml=str(folder / "results.xml"),
        )
    found = {}
    for element in ElementTree.parse(folder / "results.xml").iter("testcase"):
        wrong = [child for child in element if child.tag in ("failure", "error")]
        found[str(element.get("name"))] = "".join(f"{child.attrib} {child.text}" for child in wrong)
    return found


@pytest.mark.parametrize(
    ("case", "check"),
    [
        pytest.param(name, check, marks=[] if name == QUICK else [pytest.mark.full])
        for name, case in CASES.items()
        for check in case.checks
    ],
)
def test_behind_axi(case: str, check: str, failures: Callable[[str], dict[str, str]]) -> None:
    """Registers, random layers, stalls on all channels, reset, wrong descriptors, bus errors, interrupts, a network."""
    assert not failures(case)[check]


@pytest.mark.parametrize(
    ("bus", "message"),
    [
        ({"data_bits": 48}, "a bus of 48 bits cannot be built: give --bus 32, 64"),
        ({"address_bits": 31}, "addresses of 31 bits cannot be built: give --address-bits 32 to 64"),
        ({"data_bits": 512, "burst": 65}, "bursts of 65 beats cannot be built: give 1 to 64 on a bus of 512 bits"),
    ],
)
def test_what_cannot_be_built_is_refused(bus: dict[str, int], message: str) -> None:
    with pytest.raises(FlowError, match=message):
        AxiConfig(**bus)
