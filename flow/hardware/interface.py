"""The accelerator as others see it: memories, memory ports, and the device with its files."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
class Device:
    """A top module: sources in compile order, ports, and what makes the MyHDL instance.

    `build(**signals)` gets the signals that `flow.simulation.engines.native.top_signals` makes: clk, reset, start,
    first, count, busy, done, error and those of every port, by name. In the VHDL, too, only clk, reset, start, busy,
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
