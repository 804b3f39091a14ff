"""The accelerator behind AXI, simulated as every build does: what is right passes, and what is wrong is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flow.errors import FlowError
from flow.hardware.axi.bus import AxiConfig
from flow.hardware.config import ArrayConfig
from flow.hardware.emit import Wrapper, emit_wrapped
from flow.simulation.cosim import cycle_limit
from flow.simulation.engines.base import Command, DeviceError, Result
from flow.simulation.engines.behind_axi import Wrapped, engine_behind_axi
from flow.simulation.engines.icarus import IcarusEngine
from flow.simulation.engines.verilator import VerilatorEngine
from tests.helpers.layers import TINY, Job, broken, random_job
from tests.helpers.tools import require_engine

CONFIG = ArrayConfig(2, 3, **TINY, drain=2)


@pytest.fixture(scope="module")
def wrapper(tmp_path_factory: pytest.TempPathFactory) -> Wrapper:
    require_engine("icarus")
    return emit_wrapped(CONFIG, AxiConfig(), tmp_path_factory.mktemp("axi"))[1]


def run(wrapper: Wrapper, work: Job, engine: str = "icarus") -> Result:
    command = Command(work.scheduled.first, len(work.scheduled.blocks), cycle_limit(work.scheduled, CONFIG))
    return Wrapped(wrapper, CONFIG, engine).run(work.memories, command, len(work.want))


def changed(wrapper: Wrapper, old: str, new: str, folder: Path, module: str = "_axi") -> Wrapper:
    """The wrapper with `old` replaced in the file of its top module, or of another module."""
    core = wrapper.name.removesuffix("_axi")
    top = next(file for file in wrapper.files if file.stem == core + module)
    text = top.read_text()
    assert old in text
    target = folder / top.name
    target.write_text(text.replace(old, new))
    return replace(wrapper, files=tuple(target if file == top else file for file in wrapper.files))


@pytest.mark.parametrize("seed", [3, 11])
def test_a_layer_behind_axi(wrapper: Wrapper, seed: int) -> None:
    """Twice the same, to the cycle."""
    work = random_job(seed, CONFIG, small=seed == 3)
    first, second = run(wrapper, work), run(wrapper, work)
    assert np.array_equal(first.memories["output"], work.want)
    assert first.cycles == second.cycles > 0 and np.array_equal(second.memories["output"], work.want)


@pytest.mark.full
def test_verilator_agrees_with_icarus(wrapper: Wrapper) -> None:
    """One program for all layers of an accelerator; bits and cycles are those of Icarus Verilog."""
    require_engine("verilator")
    for seed in (3, 11, 5):
        work = random_job(seed, CONFIG, small=True)
        results = [run(wrapper, work, engine) for engine in ("verilator", "icarus")]
        assert all(np.array_equal(result.memories["output"], work.want) for result in results)
        assert results[0].cycles == results[1].cycles


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(m_axi_rdata)", "(m_axi_rdata ^ 4)"),  # a bit of what is read
        ("(m_axi_rid)", "(m_axi_rid ^ 1)"),  # another memory's words
        ("(m_axi_rvalid)", "(1'b1)"),  # words while none are there
        (".wstrb(m_axi_wstrb)", ".wstrb()"),  # nothing is written
    ],
)
def test_a_mistake_is_caught(wrapper: Wrapper, old: str, new: str, tmp_path: Path) -> None:
    work = random_job(11, CONFIG)
    try:
        result = run(changed(wrapper, old, new, tmp_path), work)
    except DeviceError:
        return
    assert not np.array_equal(result.memories["output"], work.want)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (".araddr(m_axi_araddr)", ".araddr(), .unused(m_axi_araddr)", "cannot"),
        ("(m_axi_arready)", "(1'b1)", "changed before it was taken"),
        ("(m_axi_wready)", "(1'b1)", "changed before it was taken"),
        ("(s_axil_rready)", "(1'b1)", "changed before it was taken"),
    ],
)
def test_a_broken_rule_of_the_bus_is_named(wrapper: Wrapper, old: str, new: str, words: str, tmp_path: Path) -> None:
    """What the device offers holds until it is taken. What no simulator reads is no result."""
    work = random_job(3, CONFIG, small=True)
    with pytest.raises(FlowError if words == "cannot" else DeviceError) as caught:
        run(changed(wrapper, old, new, tmp_path), work)
    assert words == "cannot" or words in str(caught.value)


def test_a_missing_reset_is_named(wrapper: Wrapper, tmp_path: Path) -> None:
    """What is unknown at a handshake does not count as none."""
    reset = "shown <= 1'b0;\n    end\n    else"
    with pytest.raises(DeviceError, match="a signal of a handshake is unknown"):
        run(changed(wrapper, reset, "end\n    else", tmp_path, "_axi_lite"), random_job(3, CONFIG, small=True))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("stops <= 1'b1;", ";", "the register at"),  # an ended run goes on within
        ("(cycles >= {32'd0, limit})", "(cycles >= {24'd0, limit, 8'd0})", "the register at"),  # a late watchdog
        ("code <= error;", ";", "the register at"),  # an error has no code
        ("pending <= pending + 32'd1;", ";", "no interrupt by"),  # what the bus owes an ended run
    ],
)  # fmt: skip
def test_runs_that_end_early_leave_the_next_one_right(
    wrapper: Wrapper, old: str, new: str, words: str, tmp_path: Path
) -> None:
    """Before the run that counts, one ends by the watchdog, one by the host, one by an error."""
    with pytest.raises(DeviceError, match=words):
        run(changed(wrapper, old, new, tmp_path, "_axi_control"), random_job(3, CONFIG, small=True))


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("_axi_register", "if (strobe[1])", "if (!strobe[1])"),  # a byte that the run does not need
        ("_axi_register_1", "data[15:8] & 8'd240", "data[15:8] & 8'd208"),  # a bit of an address
        ("_axi_control", "if (write && (write_index == 10'd3)", "if (!(write && (write_index == 10'd3))"),  # interrupt
        ("_guard", "if (count == 16'd0)", "if (count == 16'd1)"),  # a command of no descriptors
    ],
)
def test_registers_are_judged_beyond_what_the_run_needs(
    wrapper: Wrapper, module: str, old: str, new: str, tmp_path: Path
) -> None:
    with pytest.raises(DeviceError, match="the register at|no interrupt by"):
        run(changed(wrapper, old, new, tmp_path, module), random_job(3, CONFIG, small=True))


def test_writes_stand_still_until_the_accelerator_waits(wrapper: Wrapper, tmp_path: Path) -> None:
    """Else a write-back that goes on when nothing takes its words would pass."""
    wrong = changed(wrapper, "(output_ready || (shown == ", "(output_ready || (shown != ", tmp_path, "_write_back")
    work = random_job(0, CONFIG)  # a tile is finished while the one before waits to be written
    assert not np.array_equal(run(wrong, work).memories["output"], work.want)


def test_an_error_has_its_code_and_meaning(wrapper: Wrapper) -> None:
    work, error = broken(random_job(3, CONFIG, small=True), 0, CONFIG, tiles=0)
    with pytest.raises(DeviceError, match=rf"error \d+ at cycle \d+ \({error}: "):
        run(wrapper, work)


@pytest.mark.parametrize(
    ("chosen", "brief", "there", "engine"),
    [
        ("verilator", False, {"verilator", "icarus"}, "verilator"),
        ("verilator", True, {"verilator", "icarus"}, "icarus"),
        ("verilator", True, {"verilator"}, "verilator"),
        ("icarus", False, {"verilator", "icarus"}, "icarus"),
        ("myhdl", True, {"verilator", "icarus"}, "icarus"),
        ("ghdl", False, {"icarus"}, "icarus"),
        ("myhdl", False, set[str](), None),
    ],
)
def test_the_engine_is_the_one_chosen_or_one_that_is_there(
    chosen: str, brief: bool, there: set[str], engine: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in (VerilatorEngine, IcarusEngine):
        monkeypatch.setattr(kind, "available", lambda self: None if self.name in there else "missing")
    assert engine_behind_axi(chosen, brief) == engine
