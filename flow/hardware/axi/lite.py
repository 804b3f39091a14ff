"""AXI4-Lite slave: register reads and writes, one at a time."""

from __future__ import annotations

from myhdl import Signal, always_comb, always_seq

from flow.hardware.axi.bus import INDEX_BITS
from flow.hardware.conversion.hierarchy import block


@block
def axi_lite(
    clk, reset,
    awaddr, awvalid, awready, wdata, wstrb, wvalid, wready, bresp, bvalid, bready,
    araddr, arvalid, arready, rdata, rresp, rvalid, rready,
    write, write_index, write_data, write_strobe, read_index, read_data,
):  # fmt: skip
    """The slave's channels and what the registers see of them.

    bus        AXI4-Lite, addresses of a 4 KiB window, 32 bits of data; every response is OKAY
    registers  write: for one cycle, with write_index[10], write_data[32], write_strobe[4]; read_index[10] out,
               read_data[32] in, combinational
    Every output to the bus comes from a register. Latency: two cycles from both write valids to bvalid, two from
    arvalid to rvalid.
    """
    end = INDEX_BITS + 2
    take, fetch, answered, shown = (Signal(bool(0)) for _ in range(4))

    @always_comb
    def ports():
        awready.next = take
        wready.next = take
        bvalid.next = answered
        bresp.next = 0
        arready.next = fetch
        rvalid.next = shown
        rresp.next = 0

    @always_comb
    def access():
        write.next = take
        write_index.next = awaddr[end:2]
        write_data.next = wdata
        write_strobe.next = wstrb
        read_index.next = araddr[end:2]

    @always_seq(clk.posedge, reset=reset)
    def writing():
        take.next = awvalid and wvalid and (not take) and (not answered)
        if take:
            answered.next = True
        elif bready:
            answered.next = False

    @always_seq(clk.posedge, reset=reset)
    def reading():
        fetch.next = arvalid and (not fetch) and (not shown)
        if fetch:
            rdata.next = read_data
            shown.next = True
        elif rready:
            shown.next = False

    return ports, access, writing, reading
