"""The pairs element: sixteen weights' bit columns, one, two or four a cycle, from tables of pairs."""

from __future__ import annotations

from myhdl import ConcatSignal, Signal, always, always_comb, intbv, modbv

from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.elements.accumulator import accumulator

TERM_BITS = 21


@block
def pair_choice(single, both, picks, y, pair, begin):
    """What a column's lines pick of a pair: 0, a, b or a + b.

    data: single[128], both[72]: the row's tables; picks: its lines from bit `begin` on; y[9] out. Combinational.
    """
    a, b, c = 16 * pair, 16 * pair + 8, 16 * pair + 16
    low, high = 9 * pair, 9 * pair + 9
    at_first, at_second, at_both = begin + 3 * pair, begin + 3 * pair + 1, begin + 3 * pair + 2
    first, second, sum_of_both = (Signal(intbv(0)[9:]) for _ in range(3))

    @always_comb
    def gate():
        first.next = 0
        second.next = 0
        sum_of_both.next = 0
        if picks[at_first]:
            first.next = single[b:a]
        if picks[at_second]:
            second.next = single[c:b]
        if picks[at_both]:
            sum_of_both.next = both[high:low]

    @always_comb
    def either():
        y.next = first | second | sum_of_both

    return gate, either


@block
def pair_column(clk, enable, single, both, picks, selected, begin):
    """Sum of the activations under the ones of one bit column of sixteen weights.

    control  enable
    stage 2  single[128], both[72]: the row's tables; picks: the column's lines from bit `begin` on
    stage 3  selected[12] out
    """
    y0, y1, y2, y3, y4, y5, y6, y7 = y = [Signal(intbv(0)[9:]) for _ in range(8)]
    chosen = [pair_choice(single, both, picks, each, pair, begin) for pair, each in enumerate(y)]

    low, high = Signal(intbv(0)[11:]), Signal(intbv(0)[11:])

    @always(clk.posedge)
    def add():
        if enable:
            low.next = y0 + y1 + y2 + y3
            high.next = y4 + y5 + y6 + y7

    @always_comb
    def all_pairs():
        selected.next = low + high

    return chosen, add, all_pairs


@block
def slice_value(selected, negative, value, per_cycle):
    """A slice's bit columns together: selected, 12 bits each, most significant lowest; value out, two's complement.

    control: negative: the first counts negative. `value` has 13 bits and one for each column. Combinational, modular.
    """
    width = per_cycle + 14
    place, end = per_cycle, per_cycle + 12
    # -x = ~x + 1, and below the first column its ones and a carry make that one
    flipped, rest = Signal(intbv(0)[width:]), Signal(intbv(0)[width:])
    double = Signal(modbv(0)[width:])
    top, inverted = Signal(intbv(0)[12:]), Signal(intbv(0)[12:])
    ones = 2**width - 1

    @always_comb
    def most_significant():
        top.next = selected[12:]

    @always_comb
    def invert():
        inverted.next = top ^ 0xFFF

    @always_comb
    def flip():
        if negative:
            flipped.next = ones
            flipped.next[end:place] = inverted
        else:
            flipped.next = 0
            flipped.next[end:place] = top

    if per_cycle == 1:

        @always_comb
        def others():
            rest.next = 0
            rest.next[0] = negative

    elif per_cycle == 2:

        @always_comb
        def others():
            rest.next = 0
            rest.next[0] = negative
            rest.next[13:1] = selected[24:12]

    else:
        second, third, fourth, lower = (Signal(intbv(0)[15:]) for _ in range(4))

        @always_comb
        def apart():
            second.next = selected[24:12]
            third.next = selected[36:24]
            fourth.next = selected[48:36]

        @always_comb
        def sum_up():
            lower.next = (second << 2) + (third << 1) + fourth

        @always_comb
        def others_of_four():
            rest.next = 0
            rest.next[0] = negative
            rest.next[16:1] = lower

        others = apart, sum_up, others_of_four

    @always_comb
    def add():
        double.next = flipped + rest

    @always_comb
    def show():
        value.next = double[width:1]

    return most_significant, invert, flip, others, add, show


