"""The accumulator of a processing element: a term aligned to its bit column and added."""

from __future__ import annotations

from myhdl import ConcatSignal, Signal, always, always_comb, intbv, modbv

from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block


@block
def align(partial, coarse, negative, term):
    """What both elements do with a column's sum: term signed[21] = partial[15], sixteen times that if coarse.

    When negative it is one less than its negation, ~x = -x - 1: the accumulator adds the one. Combinational.
    """
    magnitude = Signal(intbv(0)[19:])
    flipped = Signal(intbv(0)[19:])
    either = ConcatSignal(negative, flipped)

    @always_comb
    def place():
        if coarse:
            magnitude.next = partial << 4
        else:
            magnitude.next = partial

    @always_comb
    def flip():
        if negative:
            flipped.next = magnitude ^ 0x7FFFF
        else:
            flipped.next = magnitude

    @always_comb
    def sign():
        term.next = either.signed()

    return place, flip, sign


@block
@prefixed(port="")
def accumulator(clk, enable, valid, first, increment, carry, port, bits):
    """Output-stationary accumulator and the result register that drains along the row.

    control  enable: the array advances; valid: accumulate; first: start anew; capture: take the finished sum
             into the result register; drain: take the neighbour's result
    data     increment signed[21] and carry, both added, and behind[bits] in, result[bits] out (two's complement).
             Sums wrap.
    """
    total = Signal(intbv(0)[bits:])
    wide = Signal(intbv(0, min=-(2 ** (bits - 1)), max=2 ** (bits - 1)))
    left = Signal(intbv(0)[bits + 1 :])
    right = Signal(intbv(0)[bits + 1 :])
    double = Signal(modbv(0)[bits + 1 :])

    @always_comb
    def widen():
        wide.next = increment

    @always_comb
    def terms():  # the carry goes in below them
        left.next = 0
        left.next[0] = carry
        if not first:
            left.next[bits + 1 : 1] = total
        right.next[0] = carry
        right.next[bits + 1 : 1] = wide[bits:]

    @always_comb
    def add():
        double.next = left + right

    @always(clk.posedge)
    def accumulate():
        if enable and valid:
            total.next = double[bits + 1 : 1]

    @always(clk.posedge)
    def hold():
        if port.capture:
            port.result.next = total
        elif port.drain:
            port.result.next = port.behind

    return widen, terms, add, accumulate, hold
