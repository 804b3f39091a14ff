"""The BitVert processing element (paper IV-B, fig. 7): sixteen weights' bit column a cycle on eight multipliers."""

from __future__ import annotations

from myhdl import ConcatSignal, Signal, always, always_comb, intbv, modbv

from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.elements.accumulator import accumulator, align
from flow.hardware.elements.scheduler import schedule_subgroup


def column_sum(bits: int, x: list[int]) -> int:
    """The software model of one sub-group: the sum of the activations whose weight bit is one (eq. 1 to 3)."""
    codes, invert = schedule_subgroup(bits)
    taken = sum(x[lane + code] for lane, code in enumerate(codes) if code < 5)
    return sum(x) - taken if invert else taken


@block
def multiplexer(x, choice, y, position, begin):
    """The 5:1 multiplexer of lane `position`: x[64], its code at bit `begin` of choice[12]; y[8] out."""
    end = begin + 3
    b0, b1, b2, b3, b4, b5 = (8 * (position + j) for j in range(6))

    @always_comb
    def choose():
        if choice[end:begin] == 0:
            y.next = x[b1:b0]
        elif choice[end:begin] == 1:
            y.next = x[b2:b1]
        elif choice[end:begin] == 2:
            y.next = x[b3:b2]
        elif choice[end:begin] == 3:
            y.next = x[b4:b3]
        elif choice[end:begin] == 4:
            y.next = x[b5:b4]
        else:
            y.next = 0

    return choose


@block
def subgroup(clk, enable, x, choice, total, invert, selected):
    """Sum of the activations under the ones of eight weight bits, adding at most four of them.

    control  enable
    stage 2  x[64], choice[12]
    stage 3  total[11]: the sum of x; invert; selected[11] out (modular: it may pass through garbage while its inputs
             settle)
    """
    y0, y1, y2, y3 = (Signal(intbv(0)[8:]) for _ in range(4))
    lanes = [
        multiplexer(x, choice, y0, 0, 0),
        multiplexer(x, choice, y1, 1, 3),
        multiplexer(x, choice, y2, 2, 6),
        multiplexer(x, choice, y3, 3, 9),
    ]
    taken = Signal(intbv(0)[10:])

    @always(clk.posedge)
    def add():
        if enable:
            taken.next = y0 + y1 + y2 + y3

    @always_comb
    def complement():
        if invert:
            selected.next = total - taken
        else:
            selected.next = taken

    return lanes, add, complement


@block
def constant_multiplier(total, piece, high, product):
    """Three bits of the group constant d times ΣA (paper fig. 7): low piece unsigned, high piece signed.

    data: total[12], piece[3] in; control: high; product signed[16] out. Combinational.
    """
    one = Signal(intbv(0)[12:])
    two = Signal(intbv(0)[13:])  # below twice the sum there is room for the one of -x = ~x + 1
    four = Signal(intbv(0)[14:])
    flipped = Signal(intbv(0)[14:])
    either = ConcatSignal(high, flipped)
    lower = Signal(intbv(0, min=-(2**15), max=2**15))
    upper = Signal(intbv(0, min=-(2**15), max=2**15))

    @always_comb
    def gate():
        one.next = 0
        two.next = 0
        four.next = 0
        if piece[0]:
            one.next = total
        if piece[1]:
            two.next[13:1] = total
        if piece[2]:
            four.next = total << 2
        two.next[0] = high

    @always_comb
    def flip():
        if high:
            flipped.next = four ^ 0x3FFF
        else:
            flipped.next = four

    @always_comb
    def sign():
        upper.next = either.signed()

    @always_comb
    def add():
        lower.next = one + two

    @always_comb
    def combine():
        product.next = lower + upper

    return gate, flip, sign, add, combine


@block
@prefixed(row="", column="", port="")
def pe(clk, enable, row, column, valid, first, negative, port, bits):
    """One processing element.

    control  enable
    stage 2  x_low[64], x_high[64]: the row's activations; select_*[12]: the column's choices
    stage 3  sum_low[11], sum_high[11], sum_all[12] of these activations; invert_*; constant piece[3], high (it is the
             signed upper half of d); fine[2]: the column counts 2^fine, ...
    stage 4  valid, first (of a tile), negative (most significant column), scale_high (the piece counts eightfold),
             coarse: ... and 16 times that
    drain    capture, drain, behind[bits] in, result[bits] out
    Latency: three cycles from activations to the sum, one more to result.
    """
    selected_low = Signal(modbv(0, min=0, max=2**11))
    selected_high = Signal(modbv(0, min=0, max=2**11))
    selected = Signal(intbv(0)[12:])
    partial = Signal(intbv(0)[15:])
    product = Signal(intbv(0, min=-(2**15), max=2**15))
    offset_part = Signal(intbv(0, min=-(2**15), max=2**15))
    term = Signal(intbv(0, min=-(2**20), max=2**20))
    scaled = Signal(intbv(0, min=-(2**20), max=2**20))
    increment = Signal(intbv(0, min=-(2**20), max=2**20))

    low = subgroup(clk, enable, row.x_low, column.select_low, row.sum_low, column.invert_low, selected_low)
    upper = subgroup(clk, enable, row.x_high, column.select_high, row.sum_high, column.invert_high, selected_high)
    multiply = constant_multiplier(row.sum_all, column.piece, column.high, product)

    @always_comb
    def both():
        selected.next = selected_low + selected_high

    @always(clk.posedge)
    def register():
        if enable:
            partial.next = selected << column.fine
            offset_part.next = product

    @always_comb
    def weigh():
        if column.scale_high:
            scaled.next = offset_part << 3
        else:
            scaled.next = offset_part

    @always_comb
    def add():
        increment.next = term + scaled

    aligned = align(partial, column.coarse, negative, term)
    sums = accumulator(clk, enable, valid, first, increment, negative, port, bits)
    return low, upper, multiply, both, register, weigh, aligned, add, sums
