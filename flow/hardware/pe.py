"""The BitVert processing element (paper IV-B, fig. 7): sixteen weights' bit column a cycle on eight multipliers."""

from myhdl import Signal, always, always_comb, intbv, modbv

from flow.hardware.hierarchy import block
from flow.hardware.scheduler import schedule_subgroup


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
def subgroup(x, total, choice, invert, selected):
    """Sum of the activations under the ones of eight weight bits, adding at most four of them.

    data: x[64], total[11] (their sum), choice[12], invert in; selected[11] out (modular: it may pass through
    garbage while its inputs settle). Combinational.
    """
    y0, y1, y2, y3 = (Signal(intbv(0)[8:]) for _ in range(4))
    lanes = [
        multiplexer(x, choice, y0, 0, 0),
        multiplexer(x, choice, y1, 1, 3),
        multiplexer(x, choice, y2, 2, 6),
        multiplexer(x, choice, y3, 3, 9),
    ]
    taken = Signal(intbv(0)[10:])

    @always_comb
    def add():
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

    data: total[12], piece[3] in; control: high; product signed[17] out. Combinational.
    """
    one = Signal(intbv(0, min=-(2**16), max=2**16))
    two = Signal(intbv(0, min=-(2**16), max=2**16))
    four = Signal(intbv(0, min=-(2**16), max=2**16))
    lower = Signal(intbv(0, min=-(2**16), max=2**16))

    @always_comb
    def gate():
        if piece[0]:
            one.next = total
        else:
            one.next = 0
        if piece[1]:
            two.next = total << 1
        else:
            two.next = 0
        if piece[2]:
            four.next = total << 2
        else:
            four.next = 0

    @always_comb
    def add():
        lower.next = one + two

    @always_comb
    def combine():
        if high:
            product.next = lower - four
        else:
            product.next = lower + four

    return gate, add, combine


@block
def accumulator(clk, enable, valid, first, increment, capture, drain, behind, result, bits):
    """Output-stationary accumulator and the result register that drains along the row.

    control  enable: the array advances; valid: accumulate; first: start anew; capture: take the finished sum
             into the result register; drain: take the neighbour's result
    data     increment signed[21], behind[bits] in, result[bits] out (two's complement). Sums wrap.
    """
    total = Signal(modbv(0, min=-(2 ** (bits - 1)), max=2 ** (bits - 1)))

    @always(clk.posedge)
    def accumulate():
        if enable and valid:
            if first:
                total.next = increment
            else:
                total.next = total + increment

    @always(clk.posedge)
    def hold():
        if capture:
            result.next = total[bits:]
        elif drain:
            result.next = behind

    return accumulate, hold


@block
def pe(
    clk, enable,
    x_low, x_high, sum_low, sum_high, sum_all,
    select_low, invert_low, select_high, invert_high, piece, high,
    valid, first, negative, scale_high, shift,
    capture, drain, behind, result, bits,
):  # fmt: skip
    """One processing element.

    control  enable
    stage 1  row operands x_low[64], x_high[64], sum_low[11], sum_high[11], sum_all[12]; column schedule
             select_*[12], invert_*, constant piece[3] and high (the piece is the signed upper half of d)
    stage 2  valid, first (of a tile), negative (most significant column), scale_high, shift[3]
    drain    capture, drain, behind[bits] in, result[bits] out
    Latency: two cycles from operands to the sum, one more to result.
    """
    selected_low = Signal(modbv(0, min=0, max=2**11))
    selected_high = Signal(modbv(0, min=0, max=2**11))
    partial = Signal(intbv(0)[12:])
    product = Signal(intbv(0, min=-(2**16), max=2**16))
    offset_part = Signal(intbv(0, min=-(2**16), max=2**16))
    scaled = Signal(intbv(0, min=-(2**20), max=2**20))
    magnitude = Signal(intbv(0)[19:])
    positive = Signal(intbv(0, min=-(2**20), max=2**20))
    increment = Signal(intbv(0, min=-(2**20), max=2**20))
    term = Signal(intbv(0, min=-(2**20), max=2**20))

    low = subgroup(x_low, sum_low, select_low, invert_low, selected_low)
    high_half = subgroup(x_high, sum_high, select_high, invert_high, selected_high)
    multiply = constant_multiplier(sum_all, piece, high, product)

    @always(clk.posedge)
    def register():
        if enable:
            partial.next = selected_low + selected_high
            offset_part.next = product

    @always_comb
    def align():
        magnitude.next = partial << shift

    @always_comb
    def widen():
        positive.next = magnitude

    @always_comb
    def sign():
        if negative:
            term.next = -positive
        else:
            term.next = positive

    @always_comb
    def weigh():
        if scale_high:
            scaled.next = offset_part << 3
        else:
            scaled.next = offset_part

    @always_comb
    def add():
        increment.next = term + scaled

    sums = accumulator(clk, enable, valid, first, increment, capture, drain, behind, result, bits)
    return low, high_half, multiply, register, align, widen, sign, weigh, add, sums
