"""The PE of Bitlet (Lu et al., MICRO 2021): each lane takes the one bits of one significance."""

from __future__ import annotations

from myhdl import Signal, always_comb

from flow.hardware.competitors.lanes import ADDERS, Terms, add_four, register, select, signed, unsigned
from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.elements.accumulator import accumulator


@block
def place(y, term, significance):
    """term signed[17] = y[8] at its significance; the most significant bit of two's complement counts negative."""
    shifted, positive = unsigned(15), signed(17)

    @always_comb
    def shifter():
        shifted.next = y << significance

    @always_comb
    def widen():
        positive.next = shifted

    @always_comb
    def sign():
        if significance == 7:
            term.next = -positive
        else:
            term.next = positive

    return shifter, widen, sign


@block
@prefixed(port="")
def bitlet_pe(clk, enable, x, choice, valid, first, port, window, bits):
    """A window of `window` weights in two's complement; lane b takes their bits of significance b, one a cycle.

    stage 2  x[8 * window]; choice[8 * (w + 1)], w = log2(window): of each lane the weight whose activation it adds,
             or any code from `window` on for none
    stage 4  valid, first
    drain    capture, drain, behind[bits] in, result[bits] out
    """
    width = window.bit_length()
    y = [unsigned(8) for _ in range(8)]
    codes = [choice(width * (lane + 1), width * lane) for lane in range(8)]
    lanes = [select(x, codes[lane], y[lane], 0, window) for lane in range(8)]
    terms = [signed(17) for _ in range(8)]
    places = [place(y[lane], terms[lane], lane) for lane in range(8)]
    total, partial, term, never = signed(20), signed(20), signed(21), Signal(bool(0))
    quads = [signed(19) for _ in range(2)]
    fours = [add_four(clk, enable, *terms[4 * i : 4 * i + 4], quads[i]) for i in range(2)]
    adder = ADDERS[2](Terms(*quads), total)
    registered = register(clk, enable, total, partial)

    @always_comb
    def widen():
        term.next = partial

    sums = accumulator(clk, enable, valid, first, term, never, port, bits)
    return lanes, places, fours, adder, registered, widen, sums
