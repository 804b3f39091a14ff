"""The accelerator as others see it: memories, memory ports, and the device with its files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from myhdl import ResetSignal, Signal, intbv
from numpy.typing import NDArray

from flow.hardware.conversion.bundles import bits, flag, fresh, gathered

Memory = NDArray[np.uint8]
ADDRESS_BITS = 32
COMMAND_BITS = 16
ERROR_BITS = 4


@dataclass(frozen=True)
class MemoryPort:
    """One memory port of a device: words of `width` bits, read if `lanes` is 0, else so many write lanes."""

    name: str
    width: int
    lanes: int = 0

    def __post_init__(self) -> None:
        # Verilator, VHDL and ctypes all have to spell the name the same way: no double or trailing
        # underscore.
        assert re.fullmatch(r"[a-z](_?[a-z0-9])*", self.name), f"port name {self.name!r}"
        assert self.width >= 1 and self.lanes >= 0, self

    @property
    def bytes(self) -> int:
        """Bytes of one word in a Memory."""
        return (self.width + 7) // 8

    @property
    def signals(self) -> dict[str, int]:
        """Name and width of every signal of this port, in the order of the port list."""
        if self.lanes:
            sizes = {
                "valid": self.lanes,
                "addr": ADDRESS_BITS * self.lanes,
                "data": self.width * self.lanes,
                "ready": 1,
            }
        else:
            sizes = {"en": 1, "addr": ADDRESS_BITS, "ready": 1, "valid": 1, "data": self.width}
        return {f"{self.name}_{part}": size for part, size in sizes.items()}

    @property
    def flags(self) -> frozenset[str]:
        """Names of the signals that are a bit, not a vector of width 1."""
        parts = ("ready",) if self.lanes else ("en", "ready", "valid")
        return frozenset(f"{self.name}_{part}" for part in parts)


@dataclass(frozen=True)
class Host:
    """The command and how it goes on; the accelerator drives `busy`, `done` and `error`."""

    start: Any = flag()
    first: Any = bits(COMMAND_BITS)
    count: Any = bits(COMMAND_BITS)
    busy: Any = flag()
    done: Any = flag()
    error: Any = bits(ERROR_BITS)


@dataclass(frozen=True)
class ReadPort:
    """A memory port that reads: the memory drives `ready`, `valid`, `data`. An unused signal is None."""

    en: Any = flag()
    addr: Any = bits(ADDRESS_BITS)
    ready: Any = flag()
    valid: Any = flag()
    data: Any = bits()


@dataclass(frozen=True)
class WritePort:
    """A memory port that writes, with lanes: the memory drives `ready`."""

    valid: Any = bits()
    addr: Any = bits()
    data: Any = bits()
    ready: Any = flag()


@dataclass(frozen=True)
class Memories:
    """All memory ports of an accelerator; `entry` with feature maps only."""

    descriptor: ReadPort
    weight: ReadPort
    metadata: ReadPort
    activation: ReadPort
    parameter: ReadPort
    index: ReadPort
    output: WritePort
    entry: ReadPort | None = None


def top_signals(ports: Sequence[MemoryPort]) -> dict[str, Any]:
    """Fresh Signals for every port of a device's top, by name: what `Device.build` gets.

    clk, start, busy, done and the ports' `flags` are a `Signal(bool(0))`, reset is a synchronous active-high
    `ResetSignal`; all others are a `Signal(intbv(0)[width:])`, also where the width is 1.
    """
    made = {"clk": Signal(bool(0)), "reset": ResetSignal(0, active=1, isasync=False), **vars(fresh(Host))}
    for port in ports:
        for name, size in port.signals.items():
            made[name] = Signal(bool(0)) if name in port.flags else Signal(intbv(0)[size:])
    return made


def bundled(signals: Mapping[str, Any]) -> tuple[Host, Memories]:
    """The host's port and the memories' of such Signals."""
    kinds: dict[str, Any] = {
        field.name: WritePort if field.name == "output" else ReadPort for field in fields(Memories)
    }
    there = {name: kind for name, kind in kinds.items() if f"{name}_addr" in signals}
    return gathered(Host, signals), Memories(
        **{name: gathered(kind, signals, f"{name}_") for name, kind in there.items()}
    )


@dataclass(frozen=True)
class Device:
    """A top module: sources in compile order, ports, and what makes the MyHDL instance.

    `build(**signals)` gets the signals that `top_signals` makes: clk, reset, start, first, count, busy, done, error and
    those of every port, by name. In the VHDL, too, only clk, reset, start, busy,
    done and the ports' `flags` are std_logic, all others unsigned, also where the width is 1.
    """

    name: str
    files: tuple[Path, ...]
    vhdl_files: tuple[Path, ...]
    ports: tuple[MemoryPort, ...]
    build: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        names = [port.name for port in self.ports]
        assert len(set(names)) == len(names), f"device {self.name}: two ports of one name in {names}"

    @property
    def reads(self) -> tuple[MemoryPort, ...]:
        return tuple(port for port in self.ports if not port.lanes)

    @property
    def writes(self) -> tuple[MemoryPort, ...]:
        return tuple(port for port in self.ports if port.lanes)
