"""Simple dual-port memory: one write port, one registered read port."""

from __future__ import annotations

from myhdl import Signal, always, always_comb, intbv

from flow.hardware.conversion.hierarchy import block


@block
def ram(clk, write, write_addr, write_data, read, read_addr, read_data, width, depth):
    """A buffer's storage.

    control: write, read; data: write_addr, write_data[width], read_addr, read_data[width].
    Latency: read_data shows the word one cycle after read, and keeps it until the next read; a word that is
    written at the same time is read as written.
    """
    # What is written meanwhile has a register of its own: with one register for both, behind a memory that is read
    # without a clock, synthesis would compare the addresses for each bit.
    memory = [Signal(intbv(0)[width:]) for _ in range(depth)]
    stored, passed = Signal(intbv(0)[width:]), Signal(intbv(0)[width:])
    passing, passes = Signal(bool(0)), Signal(bool(0))

    @always_comb
    def meet():
        passing.next = write and (write_addr == read_addr)

    @always(clk.posedge)
    def access():
        if write:
            memory[write_addr].next = write_data
        if read:
            passes.next = passing
            if passing:
                passed.next = write_data
            else:
                stored.next = memory[read_addr]

    @always_comb
    def show():
        if passes:
            read_data.next = passed
        else:
            read_data.next = stored

    return meet, access, show
