"""One lane of Transitive Array (Guo et al., ISCA 2025) for one window: a sum of a bit row from that of another row."""

from __future__ import annotations

from myhdl import always

from flow.hardware.competitors.lanes import signed, unsigned, weigh
from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.elements.accumulator import accumulator, align


@block
@prefixed(port="")
def transitive_pe(
    clk, enable, x, prefix, total, fine, valid, first, negative, coarse, port, bits
):  # fmt: skip
    """One row of a tile a cycle: its prefix's sum plus one activation, weighed and accumulated.

    The tables of sums, the tree that chooses prefix and activation, and the network from lanes to channels are outside.

    stage 2  x[8], prefix[12]: the activation that the row has more than its prefix (0: an equal row), the prefix's sum
    stage 3  fine[2]: the row counts 2^fine, ...; out total[12], the row's sum for the table
    stage 4  valid (0: a fill-in), first, negative (most significant bits), coarse: ... and 16 times that
    drain    capture, drain, behind[bits] in, result[bits] out
    """
    partial, term = unsigned(15), signed(21)

    @always(clk.posedge)
    def add():
        if enable:
            total.next = prefix + x

    weighed = weigh(clk, enable, total, fine, partial)
    aligned = align(partial, coarse, negative, term)
    sums = accumulator(clk, enable, valid, first, term, negative, port, bits)
    return add, weighed, aligned, sums
