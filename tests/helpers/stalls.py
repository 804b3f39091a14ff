"""The accelerator behind ports that keep it waiting at random, as a device that every engine runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from myhdl import ConcatSignal, Signal, always_comb, always_seq, intbv, modbv

from flow.hardware.accelerator import accelerator
from flow.hardware.config import ArrayConfig, memory_ports
from flow.hardware.conversion.hierarchy import block, export, forgotten
from flow.hardware.interface import Device
from flow.simulation.engines.native import top_signals

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
def slow_read(
    clk, reset, en, addr, ready, valid, data,
    memory_en, memory_addr, memory_ready, memory_valid, memory_data,
    wrong, late, seed, holds,
):  # fmt: skip
    """Requests and answers of one read port wait at random; data are garbage while not valid.

    On a port that `holds` only from the next request on.

    wrong: a request changed while it waited; late: a request or an answer is under way.
    """
    words = [Signal(intbv(0)[len(data) :]) for _ in range(FIFO)]
    head, tail = (Signal(modbv(0, min=0, max=FIFO)) for _ in range(2))
    owed = Signal(intbv(0, min=0, max=FIFO + 1))
    opened, answers, passes, gives = (Signal(bool(0)) for _ in range(4))
    waited = Signal(bool(0))
    last = Signal(intbv(0)[32:])
    most = FIFO - 1
    garbage = intbv(0)[len(data) :].max - 1

    @always_comb
    def request():
        passes.next = en and opened and memory_ready and (owed < most)
        gives.next = answers and (head != tail)
        late.next = en or valid or (owed != 0)

    @always_comb
    def port():
        memory_en.next = passes
        memory_addr.next = addr
        ready.next = opened and memory_ready and (owed < most)

    @always_seq(clk.posedge, reset=reset)
    def queue():
        if memory_valid:
            words[head].next = memory_data
            head.next = head + 1
        valid.next = gives
        if gives:
            data.next = words[tail]
            tail.next = tail + 1
        elif (not holds) or passes:
            data.next = garbage
        if passes and not gives:
            owed.next = owed + 1
        elif gives and not passes:
            owed.next = owed - 1

    @always_seq(clk.posedge, reset=reset)
    def watch():
        waited.next = en and not passes
        last.next = addr
        if waited and ((not en) or addr != last):
            wrong.next = True

    requests = dice(clk, reset, seed, opened)
    replies = dice(clk, reset, seed + 1, answers)
    return request, port, queue, watch, requests, replies


@block
def slow_write(
    clk, reset, valid, addr, data, ready, memory_valid, memory_addr, memory_data, memory_ready, wrong, late, seed
):
    """The write port waits at random. wrong: a write changed while it waited; late: one waits."""
    opened, waited = Signal(bool(0)), Signal(bool(0))
    last_valid, last_addr = Signal(intbv(0)[len(valid) :]), Signal(intbv(0)[len(addr) :])
    last_data = Signal(intbv(0)[len(data) :])

    @always_comb
    def port():
        ready.next = opened and memory_ready
        memory_valid.next = 0
        if opened:
            memory_valid.next = valid
        memory_addr.next = addr
        memory_data.next = data
        late.next = (valid != 0) and (not opened)

    @always_seq(clk.posedge, reset=reset)
    def watch():
        waited.next = (valid != 0) and (not opened)
        last_valid.next = valid
        last_addr.next = addr
        last_data.next = data
        if waited and (valid != last_valid or addr != last_addr or data != last_data):
            wrong.next = True

    gate = dice(clk, reset, seed, opened)
    return port, watch, gate


@block
def stalled(
    clk, reset, start, first, count, busy, done, error,
    descriptor_en, descriptor_addr, descriptor_ready, descriptor_valid, descriptor_data,
    weight_en, weight_addr, weight_ready, weight_valid, weight_data,
    metadata_en, metadata_addr, metadata_ready, metadata_valid, metadata_data,
    activation_en, activation_addr, activation_ready, activation_valid, activation_data,
    parameter_en, parameter_addr, parameter_ready, parameter_valid, parameter_data,
    index_en, index_addr, index_ready, index_valid, index_data,
    output_valid, output_addr, output_data, output_ready,
    config, seed,
    entry_en=None, entry_addr=None, entry_ready=None, entry_valid=None, entry_data=None,
):  # fmt: skip
    """The accelerator's ports, each with random waits in between; error 15 if the accelerator breaks its promises."""
    outer = locals()
    ports = memory_ports(config)
    inner = {
        name: Signal(bool(0)) if name in port.flags else Signal(intbv(0)[width:])
        for port in ports
        for name, width in port.signals.items()
    }
    code = Signal(intbv(0)[len(error) :])
    parts = []
    wrong, late = ([Signal(bool(0)) for _ in ports] for _ in range(2))
    over, broken, open_end = (Signal(bool(0)) for _ in range(3))
    for number, port in enumerate(ports):
        names = list(port.signals)
        here, there = [inner[name] for name in names], [outer[name] for name in names]
        own = seed + 100 * number
        if port.lanes:
            parts.append(slow_write(clk, reset, *here, *there, wrong[number], late[number], own))
        else:
            holds = port.name == "descriptor"
            parts.append(slow_read(clk, reset, *here, *there, wrong[number], late[number], own, holds))
    wrongs, lates = ConcatSignal(*wrong), ConcatSignal(*late)
    violation = VIOLATION

    @always_comb
    def watch():
        broken.next = wrongs != 0
        open_end.next = over and (lates != 0)

    @always_comb
    def verdict():
        done.next = over
        if broken or open_end:
            error.next = violation
        else:
            error.next = code

    core = accelerator(clk, reset, start, first, count, busy, over, code, **inner, config=config)
    return parts, watch, verdict, core


def stalled_device(config: ArrayConfig, seed: int, folder: Path) -> Device:
    """`stalled`, emitted to `folder`."""

    def build(**signals: Any) -> Any:
        return stalled(**signals, config=config, seed=seed)

    ports = memory_ports(config)

    def fresh() -> Any:
        return build(**top_signals(ports))

    with forgotten():
        verilog = export(fresh, "stalled", folder / "verilog", "verilog")
        vhdl = export(fresh, "stalled", folder / "vhdl", "vhdl")
    return Device("stalled", tuple(verilog), tuple(vhdl), ports, build)
