"""Emits an accelerator as Verilog and VHDL, and describes it to the simulation engines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from flow.files import scratch
from flow.hardware.accelerator import accelerator
from flow.hardware.axi.bus import AxiConfig
from flow.hardware.axi.top import build as build_wrapped
from flow.hardware.config import ArrayConfig, memory_ports
from flow.hardware.conversion.hierarchy import Language, Module, export, forgotten
from flow.hardware.interface import Device, bundled, top_signals


@dataclass(frozen=True)
class Port:
    """A port of the wrapper: a bit, or a vector of more."""

    name: str
    bits: int
    output: bool


@dataclass(frozen=True)
class Wrapper:
    """The accelerator behind AXI: its top module, and all files in compile order, the accelerator's included.

    `ports` of the top are known where it was emitted.
    """

    axi: AxiConfig
    name: str
    files: tuple[Path, ...]
    vhdl_files: tuple[Path, ...]
    ports: tuple[Port, ...] = ()


def build(config: ArrayConfig, **signals: Any) -> Any:
    """The accelerator on Signals by the names of its ports."""
    return accelerator(signals["clk"], signals["reset"], *bundled(signals), config)


def device(config: ArrayConfig, verilog: Sequence[Path], vhdl: Sequence[Path]) -> Device:
    """The accelerator as the engines take it, with its files in compile order."""

    return Device(config.name, tuple(verilog), tuple(vhdl), memory_ports(config), partial(build, config))


def emit(config: ArrayConfig, folder: Path) -> Device:
    """Write `folder`/verilog and `folder`/vhdl, one file per module, and return the device.

    All names of modules, entities and packages begin with that of the top, so that several accelerators, and other
    libraries, may be read into one simulation.
    """
    with forgotten():
        verilog = _export(config, folder / "verilog", "verilog")
        vhdl = _export(config, folder / "vhdl", "vhdl")
    return device(config, verilog, vhdl)


def emit_wrapped(config: ArrayConfig, axi: AxiConfig, folder: Path) -> tuple[Device, Wrapper]:
    """As `emit`, with the wrapper around it."""
    found: dict[str, Module] = {}
    with forgotten():
        verilog = _export_wrapped(config, axi, folder / "verilog", "verilog", found)
        vhdl = _export_wrapped(config, axi, folder / "vhdl", "vhdl")
    inner = [files[: 1 + [file.stem for file in files].index(config.name)] for files in (verilog, vhdl)]
    top = found[wrapped_name(config)]
    ports = tuple(Port(name, len(signal), top.drives(name)) for name, signal in top.ports.items())
    return device(config, *inner), Wrapper(axi, top.name, tuple(verilog), tuple(vhdl), ports)


def wrapped_name(config: ArrayConfig) -> str:
    """The wrapper's top module."""
    return f"{config.name}_axi"


def _export(
    config: ArrayConfig, folder: Path, language: Language, found: dict[str, Module] | None = None
) -> list[Path]:
    return export(_fresh(config), config.name, folder, language, found, prefix=config.name)


def _export_wrapped(
    config: ArrayConfig, axi: AxiConfig, folder: Path, language: Language, found: dict[str, Module] | None = None
) -> list[Path]:
    names = {accelerator.func.__name__: config.name}
    build = partial(build_wrapped, config, axi)
    return export(build, wrapped_name(config), folder, language, found, names, prefix=config.name)


@cache
def modules(config: ArrayConfig, axi: AxiConfig | None = None) -> dict[str, Module]:
    """The modules of the Verilog by name, to simulate one by one; with `axi` those of the wrapper, too."""
    found: dict[str, Module] = {}
    with scratch() as scratch_folder, forgotten():
        if axi is None:
            _export(config, scratch_folder, "verilog", found)
        else:
            _export_wrapped(config, axi, scratch_folder, "verilog", found)
    return found


def _fresh(config: ArrayConfig) -> Callable[[], Any]:
    """What makes the top block on Signals of its own."""
    ports = memory_ports(config)
    return lambda: build(config, **top_signals(ports))
