"""Simulation engines: one interface, four ways to run the device, the same bits and the same cycle count.

base.py        the contract of every engine: the device, its memories, one run and its result
testbench.py   self-checking Verilog and VHDL testbenches, also shipped with the generated design
verilator.py   the Verilog compiled by Verilator: whole networks (harness.cpp.j2 is its loop)
native.py      MyHDL's own simulator: always available, for small layers
icarus.py      the Verilog under Icarus Verilog
behind_axi.py  the Verilog behind AXI, with its testbench, under Verilator or Icarus Verilog
fst.py         what an FST file declares
ghdl.py        the VHDL under GHDL
waveform.py    reads back the waveforms of Verilator, Icarus and GHDL
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence

from flow.errors import FlowError
from flow.hardware.interface import Device, Memory, MemoryPort
from flow.programs import in_parallel
from flow.simulation.engines.base import Engine, Recorder, Result, Simulator
from flow.simulation.engines.ghdl import GhdlEngine
from flow.simulation.engines.icarus import IcarusEngine
from flow.simulation.engines.native import NativeEngine
from flow.simulation.engines.verilator import VerilatorEngine, compiler

__all__ = [
    "ENGINES",
    "Device",
    "Engine",
    "Memory",
    "MemoryPort",
    "Recorder",
    "Result",
    "Simulator",
    "open_all",
    "select",
]

log = logging.getLogger("flow")
ENGINES: dict[str, Engine] = {
    engine.name: engine for engine in (VerilatorEngine(), NativeEngine(), IcarusEngine(), GhdlEngine())
}


def select(name: str | None) -> tuple[Engine, list[str]]:
    """The engine with this name; without a name Verilator, or, where that is missing, MyHDL and a note that says why.

    FlowError if there is no such engine, or it is not installed.
    """
    if name is None:
        reason = ENGINES["verilator"].available()
        if reason is None:
            return ENGINES["verilator"], []
        if os.environ.get("CXX"):
            compiler()  # refused, not replaced
        note = f"Simulated by MyHDL, which is slow. {reason}."
        log.info("%s", note)
        return ENGINES["myhdl"], [note]
    if name not in ENGINES:
        raise FlowError(f"unknown engine '{name}'; choose one of {', '.join(ENGINES)}")
    reason = ENGINES[name].available()
    if reason is not None:
        raise FlowError(f"engine '{name}' cannot run here: {reason}")
    return ENGINES[name], []


def open_all(engine: Engine, devices: Sequence[Device], advance: Callable[[], None]) -> list[Simulator]:
    """A simulator for each device, built in parallel; `advance` is called after each."""

    def open_one(device: Device) -> Simulator:
        simulator = engine.open(device)
        advance()
        return simulator

    return in_parallel(open_one, devices, len(devices))
