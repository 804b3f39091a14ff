"""The PE of BitWave (Shi et al., HPCA 2024): bit columns of weights in sign and magnitude, the empty ones skipped."""

from myhdl import always, always_comb

from flow.hardware.competitors.lanes import ADDERS, signed, unsigned
from flow.hardware.hierarchy import block
from flow.hardware.pe import accumulator


@block
def signed_gate(x, column, signs, y, lane):
    """One lane: y signed[10] = +-activation if its weight's bit is one, else 0."""
    chosen, positive = unsigned(8), signed(10)

    @always_comb
    def choose():
        chosen.next = 0
        low = 8 * lane
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
def bitwave_pe(
    clk, enable, x, column, signs, valid, first, shift, capture, drain, behind, result, bits
):  # fmt: skip
    """One magnitude column of eight weights a cycle.

    stage 1  x[64], column[8], signs[8]: activations, the weights' bits and signs
    stage 2  valid, first, shift[3]: the column's significance, 0 to 6
    drain    capture, drain, behind[bits] in, result[bits] out
    """
    y = [signed(10) for _ in range(8)]
    lanes = [signed_gate(x, column, signs, y[lane], lane) for lane in range(8)]
    total, partial, wide, term = signed(13), signed(13), signed(21), signed(21)
    adder = ADDERS[8](*y, total)

    @always(clk.posedge)
    def register():
        if enable:
            partial.next = total

    @always_comb
    def widen():
        wide.next = partial

    @always_comb
    def shifter():
        term.next = wide << shift

    sums = accumulator(clk, enable, valid, first, term, capture, drain, behind, result, bits)
    return lanes, adder, register, widen, shifter, sums
