"""Post-processing: sums and maxima over the taps of a window, of eight channels for every array row.

It takes the array's operands and leaves by the array's drain port, so that the requantizers finish what it
begins: a residual addition is the sum of two taps with a factor each, pooling the sum or the maximum of many. If the
network needs them, there are products and differences of two taps, too.
"""

from __future__ import annotations

from myhdl import Signal, always, always_comb, intbv, modbv

from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.core.array import LATENCY
from flow.hardware.core.wires import flags as wires
from flow.hardware.core.wires import join
from flow.hardware.elements.bundles import DrainPort
from flow.hardware.fields import FACTOR_BITS, PRODUCT_OFFSET
from flow.hardware.maps.bundles import Given, Pair


@block
def product_terms(clk, enable, late, product, minus, factor, zero_low, zero_high, x, following, part):
    """What one octet of a step adds to a channel of one row, where there are products and differences.

    control  enable; stage 2: late: of the high octet, product, minus
    data     stage 2: factor[21], x[8]: of this octet; zero_low[8], zero_high[8]; following[8]: with the low octet, the
             high one; part[31] out, in stage 3: two's complement
    A product is (x - zero_low) * (following - zero_high) with the low octet, and 2**16 with the high one; a difference
    is x * factor + 2**29 with the low octet, and -x * factor with the high one.
    """
    width = 2 + 8 + FACTOR_BITS
    left = Signal(intbv(0, min=-(1 << 8), max=1 << 8))
    right = Signal(intbv(0, min=-(1 << FACTOR_BITS), max=1 << FACTOR_BITS))
    term = Signal(intbv(0, min=-(1 << width - 1), max=1 << width - 1))

    @always_comb
    def operands():
        if product:
            left.next = x - zero_low
            right.next = following - zero_high
        else:
            right.next = factor
            if minus and late:
                left.next = 0 - x
            else:
                left.next = x

    @always_comb
    def multiply():
        term.next = left * right

    @always(clk.posedge)
    def register():
        if enable:
            if product and late:
                part.next = PRODUCT_OFFSET
            else:
                part.next = term[width:]
                if minus and (not late):
                    part.next[width - 2] = True  # MINUS_OFFSET, above the product

    return operands, multiply, register


@block
@prefixed(pair="", port="", normal="")
def post_channel(clk, enable, adds, first, maximum, factor, x, pair, port, normal, bits):
    """One channel of one row: the octets of a step one after the other, with one multiplier.

    control  enable; stage 3: adds: there is an octet, first (of a tile), maximum; with products, stage 2: late (the
             high octet), product, minus; with a normalizer, stage 4: gives: its result is given now
    data     stage 2: factor[21], x[8]; with products zero_low[8], zero_high[8], following[8], too; stage 4: given[32]
    drain    capture, drain, behind[bits] in, result[bits] out
    Of a maximum, the factor is 1.
    """
    total, summed = Signal(modbv(0)[bits:]), Signal(modbv(0)[bits:])
    if pair is None:  # without products
        part = Signal(intbv(0)[8 + FACTOR_BITS :])

        @always(clk.posedge)
        def register():
            if enable:
                part.next = x * factor

        adding, addend = [register], part
    else:
        part = Signal(intbv(0)[2 + 8 + FACTOR_BITS :])
        addend = Signal(intbv(0, min=-(1 << 32), max=1 << 32))  # as wide as the total: VHDL widens without sign

        @always_comb
        def sign():
            addend.next = part.signed()

        terms = product_terms(
            clk, enable, pair.late, pair.product, pair.minus, factor, pair.zero_low, pair.zero_high, x, pair.following,
            part,
        )  # fmt: skip
        adding = [terms, sign]

    @always_comb
    def add():
        summed.next = total + addend
        if maximum:
            if first or (part[8:] > total[8:]):
                summed.next = part[8:]
            else:
                summed.next = total
        elif first:
            summed.next = addend

    if normal is None:

        @always(clk.posedge)
        def accumulate():
            if enable and adds:
                total.next = summed

    else:

        @always(clk.posedge)
        def accumulate():
            if enable and normal.gives:
                total.next = normal.given
            elif enable and adds:
                total.next = summed

    @always(clk.posedge)
    def hold():
        if port.capture:
            port.result.next = total
        elif port.drain:
            port.result.next = port.behind

    return adding, add, accumulate, hold


