"""Emits an accelerator as Verilog and VHDL, and describes it to the simulation engines."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from myhdl import Signal, intbv

from flow.hardware.accelerator import accelerator
from flow.hardware.axi.bus import AxiConfig
from flow.hardware.axi.top import axi_accelerator, wires
from flow.hardware.config import ArrayConfig, memory_ports
from flow.hardware.conversion.hierarchy import Language, Module, export, forgotten
from flow.hardware.interface import ERROR_BITS, Device


@dataclass(frozen=True)
class Wrapper:
    """The accelerator behind AXI: its top module, and all files in compile order, the accelerator's included."""

    axi: AxiConfig
    name: str
    files: tuple[Path, ...]
    vhdl_files: tuple[Path, ...]


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


def emit_wrapped(config: ArrayConfig, axi: AxiConfig, folder: Path) -> tuple[Device, Wrapper]:
    """As `emit`, with the wrapper around it."""
    with forgotten():
        verilog = _export_wrapped(config, axi, folder / "verilog", "verilog")
        vhdl = _export_wrapped(config, axi, folder / "vhdl", "vhdl")
    inner = [files[: 1 + [file.stem for file in files].index(config.name)] for files in (verilog, vhdl)]
    return device(config, *inner), Wrapper(axi, wrapped_name(config), tuple(verilog), tuple(vhdl))


def wrapped_name(config: ArrayConfig) -> str:
    """The wrapper's top module."""
    return f"{config.name}_axi"


def _export_wrapped(
    config: ArrayConfig, axi: AxiConfig, folder: Path, language: Language, found: dict[str, Module] | None = None
) -> list[Path]:
    names = {accelerator.func.__name__: config.name}
    return export(_fresh_wrapped(config, axi), wrapped_name(config), folder, language, found, names)


@cache
def modules(config: ArrayConfig, axi: AxiConfig | None = None) -> dict[str, Module]:
    """The modules of the Verilog by name, to simulate one by one; with `axi` those of the wrapper, too."""
    found: dict[str, Module] = {}
    with tempfile.TemporaryDirectory() as scratch, forgotten():
        if axi is None:
            export(_fresh(config), config.name, Path(scratch), "verilog", found)
        else:
            _export_wrapped(config, axi, Path(scratch), "verilog", found)
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


def _fresh_wrapped(config: ArrayConfig, axi: AxiConfig) -> Callable[[], Any]:
    """What makes the wrapper on Signals of its own."""

    def fresh() -> Any:
        return axi_accelerator(**wires(axi), config=config, axi=axi)

    return fresh
