"""The pairs element: sixteen weights' bit columns, one, two or four a cycle, from tables of pairs."""

from __future__ import annotations

from myhdl import Signal, always, always_comb, intbv, modbv

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

    @always(clk.posedge)
    def add():
        if enable:
            selected.next = y0 + y1 + y2 + y3 + y4 + y5 + y6 + y7

    return chosen, add


@block
def slice_value(selected, negative, value):
    """A slice's bit columns together: selected[12] each, most significant first; value out, two's complement.

    control: negative: the first counts negative. `value` has 13 bits and one for each column. Combinational, modular.
    """
    per_cycle, width = len(selected), len(value) + 1
    place, end = per_cycle, per_cycle + 12
    top = selected[0]
    # -x = ~x + 1, and below the first column its ones and a carry make that one
    flipped, rest = Signal(intbv(0)[width:]), Signal(intbv(0)[width:])
    double = Signal(modbv(0)[width:])
    inverted = Signal(intbv(0)[12:])
    ones = 2**width - 1

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
        second = selected[1]

        @always_comb
        def others():
            rest.next = 0
            rest.next[0] = negative
            rest.next[13:1] = second

    else:
        _, second, third, fourth = selected
        lower = Signal(intbv(0)[15:])

        @always_comb
        def sum_up():
            lower.next = (second << 2) + (third << 1) + fourth

        @always_comb
        def others_of_four():
            rest.next = 0
            rest.next[0] = negative
            rest.next[16:1] = lower

        others = sum_up, others_of_four

    @always_comb
    def add():
        double.next = flipped + rest

    @always_comb
    def show():
        value.next = double[width:1]

    return invert, flip, others, add, show


@block
def aligned_term(value, shift, total, triple, size, minus, high, term):
    """A slice's value at its place, and a digit of the constant times the sum of activations.

    value (two's complement) shifted by shift[3]; a digit of so many total[12], by the lines size[4] of 1, 2, 3
    (triple[14]) and 4, minus: negative, high: eightfold; term[21] out, two's complement. Combinational, modular.
    """
    extended = Signal(intbv(0, min=-(2**20), max=2**20))
    by1, by2, by4 = (Signal(modbv(0)[TERM_BITS:]) for _ in range(3))
    one, two, three, four = (Signal(intbv(0)[14:]) for _ in range(4))
    magnitude = Signal(intbv(0)[14:])
    placed, offset = Signal(intbv(0)[TERM_BITS:]), Signal(intbv(0)[TERM_BITS:])
    every_bit = 2**TERM_BITS - 1
    left, right = Signal(intbv(0)[TERM_BITS + 1 :]), Signal(intbv(0)[TERM_BITS + 1 :])
    double = Signal(modbv(0)[TERM_BITS + 1 :])

    @always_comb
    def extend():
        extended.next = value.signed()

    @always_comb
    def shift_1():
        if shift[0]:
            by1.next[TERM_BITS:1] = extended[TERM_BITS - 1 :]
            by1.next[0] = 0
        else:
            by1.next = extended[TERM_BITS:]

    @always_comb
    def shift_2():
        if shift[1]:
            by2.next = by1 << 2
        else:
            by2.next = by1

    @always_comb
    def shift_4():
        if shift[2]:
            by4.next = by2 << 4
        else:
            by4.next = by2

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

    @always_comb
    def either():
        magnitude.next = one | two | three | four

    @always_comb
    def place():
        placed.next = 0
        if high:
            placed.next[17:3] = magnitude
        else:
            placed.next[14:] = magnitude

    @always_comb
    def negate():  # -x = ~x + 1: the carry of the addition is the one
        if minus:
            offset.next = placed ^ every_bit
        else:
            offset.next = placed

    @always_comb
    def terms():
        left.next = 0
        left.next[0] = minus
        left.next[TERM_BITS + 1 : 1] = by4
        right.next = 0
        right.next[0] = minus
        right.next[TERM_BITS + 1 : 1] = offset

    @always_comb
    def add():
        double.next = left + right

    @always_comb
    def show():
        term.next = double[TERM_BITS + 1 : 1]

    return extend, shift_1, shift_2, shift_4, gate, either, place, negate, terms, add, show


@block
@prefixed(row="", column="", port="")
def pairs_pe(clk, enable, row, column, negative, valid, first, port, bits, per_cycle):
    """One pairs element.

    control  enable
    stage 2  single[128], both[72]: the row's tables; picks[24 * per_cycle]: the column's choices
    stage 3  total[12], triple[14]: sums of these activations; shift[3]; a digit of the constant by size[4], minus,
             high; negative: the slice's first column counts negative
    stage 4  valid, first
    drain    capture, drain, behind[bits] in, result[bits] out
    """
    selected = tuple(Signal(intbv(0)[12:]) for _ in range(per_cycle))
    value = Signal(intbv(0)[13 + per_cycle :])
    term, held = Signal(intbv(0)[TERM_BITS:]), Signal(intbv(0)[TERM_BITS:])
    increment = Signal(intbv(0, min=-(2**20), max=2**20))
    nothing = Signal(bool(0))

    columns = [
        pair_column(clk, enable, row.single, row.both, column.picks, each, 24 * number)
        for number, each in enumerate(selected)
    ]
    together = slice_value(selected, negative, value)
    weighed = aligned_term(value, column.shift, row.total, row.triple, column.size, column.minus, column.high, term)

    @always(clk.posedge)
    def register():
        if enable:
            held.next = term

    @always_comb
    def sign():
        increment.next = held.signed()

    sums = accumulator(clk, enable, valid, first, increment, nothing, port, bits)
    return columns, together, weighed, register, sign, sums
