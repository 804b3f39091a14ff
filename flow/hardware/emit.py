"""Emits an accelerator as Verilog and VHDL, and describes it to the simulation engines."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from myhdl import Signal, intbv

from flow.engines.base import ERROR_BITS, Device, MemoryPort
from flow.hardware.accelerator import accelerator
from flow.hardware.config import DESCRIPTOR_BITS, INDEX_BITS, PARAMETER_BITS, ArrayConfig
from flow.hardware.hierarchy import Module, export, forgotten


def memory_ports(config: ArrayConfig) -> tuple[MemoryPort, ...]:
    """The accelerator's memory ports, in the order of its port list."""
    return (
        MemoryPort("descriptor", DESCRIPTOR_BITS),
        MemoryPort("weight", config.weight_bits),
        MemoryPort("metadata", config.metadata_bits),
        MemoryPort("activation", config.activation_bits),
        MemoryPort("parameter", PARAMETER_BITS * config.lanes),
        MemoryPort("index", INDEX_BITS * config.lanes),
        MemoryPort("output", 8 * config.rows, config.lanes),
    )


def device(config: ArrayConfig, verilog: Sequence[Path], vhdl: Sequence[Path]) -> Device:
    """The accelerator as the engines take it, with its files in compile order."""

    def build(**signals: Any) -> Any:
        return accelerator(**signals, config=config)

    return Device(config.name, tuple(verilog), tuple(vhdl), memory_ports(config), build)


def emit(config: ArrayConfig, folder: Path) -> Device:
    """Write `folder`/verilog and `folder`/vhdl, one file per module, and return the device."""
    with forgotten():
        verilog = export(_fresh(config), config.name, folder / "verilog", "verilog")
        vhdl = export(_fresh(config), config.name, folder / "vhdl", "vhdl")
    return device(config, verilog, vhdl)


@cache
def modules(config: ArrayConfig) -> dict[str, Module]:
    """The modules of the Verilog by name, to simulate one by one."""
    found: dict[str, Module] = {}
    with tempfile.TemporaryDirectory() as scratch, forgotten():
        export(_fresh(config), config.name, Path(scratch), "verilog", found)
    return found


def _fresh(config: ArrayConfig) -> Callable[[], Any]:
    """What makes the top block on Signals of its own."""
    ports = memory_ports(config)

    def fresh() -> Any:
        widths = {"clk": 1, "reset": 1, "start": 1, "first": 16, "count": 16, "busy": 1, "done": 1, "error": ERROR_BITS}
        single = {"clk", "reset", "start", "busy", "done"}
        for port in ports:
            widths.update(port.signals)
            single |= port.flags
        return accelerator(
            **{name: Signal(bool(0)) if name in single else Signal(intbv(0)[width:]) for name, width in widths.items()},
            config=config,
        )

    return fresh
