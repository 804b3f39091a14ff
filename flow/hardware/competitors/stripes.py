"""The dense bit-serial PE of Stripes (Judd et al., MICRO 2016) with 8 or 16 lanes."""

from myhdl import always

from flow.hardware.competitors.lanes import ADDERS, align, gate, signed, unsigned
from flow.hardware.hierarchy import block
from flow.hardware.pe import accumulator


@block
def stripes_pe(
    clk, enable, x, column, valid, first, negative, shift, capture, drain, behind, result, lanes, bits
):  # fmt: skip
    """One bit column of `lanes` (8 or 16) weights a cycle.

    stage 1  x[8 * lanes], column[lanes]: activations and the weights' bits
    stage 2  valid, first, negative (most significant column), shift[3]
    drain    capture, drain, behind[bits] in, result[bits] out
    """
    y = [unsigned(8) for _ in range(lanes)]
    gates = [gate(x, column, y[lane], lane) for lane in range(lanes)]
    total, partial, term = unsigned(12), unsigned(12), signed(21)
    adder = ADDERS[lanes](*y, total)

    @always(clk.posedge)
    def register():
        if enable:
            partial.next = total

    aligned = align(partial, negative, shift, term)
    sums = accumulator(clk, enable, valid, first, term, capture, drain, behind, result, bits)
    return gates, adder, register, aligned, sums
