"""The bit-parallel processing element: one INT8 multiplier, a whole weight a cycle."""

from __future__ import annotations

from myhdl import Signal, always, always_comb, intbv

from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.elements.accumulator import accumulator


@block
def byte_select(clk, enable, word, index, chosen):
    """Register of one of eight bytes: chosen[8] takes byte index[3] of word[64] where enable is high."""

    @always(clk.posedge)
    def take():
        if enable:
            if index == 0:
                chosen.next = word[8:0]
            elif index == 1:
                chosen.next = word[16:8]
            elif index == 2:
                chosen.next = word[24:16]
            elif index == 3:
                chosen.next = word[32:24]
            elif index == 4:
                chosen.next = word[40:32]
            elif index == 5:
                chosen.next = word[48:40]
            elif index == 6:
                chosen.next = word[56:48]
            else:
                chosen.next = word[64:56]

    return take


@block
@prefixed(port="")
def parallel_pe(clk, enable, x, weight, valid, first, port, bits):
    """One multiplier with an accumulator, with the BitVert element's pipeline and drain port.

    control  enable
    stage 2  x[8]: an activation, unsigned; weight[8]: its weight, two's complement
    stage 4  valid, first
    drain    capture, drain, behind[bits] in, result[bits] out
    """
    activation = Signal(intbv(0, min=-(2**8), max=2**8))
    factor = Signal(intbv(0, min=-(2**7), max=2**7))
    product = Signal(intbv(0, min=-(2**16), max=2**16))
    term = Signal(intbv(0, min=-(2**20), max=2**20))
    nothing = Signal(bool(0))

    @always_comb
    def extend():
        activation.next = x
        factor.next = weight.signed()

    @always(clk.posedge)
    def multiply():
        if enable:
            product.next = activation * factor
            term.next = product

    return extend, multiply, accumulator(clk, enable, valid, first, term, nothing, port, bits)
