"""Post-processing: sums and maxima over the taps of a window, of eight channels for every array row.

It takes the array's operands and leaves by the array's drain port, so that the requantizers finish what it
begins: a residual addition is the sum of two taps with a factor each, pooling the sum or the maximum of many. If the
network needs them, there are products and differences of two taps, too.
"""

from __future__ import annotations

from itertools import pairwise

from myhdl import Signal, always, always_comb, intbv

from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.core.array import LATENCY
from flow.hardware.core.wires import delay, join
from flow.hardware.core.wires import flags as wires
from flow.hardware.elements.bundles import DrainPort
from flow.hardware.fields import FACTOR_BITS, MINUS_OFFSET, PRODUCT_OFFSET
from flow.hardware.maps.bundles import Given


@block
def product_terms(clk, enable, product, minus, factor_low, factor_high, x_low, x_high, larger, addend):
    """What one step adds to a channel of one row, where there are products and differences.

    control  enable; stage 1: product; stage 2: minus
    data     stage 1: x_low[8], x_high[8], factor_low[21], factor_high[21]; larger[8], addend[30] out, in stage 2
    A product is (x_low - z_low) * (x_high - z_high) + 2**16, with the zero points in the low bytes of the factors; a
    difference is x_low * factor_low - x_high * factor_high + 2**29. One multiplier serves product and sum.
    """
    left = Signal(intbv(0, min=-(1 << 8), max=1 << 8))
    right = Signal(intbv(0, min=-(1 << FACTOR_BITS), max=1 << FACTOR_BITS))
    low_part = Signal(intbv(0, min=-(1 << 8 + FACTOR_BITS), max=1 << 8 + FACTOR_BITS))
    high_part = Signal(intbv(0)[8 + FACTOR_BITS :])

    @always_comb
    def operands():
        if product:
            left.next = x_low - factor_low[8:]
            right.next = x_high - factor_high[8:]
        else:
            left.next = x_low
            right.next = factor_low

    @always(clk.posedge)
    def register():
        if enable:
            low_part.next = left * right
            if product:
                high_part.next = PRODUCT_OFFSET
            else:
                high_part.next = x_high * factor_high
            if x_low > x_high:
                larger.next = x_low
            else:
                larger.next = x_high

    @always_comb
    def add():
        if minus:
            addend.next = low_part + MINUS_OFFSET - high_part
        else:
            addend.next = low_part + high_part

    return operands, register, add


@block
@prefixed(port="", normal="")
def post_channel(
    clk, enable, valid, first, maximum, product, minus, factor_low, factor_high, x_low, x_high, port, normal, bits
):
    """One channel of one row.

    control  enable; stage 2: valid, first (of a tile), maximum; with a normalizer gives, holds: the block is one of
             the normalizer's, whose result is given now
    data     stage 1: x_low[8], x_high[8], factor_low[21], factor_high[21]; stage 2: given[32]
    drain    capture, drain, behind[bits] in, result[bits] out
    """
    larger = Signal(intbv(0)[8:])
    addend = Signal(intbv(0)[9 + FACTOR_BITS :])
    total = Signal(intbv(0)[bits:])

    if product is None:  # and minus, too: without products
        low_part, high_part = (Signal(intbv(0)[8 + FACTOR_BITS :]) for _ in range(2))

        @always(clk.posedge)
        def register():
            if enable:
                low_part.next = x_low * factor_low
                high_part.next = x_high * factor_high
                if x_low > x_high:
                    larger.next = x_low
                else:
                    larger.next = x_high

        @always_comb
        def add():
            addend.next = low_part + high_part

        adding = [register, add]
    else:
        adding = product_terms(clk, enable, product, minus, factor_low, factor_high, x_low, x_high, larger, addend)

    if normal is None:

        @always(clk.posedge)
        def accumulate():
            if enable and valid:
                if maximum:
                    if first or (larger > total):
                        total.next = larger
                elif first:
                    total.next = addend
                else:
                    total.next = total + addend

    else:

        @always(clk.posedge)
        def accumulate():
            if enable and normal.holds:
                if normal.gives:
                    total.next = normal.given
            elif enable and valid:
                if maximum:
                    if first or (larger > total):
                        total.next = larger
                elif first:
                    total.next = addend
                else:
                    total.next = total + addend

    @always(clk.posedge)
    def hold():
        if port.capture:
            port.result.next = total
        elif port.drain:
            port.result.next = port.behind

    return adding, accumulate, hold


