"""The accelerator behind AXI: registers for the host, one master for all memories."""

from __future__ import annotations

from typing import Any

from myhdl import ResetSignal, Signal, always_comb, intbv

from flow.hardware.accelerator import accelerator
from flow.hardware.axi.bus import ID_BITS, INDEX_BITS, AxiConfig, array_word
from flow.hardware.axi.control import axi_control
from flow.hardware.axi.lite import axi_lite
from flow.hardware.axi.read import axi_read
from flow.hardware.axi.requests import axi_requests
from flow.hardware.axi.write import axi_write
from flow.hardware.config import memory_ports
from flow.hardware.conversion.hierarchy import block
from flow.hardware.core.wires import join
from flow.hardware.interface import COMMAND_BITS, ERROR_BITS


def wires(axi: AxiConfig) -> dict[str, Any]:
    """Fresh Signals for all ports of the wrapper, by name."""
    address = {"id": ID_BITS, "addr": axi.address_bits, "len": 8, "size": 3, "burst": 2, "cache": 4, "prot": 3}
    lite = {"addr": INDEX_BITS + 2}
    channels: dict[str, dict[str, int]] = {
        "s_axil_aw": lite, "s_axil_w": {"data": 32, "strb": 4}, "s_axil_b": {"resp": 2},
        "s_axil_ar": lite, "s_axil_r": {"data": 32, "resp": 2},
        "m_axi_ar": address, "m_axi_r": {"id": ID_BITS, "data": axi.data_bits, "resp": 2, "last": 0},
        "m_axi_aw": address, "m_axi_w": {"data": axi.data_bits, "strb": axi.beat, "last": 0},
        "m_axi_b": {"id": ID_BITS, "resp": 2},
    }  # fmt: skip
    widths = dict.fromkeys(("aclk", "aresetn", "irq"), 0)
    for channel, payload in channels.items():
        widths |= {f"{channel}{part}": width for part, width in (payload | {"valid": 0, "ready": 0}).items()}
    return {name: Signal(intbv(0)[width:]) if width else Signal(bool(0)) for name, width in widths.items()}


