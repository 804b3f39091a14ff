"""Simple dual-port memory: one write port, one registered read port."""

from __future__ import annotations

from myhdl import Signal, always, intbv

from flow.hardware.conversion.hierarchy import block


@block
def ram(clk, write, write_addr, write_data, read, read_addr, read_data, width, depth):
    """A buffer's storage.

    control: write, read; data: write_addr, write_data[width], read_addr, read_data[width].
    Latency: read_data shows the word one cycle after read, and keeps it until the next read; a word that is
    written at the same time is read as written.
    """
    memory = [Signal(intbv(0)[width:]) for _ in range(depth)]

    @always(clk.posedge)
    def access():
        if write:
            memory[write_addr].next = write_data
        if read:
            if write and (write_addr == read_addr):
                read_data.next = write_data
            else:
                read_data.next = memory[read_addr]

    return access
