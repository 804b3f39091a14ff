"""The dense bit-serial PE of Stripes (Judd et al., MICRO 2016) with 8 or 16 lanes."""

from __future__ import annotations

from flow.hardware.competitors.lanes import ADDERS, Terms, add_four, gate, signed, unsigned, weigh
from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.elements.accumulator import accumulator, align


@block
@prefixed(port="")
def stripes_pe(
    clk, enable, x, column, fine, valid, first, negative, coarse, port, lanes, bits
):  # fmt: skip
    """One bit column of `lanes` (8 or 16) weights a cycle.

    stage 2  x[8 * lanes], column[lanes]: activations and the weights' bits
    stage 3  fine[2]: the column counts 2^fine, ...
    stage 4  valid, first, negative (most significant column), coarse: ... and 16 times that
    drain    capture, drain, behind[bits] in, result[bits] out
    """
    y = [unsigned(8) for _ in range(lanes)]
    gates = [gate(x, column, y[lane], lane) for lane in range(lanes)]
    total, partial, term = unsigned(12), unsigned(15), signed(21)
    quads = [unsigned(10) for _ in range(lanes // 4)]
    fours = [add_four(clk, enable, *y[4 * i : 4 * i + 4], quads[i]) for i in range(lanes // 4)]
    adder = ADDERS[lanes // 4](Terms(*quads), total)
    weighed = weigh(clk, enable, total, fine, partial)
    aligned = align(partial, coarse, negative, term)
    sums = accumulator(clk, enable, valid, first, term, negative, port, bits)
    return gates, fours, adder, weighed, aligned, sums