@block
def signs(clk, enable, take, product, minus, load, multiplies, subtracts):
    """The fields product and minus, from the next block's job to the stage where the channels need them.

    job      take: product and minus are those of the next block
    control  enable; load: as for the array; multiplies, subtracts out: in stage 2
    """
    next_product, next_minus, this_product, this_minus, product1, minus1 = (Signal(bool(0)) for _ in range(6))

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
            multiplies.next = product1
            subtracts.next = minus1

    return fields, begin


@block
@prefixed(work="", normal="")
def post(clk, reset, enable, work, valid, first, load, word, capture, drain, results, normal, rows, lanes, bits):
    """Eight channels of every row.

    job      take: the fields maximum, factor_low[21] and factor_high[21] are those of the next block
    control  enable; valid, first, load: aligned with the word, as for the array; capture, drain: the result registers
    data     word[128 * rows]: the low octets of all rows, then the high ones; results[bits * rows * lanes]: lane 0
             lowest; normal: with a normalizer, what it gives at the last stage
    A step takes two cycles: the word holds for another enabled one, and nothing is issued in between.
    Stages: word, 0; low octet, 1; high octet, and the low one, 2; product of the low one, 3; of the high one, and the
    low one's total, 4; total, 5.
    Latency: as the array's.
    """
    assert LATENCY == 5, "the totals leave with the array's sums"
    next_maximum, this_maximum, maximum1, maximum2, maximum3 = (Signal(bool(0)) for _ in range(5))
    valid1, valid2, valid3, valid4, first1, first2, first3, load1, late2, adds = (Signal(bool(0)) for _ in range(10))
    next_low, next_high, this_low, this_high, low1, high1, factor = (Signal(intbv(0)[FACTOR_BITS:]) for _ in range(7))
    half = 64 * rows
    octets1, octets2 = Signal(intbv(0)[half:]), Signal(intbv(0)[half:])
    result = [[Signal(intbv(0)[bits:]) for _ in range(8)] for _ in range(rows)]
    nothing = Signal(intbv(0)[bits:])
    parts = []

    @always(clk.posedge)
    def fields():
        if work.take:
            next_maximum.next = work.maximum
            next_low.next = work.factor_low
            next_high.next = work.factor_high

    @always(clk.posedge)
    def begin():
        if enable:
            this_maximum.next = next_maximum  # a block's job is taken as the last step before it is issued
            this_low.next = next_low
            this_high.next = next_high
            if load:
                maximum1.next = this_maximum
                if this_maximum:
                    low1.next = 1
                    high1.next = 1
                else:
                    low1.next = this_low
                    high1.next = this_high
            if load1:
                factor.next = low1
            else:
                factor.next = high1

    @always(clk.posedge)
    def operands():
        if enable:
            if load:
                octets1.next = word[half:]
            else:
                octets1.next = word[2 * half : half]
            octets2.next = octets1

    @always(clk.posedge)
    def pipeline():
        if enable:
            load1.next = load
            late2.next = not load1
            maximum2.next = maximum1
            maximum3.next = maximum2
            valid1.next = valid
            valid2.next = valid1
            valid3.next = valid2
            valid4.next = valid3
            first1.next = first
            first2.next = first1
            first3.next = first2

    if normal is None:

        @always_comb
        def adding():
            adds.next = valid3 or valid4

    else:

        @always_comb
        def adding():
            adds.next = (valid3 and (not normal.holds3)) or (valid4 and (not normal.holds4))

    if work.product is not None:
        multiplies, subtracts = wires(2)
        parts.append(signs(clk, enable, work.take, work.product, work.minus, load, multiplies, subtracts))
    for r in range(rows):
        for k in range(8):
            at = 64 * r + 8 * k
            pair = None
            if work.product is not None:
                pair = Pair(late2, multiplies, subtracts, low1(8, 0), high1(8, 0), octets1(at + 8, at))
            behind = result[r][k + lanes] if k + lanes < 8 else nothing
            own = normal and Given(normal.gives(k), normal.given(32 * r + 32, 32 * r), None, None)
            parts.append(
                post_channel(
                    clk, enable, adds, first3, maximum3, factor, octets2(at + 8, at), pair,
                    DrainPort(capture, drain, behind, result[r][k]), own, bits,
                )
            )  # fmt: skip
    leaving = join(
        *(result[r][lane] if lane < 8 else nothing for lane in reversed(range(lanes)) for r in reversed(range(rows)))
    )

    @always_comb
    def leave():
        results.next = leaving

    return fields, begin, operands, pipeline, adding, parts, leave
