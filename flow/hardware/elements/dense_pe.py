"""The dense bit-serial processing element (Stripes): eight weights a cycle, one bit column of each."""

from __future__ import annotations

from myhdl import Signal, always, always_comb, intbv

from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.elements.accumulator import accumulator, align


@block
@prefixed(port="")
def dense_pe(clk, enable, x, bits_in, fine, valid, first, negative, coarse, port, bits):
    """One dense element, with the BitVert element's pipeline and drain port.

    control  enable
    stage 2  x[64]: eight activations; bits_in[8]: one bit column of their weights
    stage 3  fine[2]: the column counts 2^fine, ...
    stage 4  valid, first, negative, coarse: ... and 16 times that
    drain    capture, drain, behind[bits] in, result[bits] out
    """
    y = [Signal(intbv(0)[8:]) for _ in range(8)]
    y0, y1, y2, y3, y4, y5, y6, y7 = y
    low, high = Signal(intbv(0)[10:]), Signal(intbv(0)[10:])
    selected = Signal(intbv(0)[11:])
    partial = Signal(intbv(0)[15:])
    term = Signal(intbv(0, min=-(2**20), max=2**20))

    @always_comb
    def multiply():
        y0.next = 0
        y1.next = 0
        y2.next = 0
        y3.next = 0
        y4.next = 0
        y5.next = 0
        y6.next = 0
        y7.next = 0
        if bits_in[0]:
            y0.next = x[8:0]
        if bits_in[1]:
            y1.next = x[16:8]
        if bits_in[2]:
            y2.next = x[24:16]
        if bits_in[3]:
            y3.next = x[32:24]
        if bits_in[4]:
            y4.next = x[40:32]
        if bits_in[5]:
            y5.next = x[48:40]
        if bits_in[6]:
            y6.next = x[56:48]
        if bits_in[7]:
            y7.next = x[64:56]

    @always_comb
    def both():
        selected.next = low + high

    @always(clk.posedge)
    def register():
        if enable:
            low.next = y0 + y1 + y2 + y3
            high.next = y4 + y5 + y6 + y7
            partial.next = selected << fine

    aligned = align(partial, coarse, negative, term)
    sums = accumulator(clk, enable, valid, first, term, negative, port, bits)
    return multiply, both, register, aligned, sums