@block
def weighed_slice(clk, enable, value, shift, total, triple, size, weighed, magnitude, per_cycle):
    """A slice's value, shifted, and the size of the digit of the constant times the sum of activations.

    control  enable
    stage 3  value[13 + per_cycle], two's complement; shift[2]; total[12]; the lines size[4]: the digit is 1, 2, 3
             (triple[14]) or 4, or 0 if none is high
    stage 4  weighed[16 + per_cycle], magnitude[14] out
    """
    width, end = 13 + per_cycle, 16 + per_cycle
    top = width - 1
    extended, by1, by2 = (Signal(intbv(0)[end:]) for _ in range(3))
    one, two, three, four = (Signal(intbv(0)[14:]) for _ in range(4))

    @always_comb
    def extend():
        extended.next = 0
        extended.next[width:] = value
        extended.next[width] = value[top]
        extended.next[width + 1] = value[top]
        extended.next[width + 2] = value[top]

    @always_comb
    def shift_1():
        if shift[0]:
            by1.next = 0
            by1.next[end:1] = extended[end - 1 :]
        else:
            by1.next = extended

    @always_comb
    def shift_2():
        if shift[1]:
            by2.next = 0
            by2.next[end:2] = by1[end - 2 :]
        else:
            by2.next = by1

    @always_comb
    def gate():
        one.next = 0
        two.next = 0
        three.next = 0
        four.next = 0
        if size[0]:
            one.next = total
        if size[1]:
            two.next[13:1] = total
        if size[2]:
            three.next = triple
        if size[3]:
            four.next[14:2] = total

    @always(clk.posedge)
    def register():
        if enable:
            weighed.next = by2
            magnitude.next = one | two | three | four

    return extend, shift_1, shift_2, gate, register


@block
def aligned_term(weighed, coarse, magnitude, minus, high, term):
    """What a slice adds to the sum: weighed (two's complement), 16 times that if coarse, and the constant's part.

    That is magnitude[14], eight times that if high; if minus it is one less than its negation, ~x = -x - 1: the
    accumulator adds the one. term[21] out, two's complement. Combinational, modular.
    """
    extended = Signal(intbv(0, min=-(2**20), max=2**20))
    aligned, placed, offset = (Signal(intbv(0)[TERM_BITS:]) for _ in range(3))
    double = Signal(modbv(0)[TERM_BITS:])
    every_bit, end = 2**TERM_BITS - 1, TERM_BITS - 4

    @always_comb
    def extend():
        extended.next = weighed.signed()

    @always_comb
    def align():
        if coarse:
            aligned.next = 0
            aligned.next[TERM_BITS:4] = extended[end:]
        else:
            aligned.next = extended[TERM_BITS:]

    @always_comb
    def place():
        placed.next = 0
        if high:
            placed.next[17:3] = magnitude
        else:
            placed.next[14:] = magnitude

    @always_comb
    def negate():
        if minus:
            offset.next = placed ^ every_bit
        else:
            offset.next = placed

    @always_comb
    def add():
        double.next = aligned + offset

    @always_comb
    def show():
        term.next = double

    return extend, align, place, negate, add, show


@block
@prefixed(row="", column="", port="")
def pairs_pe(clk, enable, row, column, negative, valid, first, port, bits, per_cycle):
    """One pairs element.

    control  enable
    stage 2  single[128], both[72]: the row's tables; picks[24 * per_cycle]: the column's choices
    stage 3  total[12], triple[14]: sums of these activations; size[4]: the digit of the constant; fine[2]: the slice
             counts 2^fine, ...; negative: its first column counts negative
    stage 4  valid, first, coarse: ... and 16 times that; minus, high: the digit is negative, counts eightfold
    drain    capture, drain, behind[bits] in, result[bits] out
    """
    selected = [Signal(intbv(0)[12:]) for _ in range(per_cycle)]
    every = ConcatSignal(*reversed(selected)) if per_cycle > 1 else selected[0]
    value, weighed = Signal(intbv(0)[13 + per_cycle :]), Signal(intbv(0)[16 + per_cycle :])
    magnitude, term = Signal(intbv(0)[14:]), Signal(intbv(0)[TERM_BITS:])
    increment = Signal(intbv(0, min=-(2**20), max=2**20))

    columns = [
        pair_column(clk, enable, row.single, row.both, column.picks, each, 24 * number)
        for number, each in enumerate(selected)
    ]
    together = slice_value(every, negative, value, per_cycle)
    weighing = weighed_slice(
        clk, enable, value, column.fine, row.total, row.triple, column.size, weighed, magnitude, per_cycle
    )
    aligning = aligned_term(weighed, column.coarse, magnitude, column.minus, column.high, term)

    @always_comb
    def sign():
        increment.next = term.signed()

    sums = accumulator(clk, enable, valid, first, increment, column.minus, port, bits)
    return columns, together, weighing, aligning, sign, sums