@block
def axi_accelerator(
    aclk, aresetn, irq,
    s_axil_awaddr, s_axil_awvalid, s_axil_awready,
    s_axil_wdata, s_axil_wstrb, s_axil_wvalid, s_axil_wready,
    s_axil_bresp, s_axil_bvalid, s_axil_bready,
    s_axil_araddr, s_axil_arvalid, s_axil_arready,
    s_axil_rdata, s_axil_rresp, s_axil_rvalid, s_axil_rready,
    m_axi_arid, m_axi_araddr, m_axi_arlen, m_axi_arsize, m_axi_arburst, m_axi_arcache, m_axi_arprot,
    m_axi_arvalid, m_axi_arready,
    m_axi_rid, m_axi_rdata, m_axi_rresp, m_axi_rlast, m_axi_rvalid, m_axi_rready,
    m_axi_awid, m_axi_awaddr, m_axi_awlen, m_axi_awsize, m_axi_awburst, m_axi_awcache, m_axi_awprot,
    m_axi_awvalid, m_axi_awready,
    m_axi_wdata, m_axi_wstrb, m_axi_wlast, m_axi_wvalid, m_axi_wready,
    m_axi_bid, m_axi_bresp, m_axi_bvalid, m_axi_bready,
    config, axi,
):  # fmt: skip
    """The accelerator with an AXI4-Lite slave for its registers and an AXI4 master for its memories.

    aclk, aresetn  clock; synchronous reset, active low, of the bus, too: what was under way is forgotten
    irq            high while a run is done and the interrupt is enabled
    s_axil         registers, as in flow/hardware/axi/bus.py: 32 bits, a window of 4 KiB
    m_axi          reads: bursts within a page, one identifier for each memory; rready is always high. Writes: a
                   burst for each word, strobes; bready is always high. Words lie `AxiConfig.stride` bytes apart
    No path leads from an input to an output within a cycle.
    """
    ports = memory_ports(config)
    reads = [port for port in ports if not port.lanes]
    assert [port.name for port in ports[len(reads) :]] == ["output"]
    memories, address_bits, last = len(ports), axi.address_bits, len(reads)
    signals = {
        name: Signal(bool(0)) if name in port.flags else Signal(intbv(0)[width:])
        for port in ports
        for name, width in port.signals.items()
    }
    reset = ResetSignal(0, active=1, isasync=False)
    start, busy, done, written, read_failed, write_failed, write, waiting = (Signal(bool(0)) for _ in range(8))
    first, count = (Signal(intbv(0)[COMMAND_BITS:]) for _ in range(2))
    error = Signal(intbv(0)[ERROR_BITS:])
    write_index, read_index = (Signal(intbv(0)[INDEX_BITS:]) for _ in range(2))
    write_data, read_data = (Signal(intbv(0)[32:]) for _ in range(2))
    write_strobe = Signal(intbv(0)[4:])
    bases = Signal(intbv(0)[address_bits * memories :])
    granted = Signal(intbv(0)[len(reads) :])
    requests = [Signal(bool(0)) for _ in reads]
    offsets = [Signal(intbv(0)[address_bits:]) for _ in reads]
    lengths = [Signal(intbv(0)[8:]) for _ in reads]
    all_requests, all_offsets, all_lengths = (join(*reversed(each)) for each in (requests, offsets, lengths))
    enables = join(*(signals[f"{port.name}_en"] for port in reversed(reads)))
    readies = join(*(signals[f"{port.name}_ready"] for port in reversed(reads)))
    output_valid, output_ready = signals["output_valid"], signals["output_ready"]
    stalled_reads = Signal(intbv(0)[len(reads) :])
    stalled = join(waiting, stalled_reads)

    @always_comb
    def resetting():
        reset.next = not aresetn

    @always_comb
    def responses():
        m_axi_rready.next = True
        m_axi_bready.next = True
        read_failed.next = m_axi_rvalid and m_axi_rresp[1]
        write_failed.next = m_axi_bvalid and m_axi_bresp[1]

    @always_comb
    def stalls():
        stalled_reads.next = enables & ~readies
        waiting.next = (output_valid != 0) and (not output_ready)

    core = accelerator(
        aclk, reset, start, first, count, busy, done, error,
        **signals, config=config,
    )  # fmt: skip
    slave = axi_lite(
        aclk, reset,
        s_axil_awaddr, s_axil_awvalid, s_axil_awready, s_axil_wdata, s_axil_wstrb, s_axil_wvalid, s_axil_wready,
        s_axil_bresp, s_axil_bvalid, s_axil_bready, s_axil_araddr, s_axil_arvalid, s_axil_arready,
        s_axil_rdata, s_axil_rresp, s_axil_rvalid, s_axil_rready,
        write, write_index, write_data, write_strobe, read_index, read_data,
    )  # fmt: skip
    control = axi_control(
        aclk, reset, write, write_index, write_data, write_strobe, read_index, read_data,
        start, first, count, done, error, written, irq, bases, stalled, read_failed, write_failed,
        ports, axi, array_word(config),
    )  # fmt: skip
    readers = [
        axi_read(
            aclk, reset, *(signals[name] for name in port.signals),
            requests[number], offsets[number], lengths[number], granted(number),
            m_axi_rvalid, m_axi_rid, m_axi_rdata, number, axi.stride(port), axi.beat, axi.burst,
        )
        for number, port in enumerate(reads)
    ]  # fmt: skip
    asking = axi_requests(
        aclk, reset, all_requests, all_offsets, all_lengths, bases(address_bits * last, 0), granted,
        m_axi_arvalid, m_axi_arready, m_axi_arid, m_axi_araddr, m_axi_arlen, m_axi_arsize, m_axi_arburst,
        m_axi_arcache, m_axi_arprot, axi.beat,
    )  # fmt: skip
    writing = axi_write(
        aclk, reset, *(signals[name] for name in ports[last].signals),
        bases(address_bits * memories, address_bits * last), written,
        m_axi_awvalid, m_axi_awready, m_axi_awid, m_axi_awaddr, m_axi_awlen, m_axi_awsize, m_axi_awburst,
        m_axi_awcache, m_axi_awprot, m_axi_wvalid, m_axi_wready, m_axi_wdata, m_axi_wstrb, m_axi_wlast, m_axi_bvalid,
        axi.stride(ports[last]), axi.beat,
    )  # fmt: skip
    return resetting, responses, stalls, core, slave, control, readers, asking, writing
