"""The accelerator behind ports that keep it waiting at random, as a device that every engine runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from myhdl import ConcatSignal, Signal, always_comb, always_seq, intbv, modbv

from flow.hardware.accelerator import accelerator
from flow.hardware.config import ArrayConfig, memory_ports
from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block, export, forgotten
from flow.hardware.interface import Device, bundled, top_signals

VIOLATION = 15  # error code: a request or a write changed before it was taken, or is under way when all is done
FIFO = 8


@block
def dice(clk, reset, seed, now):
    """now: high at random, in 0 to 15 of 16 cycles; how often changes every 64 cycles."""
    state = Signal(modbv(seed, min=0, max=2**32))
    product = Signal(intbv(0)[64:])
    pace = Signal(intbv(8)[4:])
    age = Signal(modbv(0, min=0, max=64))

    @always_comb
    def multiply():
        product.next = state * 1664525

    @always_comb
    def show():
        now.next = state[32:28] < pace

    @always_seq(clk.posedge, reset=reset)
    def roll():
        state.next = product[32:] + 1013904223
        age.next = age + 1
        if age == 0:
            pace.next = state[28:24]

    return multiply, show, roll


@block
@prefixed(port="")
def slow_read(clk, reset, port, memory, wrong, late, seed, holds):
    """Requests and answers of one read port wait at random; data are garbage while not valid.

    On a port that `holds` only from the next request on.

    wrong: a request changed while it waited; late: a request or an answer is under way.
    """
    words = [Signal(intbv(0)[len(port.data) :]) for _ in range(FIFO)]
    head, tail = (Signal(modbv(0, min=0, max=FIFO)) for _ in range(2))
    owed = Signal(intbv(0, min=0, max=FIFO + 1))
    opened, answers, passes, gives = (Signal(bool(0)) for _ in range(4))
    waited = Signal(bool(0))
    last = Signal(intbv(0)[32:])
    most = FIFO - 1
    garbage = intbv(0)[len(port.data) :].max - 1

    @always_comb
    def request():
        passes.next = port.en and opened and memory.ready and (owed < most)
        gives.next = answers and (head != tail)
        late.next = port.en or port.valid or (owed != 0)

    @always_comb
    def ports():
        memory.en.next = passes
        memory.addr.next = port.addr
        port.ready.next = opened and memory.ready and (owed < most)

    @always_seq(clk.posedge, reset=reset)
    def queue():
        if memory.valid:
            words[head].next = memory.data
            head.next = head + 1
        port.valid.next = gives
        if gives:
            port.data.next = words[tail]
            tail.next = tail + 1
        elif (not holds) or passes:
            port.data.next = garbage
        if passes and not gives:
            owed.next = owed + 1
        elif gives and not passes:
            owed.next = owed - 1

    @always_seq(clk.posedge, reset=reset)
    def watch():
        waited.next = port.en and not passes
        last.next = port.addr
        if waited and ((not port.en) or port.addr != last):
            wrong.next = True

    requests = dice(clk, reset, seed, opened)
    replies = dice(clk, reset, seed + 1, answers)
    return request, ports, queue, watch, requests, replies


@block
@prefixed(port="")
def slow_write(clk, reset, port, memory, wrong, late, seed):
    """The write port waits at random. wrong: a write changed while it waited; late: one waits."""
    opened, waited = Signal(bool(0)), Signal(bool(0))
    last_valid, last_addr = Signal(intbv(0)[len(port.valid) :]), Signal(intbv(0)[len(port.addr) :])
    last_data = Signal(intbv(0)[len(port.data) :])

    @always_comb
    def ports():
        port.ready.next = opened and memory.ready
        memory.valid.next = 0
        if opened:
            memory.valid.next = port.valid
        memory.addr.next = port.addr
        memory.data.next = port.data
        late.next = (port.valid != 0) and (not opened)

    @always_seq(clk.posedge, reset=reset)
    def watch():
        waited.next = (port.valid != 0) and (not opened)
        last_valid.next = port.valid
        last_addr.next = port.addr
        last_data.next = port.data
        if waited and (port.valid != last_valid or port.addr != last_addr or port.data != last_data):
            wrong.next = True

    gate = dice(clk, reset, seed, opened)
    return ports, watch, gate


@block
@prefixed(host="", memories="")
def stalled(clk, reset, host, memories, config, seed):
    """The accelerator's ports, each with random waits in between; error 15 if the accelerator breaks its promises."""
    ports = memory_ports(config)
    _, inner = bundled(top_signals(ports))
    code = Signal(intbv(0)[len(host.error) :])
    parts = []
    wrong, late = ([Signal(bool(0)) for _ in ports] for _ in range(2))
    over, broken, open_end = (Signal(bool(0)) for _ in range(3))
    for number, port in enumerate(ports):
        here, there = getattr(inner, port.name), getattr(memories, port.name)
        own = seed + 100 * number
        if port.lanes:
            parts.append(slow_write(clk, reset, here, there, wrong[number], late[number], own))
        else:
            holds = port.name == "descriptor"
            parts.append(slow_read(clk, reset, here, there, wrong[number], late[number], own, holds))
    wrongs, lates = ConcatSignal(*wrong), ConcatSignal(*late)
    violation = VIOLATION

    @always_comb
    def watch():
        broken.next = wrongs != 0
        open_end.next = over and (lates != 0)

    @always_comb
    def verdict():
        host.done.next = over
        if broken or open_end:
            host.error.next = violation
        else:
            host.error.next = code

    core = accelerator(clk, reset, replace(host, done=over, error=code), inner, config)
    return parts, watch, verdict, core


def stalled_device(config: ArrayConfig, seed: int, folder: Path) -> Device:
    """`stalled`, emitted to `folder`."""

    def build(**signals: Any) -> Any:
        return stalled(signals["clk"], signals["reset"], *bundled(signals), config, seed)

    ports = memory_ports(config)

    def fresh() -> Any:
        return build(**top_signals(ports))

    with forgotten():
        verilog = export(fresh, "stalled", folder / "verilog", "verilog")
        vhdl = export(fresh, "stalled", folder / "vhdl", "vhdl")
    return Device("stalled", tuple(verilog), tuple(vhdl), ports, build)
