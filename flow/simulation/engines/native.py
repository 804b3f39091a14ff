"""MyHDL's own simulator, with memories in Python: always available, slow, for single blocks and small layers."""

from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import myhdl

from flow.hardware.interface import Device, Memory, top_signals
from flow.simulation.engines.base import RESET_EDGES, Command, Result, beyond, check_run, empty, not_done, refused

ONE_AT_A_TIME = threading.Lock()
"""MyHDL keeps its event queue and its list of signals in module globals: runs in two threads take turns."""


class NativeEngine:
    """Simulates the device's MyHDL blocks themselves; see `flow.simulation.engines.base` for the contract."""

    name = "myhdl"
    fast = False

    def available(self) -> str | None:
        return None

    def version(self) -> str:
        return f"MyHDL {myhdl.__version__}"

    def open(self, device: Device, cache: Path | None = None) -> NativeSimulator:
        assert device.build, f"device {device.name} has no MyHDL blocks"
        return NativeSimulator(device)


class NativeSimulator:
    """Instantiates the device anew for every run."""

    def __init__(self, device: Device) -> None:
        self.device = device

    def run(self, memories: dict[str, Memory], command: Command, writes: dict[str, int]) -> Result:
        read = check_run(self.device, memories, command, writes)
        written = empty(self.device, writes)
        assert self.device.build
        with ONE_AT_A_TIME:
            signals = top_signals(self.device.ports)
            run = _Run(self.device, read, written, command)
            driver = _drive(run, signals)
            simulation = myhdl.Simulation(self.device.build(**signals), driver)
            try:
                simulation.run(None, quiet=1)
            finally:
                simulation.quit()
        return Result(run.cycles, written)


@dataclass
class _Run:
    """One run: the memories read and written, and the last cycle once it is done."""

    device: Device
    read: dict[str, Memory]
    written: dict[str, Memory]
    command: Command
    cycles: int = 0


def _drive(run: _Run, signals: dict[str, Any]) -> Generator[Any, None, None]:
    """Clock, command and memories, in the order of harness.cpp.j2."""
    device, command = run.device, run.command

    def value(name: str) -> int:
        return int(signals[name].val)

    signals["reset"].next = 1
    signals["first"].next = command.first
    signals["count"].next = command.count
    for port in device.ports:
        signals[f"{port.name}_ready"].next = 1
    yield myhdl.delay(1)
    for _ in range(RESET_EDGES):
        signals["clk"].next = 1
        yield myhdl.delay(1)
        signals["clk"].next = 0
        yield myhdl.delay(1)
    signals["reset"].next = 0
    signals["start"].next = 1
    yield myhdl.delay(1)

    for cycle in range(1, command.limit + 1):
        read_words: dict[str, int] = {}
        for port in device.reads:
            if value(f"{port.name}_en"):
                address, memory = value(f"{port.name}_addr"), run.read[port.name]
                word = int.from_bytes(memory[address].tobytes(), "little") if address < len(memory) else 0
                read_words[port.name] = word & ((1 << port.width) - 1)
        for port in device.writes:
            valid, memory = value(f"{port.name}_valid"), run.written[port.name]
            for lane in range(port.lanes):
                if valid >> lane & 1:
                    address = value(f"{port.name}_addr") >> 32 * lane & 0xFFFFFFFF
                    if address >= len(memory):
                        raise beyond(device, "myhdl", port.name, address, len(memory), cycle)
                    word = value(f"{port.name}_data") >> port.width * lane & ((1 << port.width) - 1)
                    memory[address] = list(word.to_bytes(port.bytes, "little"))
        ended, error = cycle > 1 and value("done"), value("error")
        signals["clk"].next = 1
        yield myhdl.delay(1)
        signals["clk"].next = 0
        signals["start"].next = 0
        for port in device.reads:
            signals[f"{port.name}_valid"].next = port.name in read_words
            if port.name in read_words:
                signals[f"{port.name}_data"].next = read_words[port.name]
        yield myhdl.delay(1)
        if ended:
            if error:
                raise refused(device, "myhdl", error, cycle)
            run.cycles = cycle
            raise myhdl.StopSimulation
    raise not_done(device, "myhdl", command.limit)
