"""The contract of every engine: the device, its memories, one run and its result.

A device is a synchronous top module with the inputs clk, reset (active high), start, first[16], count[16],
the outputs busy, done and error[4], and memory ports:

    read port    <name>_en, <name>_addr[32] out; <name>_ready, <name>_valid, <name>_data[W] in
                 a request is accepted at a rising edge at which en and ready are high; valid is high for one cycle with
                 each word, in the order of the requests, after the edge of the request or later
    write port   <name>_valid[D], <name>_addr[D*32], <name>_data[D*W] out, lane 0 lowest; <name>_ready in
                 at a rising edge at which ready is high, mem[addr] = data for each lane with its valid bit set; the
                 highest lane wins

A memory is uint8 [depth, ceil(width / 8)], little endian: bit i of a word is bit i % 8 of its byte i // 8. The engines'
memories never keep a device waiting: ready is always high, valid and mem[addr] appear right after the edge of the
request, and data keeps its value until the next request.

Before reset, registers and memories of the device hold random bits in Verilator, drawn from `start_seed`, unknown bits
in Icarus Verilog and GHDL, and the signals' initial values in MyHDL. Neither result nor cycles depend on them. busy,
done and requests at the ports are known after reset, else DeviceError.

One run, the same in every engine: read data is 0 and written memories are 0; RESET_EDGES rising edges with
reset high; one edge with start high (edge 1), then edges with start low until one at which done is high just
before the edge. Its number is `cycles`, so both ends count. Writes at that last edge take effect; an error at it that
is not 0 raises DeviceError. `done` is ignored at edge 1, and so are the memory ports during reset. `first` and `count`
do not change during the run. A read beyond the memory gives 0; a write beyond it is a bug of the device and raises
DeviceError.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from flow.hardware.fields import ERRORS
from flow.hardware.interface import COMMAND_BITS, Device, Memory

RESET_EDGES = 4
FORMS = ("vcd", "fst")  # of waveforms


@dataclass(frozen=True)
class Result:
    """Rising edges from the one with start to the one with done, both counted, and the memories written."""

    cycles: int
    memories: dict[str, Memory]


@dataclass(frozen=True)
class Command:
    """The start of a device: `count` descriptors from number `first` on; it must be done by edge `limit`."""

    first: int
    count: int
    limit: int


class Simulator(Protocol):
    """One device, ready to run. Two simulators may run in two threads at once."""

    def run(self, memories: dict[str, Memory], command: Command, writes: dict[str, int]) -> Result:
        """Run from reset until done.

        `memories` has one entry for each read port, `writes` the depth of each write port's memory.
        DeviceError if done is not high by edge `command.limit`, if the device ends with an error or writes beyond a
        memory.
        """
        ...


@dataclass(frozen=True)
class Scope:
    """Part of a waveform: the instance `path` below the top, and `levels` of hierarchy (0: all)."""

    path: tuple[str, ...]
    levels: int


@runtime_checkable
class Recorder(Simulator, Protocol):
    """A simulator of emitted RTL that can write waveforms, too; `language` is "Verilog" or "VHDL"."""

    @property
    def language(self) -> str: ...

    def from_zeros(self) -> Recorder:
        """The same, but registers and memories begin with zeros instead of at random; itself where they never do."""
        ...

    def refuses(self, form: str) -> str | None:
        """None if it can write waveforms of this form here, one of `FORMS`; else why not, with the remedy."""
        ...

    def record(
        self,
        memories: dict[str, Memory],
        command: Command,
        writes: dict[str, int],
        scopes: Sequence[Scope],
        file: Path,
    ) -> tuple[str, ...]:
        """Run as `Simulator.run` and write the scopes as `file`, a VCD or, by its ending, FST; reset included.

        Returns the path of the top module in the waveform. A hang or a write beyond a memory is no error here.
        """
        ...


class Engine(Protocol):
    """A way to simulate a device."""

    @property
    def name(self) -> str: ...

    @property
    def fast(self) -> bool:
        """Whether whole networks on large arrays take seconds only."""
        ...

    def available(self) -> str | None:
        """None if the engine can run here, else the reason why not, with the remedy."""
        ...

    def version(self) -> str:
        """Name and version of the simulator."""
        ...

    def open(self, device: Device, cache: Path | None = None) -> Simulator:
        """Make the device ready; `cache` is the folder for compiled models. FlowError if not available."""
        ...


def check_run(
    device: Device, memories: dict[str, Memory], command: Command, writes: dict[str, int]
) -> dict[str, Memory]:
    """Asserts that the arguments of `run` are valid; the read memories as contiguous arrays, in port order."""
    assert set(memories) == {port.name for port in device.reads}, (device.name, sorted(memories))
    assert set(writes) == {port.name for port in device.writes}, (device.name, sorted(writes))
    assert 0 <= command.first < 1 << COMMAND_BITS and 0 <= command.count < 1 << COMMAND_BITS, command
    assert command.limit >= 1 and all(depth >= 1 for depth in writes.values()), (command, writes)
    for port in device.reads:
        memory = memories[port.name]
        assert memory.dtype == np.uint8 and memory.ndim == 2, (port, memory.dtype, memory.shape)
        assert memory.shape[0] >= 1 and memory.shape[1] == port.bytes, (port, memory.shape)
    return {port.name: np.ascontiguousarray(memories[port.name]) for port in device.reads}


def start_seed(memories: Mapping[str, Memory], command: Command) -> int:
    """Of what registers and memories hold before reset, 1 to 2**31 - 1: another one for each run, always the same."""
    number = zlib.crc32(f"{command.first} {command.count}".encode())
    for memory in memories.values():
        number = zlib.crc32(np.ascontiguousarray(memory).data, number)
    return number % (2**31 - 1) + 1


def empty(device: Device, writes: dict[str, int]) -> dict[str, Memory]:
    """The memories of the write ports, all zero, in port order."""
    return {port.name: np.zeros((writes[port.name], port.bytes), np.uint8) for port in device.writes}


class DeviceError(RuntimeError):
    """The device never finished, ended with an error, or wrote where there is no memory."""


def not_done(device: Device, engine: str, limit: int) -> DeviceError:
    return DeviceError(f"{device.name}, {engine}: done not high by cycle {limit}, the limit")


def refused(device: Device, engine: str, error: int, cycle: int) -> DeviceError:
    what = ""
    if error < len(ERRORS):
        name, meaning = ERRORS[error]
        what = f" ({name}: {meaning})"
    return DeviceError(f"{device.name}, {engine}: error {error} at cycle {cycle}{what}")


def unknown(device: Device, engine: str, cycle: int) -> DeviceError:
    return DeviceError(
        f"{device.name}, {engine}: busy, done, or a request at a memory port is unknown at cycle {cycle}: "
        "it depends on what a register holds before reset"
    )


def beyond(device: Device, engine: str, port: str, address: int, depth: int, cycle: int) -> DeviceError:
    return DeviceError(
        f"{device.name}, {engine}: write to {port}[{address}] at cycle {cycle}, beyond its {depth} words"
    )
