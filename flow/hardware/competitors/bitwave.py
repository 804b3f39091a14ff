"""The PE of BitWave (Shi et al., HPCA 2024): bit columns of weights in sign and magnitude, the empty ones skipped."""

from __future__ import annotations

from myhdl import Signal, always, always_comb

from flow.hardware.competitors.lanes import ADDERS, Terms, add_four, signed, unsigned
from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.elements.accumulator import accumulator


@block
def signed_gate(x, column, signs, y, lane):
    """One lane: y signed[10] = +-activation if its weight's bit is one, else 0."""
    chosen, positive = unsigned(8), signed(10)
    low = 8 * lane

    @always_comb
    def choose():
        chosen.next = 0
        if column[lane]:
            chosen.next = x[low + 8 : low]

    @always_comb
    def widen():
        positive.next = chosen

    @always_comb
    def sign():
        if signs[lane]:
            y.next = -positive
        else:
            y.next = positive

    return choose, widen, sign


@block
@prefixed(port="")
def bitwave_pe(
    clk, enable, x, column, signs, fine, valid, first, coarse, port, bits
):  # fmt: skip
    """One magnitude column of eight weights a cycle.

    stage 2  x[64], column[8], signs[8]: activations, the weights' bits and signs
    stage 3  fine[2]: the column counts 2^fine, ...
    stage 4  valid, first, coarse: ... and 16 times that
    drain    capture, drain, behind[bits] in, result[bits] out
    """
    y = [signed(10) for _ in range(8)]
    lanes = [signed_gate(x, column, signs, y[lane], lane) for lane in range(8)]
    total, wide, partial, aligned, term = signed(13), signed(16), signed(16), signed(20), signed(21)
    never = Signal(bool(0))
    quads = [signed(12) for _ in range(2)]
    fours = [add_four(clk, enable, *y[4 * i : 4 * i + 4], quads[i]) for i in range(2)]
    adder = ADDERS[2](Terms(*quads), total)

    @always_comb
    def widen():
        wide.next = total

    @always(clk.posedge)
    def weigh():
        if enable:
            partial.next = wide << fine

    @always_comb
    def place():
        if coarse:
            aligned.next = partial << 4
        else:
            aligned.next = partial

    @always_comb
    def extend():
        term.next = aligned

    sums = accumulator(clk, enable, valid, first, term, never, port, bits)
    return lanes, fours, adder, widen, weigh, place, extend, sums
