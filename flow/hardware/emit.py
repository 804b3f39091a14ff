"""Emits an accelerator as Verilog and VHDL, and describes it to the simulation engines."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, astuple, dataclass
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flow.cache import kept, made
from flow.errors import FlowError
from flow.files import cache_folder, fingerprint, scratch
from flow.hardware.accelerator import accelerator
from flow.hardware.axi.bus import AxiConfig
from flow.hardware.axi.top import build as build_wrapped
from flow.hardware.config import ArrayConfig, memory_ports
from flow.hardware.conversion.hierarchy import Language, Module, export, forgotten
from flow.hardware.element import element_of
from flow.hardware.interface import Device, bundled, top_signals

LANGUAGES: tuple[Language, ...] = ("verilog", "vhdl")


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
    verilog, vhdl = (_emitted(config, None, language).write(folder / language) for language in LANGUAGES)
    return device(config, verilog, vhdl)


def emit_wrapped(config: ArrayConfig, axi: AxiConfig, folder: Path) -> tuple[Device, Wrapper]:
    """As `emit`, with the wrapper around it."""
    emitted = {language: _emitted(config, axi, language) for language in LANGUAGES}
    verilog, vhdl = (emitted[language].write(folder / language) for language in LANGUAGES)
    inner = [files[: 1 + [file.stem for file in files].index(config.name)] for files in (verilog, vhdl)]
    ports = emitted["verilog"].ports
    return device(config, *inner), Wrapper(axi, wrapped_name(config), tuple(verilog), tuple(vhdl), ports)


@dataclass(frozen=True)
class _Emitted:
    """The files of a design, (name, text) in compile order, and in Verilog its top's ports."""

    files: tuple[tuple[str, str], ...]
    ports: tuple[Port, ...]

    @classmethod
    def read(cls, text: str) -> _Emitted:
        files, ports = json.loads(text)
        return cls(tuple((name, text) for name, text in files), tuple(Port(*port) for port in ports))

    @property
    def text(self) -> str:
        return json.dumps([self.files, [astuple(port) for port in self.ports]])

    def write(self, folder: Path) -> list[Path]:
        """The files, in the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in self.files:
            (folder / name).write_text(text)
        return [folder / name for name, _ in self.files]


def _emitted(config: ArrayConfig, axi: AxiConfig | None, language: Language) -> _Emitted:
    """A design in a language: out of the cache folder, where it is kept by all that it depends on, or converted.

    An array of another package, whose sources are not known here, is always converted; so is everything if there can
    be no cache folder.
    """
    try:
        array = element_of(config.pe).block
        if getattr(array, "func", array).__module__.partition(".")[0] != __name__.partition(".")[0]:
            return _converted(config, axi, language)
        folder = made(cache_folder(None).absolute())
    except FlowError:
        return _converted(config, axi, language)
    parts = [asdict(config), None if axi is None else asdict(axi), language]
    makers = [fingerprint(), version("myhdl"), platform.python_version()]
    key = hashlib.sha256(json.dumps([*parts, *makers]).encode()).hexdigest()[:24]
    try:
        return _Emitted.read(kept(folder / f"emitted-{key}.json", lambda: _converted(config, axi, language).text))
    except OSError:  # the disk is full, or the folder not ours to write
        return _converted(config, axi, language)


def _converted(config: ArrayConfig, axi: AxiConfig | None, language: Language) -> _Emitted:
    """The design as MyHDL converts it."""
    found: dict[str, Module] = {}
    with scratch() as folder, forgotten():
        if axi is None:
            files, name = _export(config, folder, language, found), config.name
        else:
            files, name = _export_wrapped(config, axi, folder, language, found), wrapped_name(config)
        texts = tuple((file.name, file.read_text()) for file in files)
    top = found[name]
    return _Emitted(texts, tuple(Port(name, len(signal), top.drives(name)) for name, signal in top.ports.items()))


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
