"""AXI4-Lite slave: register reads and writes, one at a time."""

from __future__ import annotations

from myhdl import Signal, always_comb, always_seq

from flow.hardware.axi.bus import INDEX_BITS
from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block


@block
@prefixed(aw="aw", w="w", b="b", ar="ar", r="r", registers="")
def axi_lite(clk, reset, aw, w, b, ar, r, registers):
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
        aw.ready.next = take
        w.ready.next = take
        b.valid.next = answered
        b.resp.next = 0
        ar.ready.next = fetch
        r.valid.next = shown
        r.resp.next = 0

    @always_comb
    def access():
        registers.write.next = take
        registers.write_index.next = aw.addr[end:2]
        registers.write_data.next = w.data
        registers.write_strobe.next = w.strb
        registers.read_index.next = ar.addr[end:2]

    @always_seq(clk.posedge, reset=reset)
    def writing():
        take.next = aw.valid and w.valid and (not take) and (not answered)
        if take:
            answered.next = True
        elif b.ready:
            answered.next = False

    @always_seq(clk.posedge, reset=reset)
    def reading():
        fetch.next = ar.valid and (not fetch) and (not shown)
        if fetch:
            r.data.next = registers.read_data
            shown.next = True
        elif r.ready:
            shown.next = False

    return ports, access, writing, reading
