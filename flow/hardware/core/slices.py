"""Bit columns in slices: how many cycles a step takes when an element takes several bit columns together."""

from __future__ import annotations

from myhdl import Signal, always_comb, intbv

from flow.hardware.conversion.hierarchy import block


@block
def slice_count(columns, slices, per_cycle):
    """Slices of a step, `ArrayConfig.slices`: columns[4] in, slices[4] out. Combinational.

    As many as hold the bit columns, `per_cycle` each, but two for two bit columns or more.
    """
    last, places = per_cycle - 1, per_cycle.bit_length() - 1
    raised = Signal(intbv(0)[5:])
    full = Signal(intbv(0)[4:])

    @always_comb
    def round_up():
        raised.next = columns + last

    @always_comb
    def divide():
        full.next = raised >> places

    @always_comb
    def at_least():
        if columns < 2:
            slices.next = columns
        elif full < 2:
            slices.next = 2
        else:
            slices.next = full

    return round_up, divide, at_least


@block
def slice_places(columns, first, per_cycle):
    """Significance of the last bit column in a step's first slice, columns[4] in, first[3] out. Combinational.

    7 - (per_cycle - 1) where slices are full; what is missing to full ones comes before the first bit column.
    """
    top = 8 - per_cycle
    missing = Signal(intbv(0)[3:])

    if per_cycle == 2:

        @always_comb
        def rest():
            missing.next = 0
            missing.next[0] = columns[0]

    else:

        @always_comb
        def rest():
            missing.next = 0
            if columns[2:] != 0:
                missing.next = 4 - columns[2:]

    @always_comb
    def add():
        first.next = top + missing

    return rest, add
