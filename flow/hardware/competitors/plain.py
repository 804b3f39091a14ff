"""Plain INT8: a dot product of 1, 2, 4 or 8 whole weights a cycle, one accumulator for all of them."""

from __future__ import annotations

from myhdl import always_comb

from flow.hardware.competitors.lanes import ADDERS, Terms, register, signed
from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.core.wires import flags
from flow.hardware.elements.accumulator import accumulator


@block
def multiply(activations, weights, product, lane):
    """The product of one lane: activation `lane`, unsigned, times weight `lane`, two's complement."""
    begin, end = 8 * lane, 8 * lane + 8
    activation, factor = signed(9), signed(8)

    @always_comb
    def extend():
        activation.next = activations[end:begin]
        factor.next = weights[end:begin].signed()

    @always_comb
    def times():
        product.next = activation * factor

    return extend, times


@block
@prefixed(port="")
def plain_pe(clk, enable, activations, weights, valid, first, port, lanes, bits):
    """A dot product of `lanes` (1, 2, 4 or 8) weights a cycle.

    stage 3  activations[8 * lanes], unsigned; weights[8 * lanes], two's complement
    stage 4  valid, first; there is one register between operands and accumulator, no more than it needs
    drain    capture, drain, behind[bits] in, result[bits] out
    """
    (nothing,) = flags(1)
    products = [signed(17) for _ in range(lanes)]
    total, term = signed(21), signed(21)
    multipliers = [multiply(activations, weights, each, lane) for lane, each in enumerate(products)]
    adder = ADDERS[lanes](Terms(*products), total)
    held = register(clk, enable, total, term)
    sums = accumulator(clk, enable, valid, first, term, nothing, port, bits)
    return multipliers, adder, held, sums