@block
def signs(clk, enable, take, product, minus, load, multiplies, subtracts):
    """The fields product and minus, from the next block's job to the stages where the channels need them.

    job      take: product and minus are those of the next block
    control  enable; load: as for the array; multiplies, subtracts out: in stage 1 and 2 of the channels
    """
    next_product, next_minus, this_product, this_minus = (Signal(bool(0)) for _ in range(4))
    stages = LATENCY - 3  # as in `post`
    products = [*(Signal(bool(0)) for _ in range(stages)), multiplies]
    minuses = [*(Signal(bool(0)) for _ in range(stages + 1)), subtracts]
    product1, minus1 = products[0], minuses[0]

    @always(clk.posedge)
    def fields():
        if take:
            next_product.next = product
            next_minus.next = minus

    @always(clk.posedge)
    def begin():
        if enable:
            this_product.next = next_product
            this_minus.next = next_minus
            if load:
                product1.next = this_product
                minus1.next = this_minus

    pairs = [*pairwise(products), *pairwise(minuses)]
    return fields, begin, [delay(clk, enable, d, q) for d, q in pairs]


@block
@prefixed(work="", normal="")
def post(clk, reset, enable, work, valid, first, load, word, capture, drain, results, normal, rows, lanes, bits):
    """Eight channels of every row.

    job      take: the fields maximum, factor_low[21] and factor_high[21] are those of the next block
    control  enable; valid, first, load: aligned with the word, as for the array; capture, drain: the result registers
    data     word[128 * rows]: the low octets of all rows, then the high ones; results[bits * rows * lanes]: lane 0
             lowest; normal: with a normalizer, what it gives at the last stage
    Latency: as the array's.
    """
    next_maximum, this_maximum, maximum1, maximum2, valid1, valid2, first1, first2 = (Signal(bool(0)) for _ in range(8))
    next_low, next_high, this_low, this_high, low1, high1 = (Signal(intbv(0)[FACTOR_BITS:]) for _ in range(6))
    operand = Signal(intbv(0)[128 * rows :])
    result = [[Signal(intbv(0)[bits:]) for _ in range(8)] for _ in range(rows)]
    nothing = Signal(intbv(0)[bits:])

    @always(clk.posedge)
    def fields():
        if work.take:
            next_maximum.next = work.maximum
            next_low.next = work.factor_low
            next_high.next = work.factor_high

    @always(clk.posedge)
    def pipeline():
        if enable:
            valid1.next = valid
            first1.next = first
            this_maximum.next = next_maximum  # a block's job is taken as the last step before it is issued
            this_low.next = next_low
            this_high.next = next_high
            if load:
                operand.next = word
                maximum1.next = this_maximum
                low1.next = this_low
                high1.next = this_high

    # As many registers as the array has more than the three of operand, product and sum.
    parts, operands, flags, factors = [], operand, (valid1, first1, maximum1), (low1, high1)
    for _ in range(LATENCY - 3):
        behind = [Signal(intbv(0)[128 * rows :]), *wires(len(flags))]
        behind += [Signal(intbv(0)[FACTOR_BITS:]) for _ in factors]
        ahead = (operands, *flags, *factors)
        parts += [delay(clk, enable, d, q) for d, q in zip(ahead, behind, strict=True)]
        operands, flags, factors = behind[0], tuple(behind[1:4]), tuple(behind[4:])
    last_valid, last_first, last_maximum = flags
    multiplies = subtracts = None
    if work.product is not None:
        multiplies, subtracts = wires(2)
        parts.append(signs(clk, enable, work.take, work.product, work.minus, load, multiplies, subtracts))

    @always(clk.posedge)
    def product_stage():
        if enable:
            valid2.next = last_valid
            first2.next = last_first
            maximum2.next = last_maximum

    for r in range(rows):
        for k in range(8):
            low, high = 64 * r + 8 * k, 64 * (rows + r) + 8 * k
            behind = result[r][k + lanes] if k + lanes < 8 else nothing
            own = normal and Given(normal.gives(k), normal.given(32 * r + 32, 32 * r), normal.holds)
            parts.append(
                post_channel(
                    clk, enable, valid2, first2, maximum2, multiplies, subtracts, *factors, operands(low + 8, low),
                    operands(high + 8, high), DrainPort(capture, drain, behind, result[r][k]), own, bits,
                )
            )  # fmt: skip
    leaving = join(
        *(result[r][lane] if lane < 8 else nothing for lane in reversed(range(lanes)) for r in reversed(range(rows)))
    )

    @always_comb
    def leave():
        results.next = leaving

    return fields, pipeline, parts, product_stage, leave
