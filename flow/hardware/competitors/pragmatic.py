"""The PE of Pragmatic (Albericio et al., MICRO 2017), weights instead of activations as the serial operand."""

from __future__ import annotations

from myhdl import Signal, always_comb

from flow.hardware.competitors.lanes import ADDERS, Terms, add_four, register, signed, unsigned
from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.elements.accumulator import accumulator


@block
def essential(x, power, signs, busy, y, lane):
    """One lane: y signed[17] = +-(activation << power), the essential bit's place; 0 unless busy.

    data: x[64], power[24] (3 bits a lane), signs[8], busy[8] in.
    """
    chosen, place, shifted, positive = unsigned(8), unsigned(3), unsigned(15), signed(17)
    low, bit = 8 * lane, 3 * lane

    @always_comb
    def choose():
        chosen.next = 0
        if busy[lane]:
            chosen.next = x[low + 8 : low]

    @always_comb
    def where():
        place.next = power[bit + 3 : bit]

    @always_comb
    def shifter():
        shifted.next = chosen << place

    @always_comb
    def widen():
        positive.next = shifted

    @always_comb
    def sign():
        if signs[lane]:
            y.next = -positive
        else:
            y.next = positive

    return choose, where, shifter, widen, sign


@block
@prefixed(port="")
def pragmatic_pe(
    clk, enable, x, power, signs, busy, valid, first, port, bits
):  # fmt: skip
    """Eight weights in sign and magnitude; a cycle takes one of the one bits of each, so that every lane shifts.

    stage 2  x[64]; power[24]: place of each lane's bit, 0 to 6; signs[8]; busy[8]: lanes with a bit left
    stage 4  valid, first
    drain    capture, drain, behind[bits] in, result[bits] out
    A shifter for all places in each lane, as cycle counts of one bit a lane and cycle need it.
    """
    y = [signed(17) for _ in range(8)]
    lanes = [essential(x, power, signs, busy, y[lane], lane) for lane in range(8)]
    total, partial, term, never = signed(20), signed(20), signed(21), Signal(bool(0))
    quads = [signed(19) for _ in range(2)]
    fours = [add_four(clk, enable, *y[4 * i : 4 * i + 4], quads[i]) for i in range(2)]
    adder = ADDERS[2](Terms(*quads), total)
    registered = register(clk, enable, total, partial)

    @always_comb
    def widen():
        term.next = partial

    sums = accumulator(clk, enable, valid, first, term, never, port, bits)
    return lanes, fours, adder, registered, widen, sums
