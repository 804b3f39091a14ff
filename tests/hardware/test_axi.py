"""The accelerator behind AXI: cocotb with third-party bus models, in Verilator and Icarus Verilog.

What is checked is in axi_bench.py, and in axi_network_bench.py for networks on chip.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from flow.errors import FlowError
from flow.hardware.axi.bus import AxiConfig
from flow.hardware.config import ArrayConfig
from flow.hardware.emit import emit_wrapped
from tests.helpers.layers import TINY
from tests.helpers.networks import on_chip
from tests.helpers.tools import require_engine, require_tool, verilator

BENCH, NETWORK_BENCH = "axi_bench", "axi_network_bench"


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


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, str]]:
    """failures(case): its checks by name, each with how it failed, or ""; each case runs once."""

    @cache
    def run(name: str) -> dict[str, str]:
        require_engine(CASES[name].simulator)
        if importlib.util.find_spec("cocotbext") is None:
            assert not os.environ.get("CI")
            pytest.skip("cocotbext-axi is not installed")
        return run_bench(CASES[name], tmp_path_factory.mktemp("axi"))

    return run


def run_bench(case: Case, folder: Path) -> dict[str, str]:
    """Runs the benches in one process of the simulator."""
    from cocotb_tools.runner import get_runner

    require_tool("make" if case.simulator == "verilator" else "vvp")
    config = on_chip(case.network, case.config)[1].config if case.network else case.config
    _, wrapper = emit_wrapped(config, case.axi, folder)
    runner: Any = get_runner(case.simulator)
    quiet = ["-Wno-fatal", "-Wno-lint", "-Wno-style", "-CFLAGS", "-std=gnu++20", "-MAKEFLAGS", "OPT_FAST=-O1"]
    parameters = {
        "CONFIG": json.dumps(asdict(config)), "AXI": json.dumps(asdict(case.axi)), "NETWORK": case.network,
        "LAYERS": str(case.layers), "STALLED": str(case.stalled),
    }  # fmt: skip
    with simulators_on_path():
        runner.build(
            sources=list(wrapper.files),
            hdl_toplevel=wrapper.name,
            build_dir=folder / "build",
            build_args=quiet if case.simulator == "verilator" else [],
        )
        with suppress(SystemExit):  # what failed is in the results
            runner.test(
                hdl_toplevel=wrapper.name,
                test_module=[f"tests.hardware.{bench}" for bench in case.benches],
                build_dir=folder / "build",
                extra_env=parameters,
                results_xml=str(folder / "results.xml"),
            )
    found = {}
    for element in ElementTree.parse(folder / "results.xml").iter("testcase"):
        wrong = [child for child in element if child.tag in ("failure", "error")]
        found[str(element.get("name"))] = "".join(f"{child.attrib} {child.text}" for child in wrong)
    return found


@contextmanager
def simulators_on_path() -> Iterator[None]:
    """Verilator as the engines have it: the package's program, whose makefiles lack a variable."""
    before = dict(os.environ)
    program, environment = verilator()
    path = f"{Path(program).parent}{os.pathsep}{environment['PATH']}"
    os.environ.update(environment | {"PATH": path, "MAKEFLAGS": "CFG_CXXFLAGS_PCH_I=-include"})
    os.environ.pop("CXXFLAGS", None)  # these benches run for long
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


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
