"""The accelerator behind AXI: registers for the host, one master for all memories."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from myhdl import ResetSignal, Signal, always_comb, always_seq, intbv

from flow.hardware.accelerator import accelerator
from flow.hardware.axi.ahead import axi_ahead
from flow.hardware.axi.bus import AxiConfig
from flow.hardware.axi.channels import (
    Address,
    Burst,
    LiteAddress,
    LiteRead,
    LiteResponse,
    LiteWrite,
    Read,
    RegisterAccess,
    Response,
    Run,
    Write,
)
from flow.hardware.axi.control import axi_control, axi_wait
from flow.hardware.axi.lite import axi_lite
from flow.hardware.axi.read import axi_read
from flow.hardware.axi.requests import axi_requests
from flow.hardware.axi.write import axi_write
from flow.hardware.config import ArrayConfig, memory_ports
from flow.hardware.conversion.bundles import fresh, prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.core.wires import flags, join
from flow.hardware.fields import descriptor_slice
from flow.hardware.interface import Host, ReadPort, bundled, top_signals

QUEUE = 16  # writes of all lanes that wait for the bus: those of a tile, and of the next
# Words that are fetched before they are asked for, by memory: those of short blocks, one after the other. Of weights as
# many as a part of the accelerator's buffer holds: an array wants a word a cycle while a slow bus answers.
AHEAD = {"descriptor": 4, "metadata": 32, "parameter": 16, "index": 16, "entry": 16}
WEIGHTS_AHEAD = 4  # the part of the buffer
JOBS = 2 * AHEAD["descriptor"]  # of each: those of the descriptors ahead, and of two in the accelerator


def build(config: ArrayConfig, axi: AxiConfig) -> Any:
    """The wrapper on Signals of its own."""
    address, data = axi.address_bits, axi.data_bits
    return axi_accelerator(
        Signal(bool(0)), Signal(bool(0)), Signal(bool(0)),
        fresh(LiteAddress), fresh(LiteWrite), fresh(LiteResponse), fresh(LiteAddress), fresh(LiteRead),
        fresh(Address, addr=address), fresh(Read, data=data),
        fresh(Address, addr=address), fresh(Write, data=data, strb=axi.beat), fresh(Response),
        config, axi,
    )  # fmt: skip


def depths_ahead(config: ArrayConfig) -> dict[str, int]:
    """How many words are fetched ahead, by memory."""
    return {**AHEAD, "weight": max(16, config.weight_depth // WEIGHTS_AHEAD)}


def jobs_ahead(run: Any, outer: dict[str, Any]) -> dict[str, tuple[Any, Any, Any]]:
    """When it is known what a memory is asked for, the first word, and how many, by memory."""
    descriptors = outer["descriptor"]
    jobs = {"descriptor": (run.start, run.first, run.count)}
    for name in [name for name in outer if name != "descriptor"]:
        fields = "parameter" if name == "index" else name
        base, count = (descriptors.data(*descriptor_slice(f"{fields}_{part}")) for part in ("base", "count"))
        jobs[name] = (descriptors.valid, base, count)
    return jobs


@block
@prefixed(
    s_aw="s_axil_aw", s_w="s_axil_w", s_b="s_axil_b", s_ar="s_axil_ar", s_r="s_axil_r",
    m_ar="m_axi_ar", m_r="m_axi_r", m_aw="m_axi_aw", m_w="m_axi_w", m_b="m_axi_b",
)  # fmt: skip
def axi_accelerator(aclk, aresetn, irq, s_aw, s_w, s_b, s_ar, s_r, m_ar, m_r, m_aw, m_w, m_b, config, axi):
    """The accelerator with an AXI4-Lite slave for its registers and an AXI4 master for its memories.

    aclk, aresetn  clock; synchronous reset, active low, of the bus, too: what was under way is forgotten
    irq            high while a run is done and the interrupt is enabled
    s_axil         registers of 32 bits in a window of 4 KiB: the hand-over has a table of them
    m_axi          reads: bursts within a page, one identifier for each memory; rready is always high. Writes:
                   bursts within a page, strobes; bready is always high. Words lie `AxiConfig.stride` bytes apart.
                   If the host ends a run, what the bus was asked for before is still waited for, and forgotten
    No path leads from an input to an output within a cycle.
    """
    ports = memory_ports(config)
    reads = [port for port in ports if not port.lanes]
    assert [reads[0].name, *(port.name for port in ports[len(reads) :])] == ["descriptor", "output"]
    memories, address_bits, last = len(ports), axi.address_bits, len(reads)
    reset, core_reset, ahead_reset = (ResetSignal(0, active=1, isasync=False) for _ in range(3))
    run, registers = fresh(Run), fresh(RegisterAccess)
    busy, waiting, read_failed, write_failed, stopping, asked, received = flags(7)
    stored, leftover = flags(2)
    host = Host(run.start, run.first, run.count, busy, run.done, run.error)
    _, core_ports = bundled(top_signals(ports))
    depths = depths_ahead(config)
    outer = {port.name: fresh(ReadPort, data=port.width) for port in reads if port.name in depths}
    read_ports = [outer.get(port.name, getattr(core_ports, port.name)) for port in reads]
    jobs, described, kept = jobs_ahead(run, outer), outer["descriptor"], []
    if config.operands:  # weights that come from a map are none of the memory's
        weights_asked, (_, operand_at) = Signal(bool(0)), descriptor_slice("operand")
        jobs["weight"] = (weights_asked, *jobs["weight"][1:])

        @always_comb
        def weight_jobs():
            weights_asked.next = described.valid and (not described.data[operand_at])

        kept = [weight_jobs]
    quiet = flags(len(outer))
    quiets = join(*reversed(quiet))
    all_quiet = 2 ** len(outer) - 1
    output = core_ports.output
    bases = Signal(intbv(0)[address_bits * memories :])
    granted = Signal(intbv(0)[len(reads) :])
    wanted = [
        Burst(Signal(bool(0)), Signal(intbv(0)[address_bits:]), Signal(intbv(0)[8:]), granted(number))
        for number in range(len(reads))
    ]
    requests, offsets, lengths = (
        join(*(getattr(burst, part) for burst in reversed(wanted))) for part in ("request", "offset", "length")
    )
    read_waits = flags(len(reads))
    stalled = join(waiting, *reversed(read_waits))

    @always_comb
    def resetting():
        reset.next = not aresetn

    @always_comb
    def resetting_core():
        core_reset.next = (not aresetn) or stopping

    @always_comb
    def forgetting():
        ahead_reset.next = (not aresetn) or stopping or (leftover and (quiets == all_quiet))

    @always_seq(aclk.posedge, reset=core_reset)
    def after_an_error():
        # What was fetched ahead, or is on its way, is given up before the run counts as done.
        if run.done:
            leftover.next = run.error != 0
        elif quiets == all_quiet:
            leftover.next = False

    @always_comb
    def responses():
        m_r.ready.next = True
        m_b.ready.next = True
        read_failed.next = m_r.valid and m_r.resp[1]
        write_failed.next = m_b.valid and m_b.resp[1]
        asked.next = granted != 0
        received.next = m_r.valid and m_r.last
        run.written.next = stored and (not leftover)

    @always_comb
    def stalls():
        waiting.next = (output.valid != 0) and (not output.ready)

    core = accelerator(aclk, core_reset, host, core_ports, config)  # first: its files are those it has alone
    ahead = [
        axi_ahead(
            aclk, ahead_reset, *jobs[name], run.error, replace(getattr(core_ports, name), addr=None), outer[name],
            quiet[number], JOBS, depths[name], min(depths[name] // 2, axi.together(port)),
        )
        for number, (name, port) in enumerate((port.name, port) for port in reads if port.name in depths)
    ]  # fmt: skip
    core_reads = [getattr(core_ports, port.name) for port in reads]
    counting = [
        axi_wait(aclk, core_reset, port.en, port.ready, port.valid, waits)
        for port, waits in zip(core_reads, read_waits, strict=True)
    ]
    slave = axi_lite(aclk, reset, s_aw, s_w, s_b, s_ar, s_r, registers)
    control = axi_control(
        aclk, reset, registers, run, stopping, irq, bases, stalled, asked, received, read_failed, write_failed,
        ports, axi, config,
    )  # fmt: skip
    readers = [
        axi_read(
            aclk, core_reset, read_ports[number], wanted[number], m_r.valid, m_r.id, m_r.data,
            number, axi.stride(port), axi.beat, axi.together(port),
        )
        for number, port in enumerate(reads)
    ]  # fmt: skip
    asking = axi_requests(
        aclk, reset, requests, offsets, lengths, bases(address_bits * last, 0), granted, m_ar, axi.beat
    )
    writing = axi_write(
        aclk, reset, output, bases(address_bits * memories, address_bits * last), stored, m_aw, m_w, m_b.valid,
        axi.stride(ports[last]), axi.beat, axi.together(ports[last]), QUEUE,
    )  # fmt: skip
    return (
        kept, resetting, resetting_core, forgetting, after_an_error, responses, stalls, ahead, counting, core, slave,
        control, readers, asking, writing,
    )  # fmt: skip
