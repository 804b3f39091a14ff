"""The row's tables of activation pairs and the column's choices from them, for the pairs element (pairs_pe.py).

A pair of weight bits (of weights 2p and 2p + 1) picks one of 0, a, b, a + b, where a and b are the pair's activations.
"""

from __future__ import annotations

from myhdl import Signal, always, always_comb, intbv, modbv

from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block

PAIRS = 8  # of a step of 16 activations
PICKS = 3  # lines that choose of a pair: its first activation alone, its second alone, their sum


def digits(constant: int) -> tuple[int, int]:
    """The software model of a constant's digits (low, high): constant = low + 8 high, low -4 to 3, high -4 to 4."""
    low = (constant + 4) % 8 - 4
    return low, (constant - low) // 8


@block
@prefixed(row="")
def pair_tables(clk, enable, load, word, row):
    """Operand registers and tables of one array row for a 16-weight step, shared by the row's elements.

    control  enable
    stage 0  load: take word[128]; all that follows stays until the next load
    stage 2  single[128]: the activations; both[72]: the sums of each pair
    stage 3  total[12]: the sum of all; triple[14]: three times that
    """
    taken = Signal(intbv(0)[128:])
    s0, s1, s2, s3, s4, s5, s6, s7 = (Signal(intbv(0)[9:]) for _ in range(PAIRS))
    low, high = Signal(intbv(0)[11:]), Signal(intbv(0)[11:])
    everything, twice = Signal(intbv(0)[14:]), Signal(intbv(0)[14:])

    @always(clk.posedge)
    def take():
        if enable and load:
            taken.next = word

    @always_comb
    def pairs():
        s0.next = taken[8:] + taken[16:8]
        s1.next = taken[24:16] + taken[32:24]
        s2.next = taken[40:32] + taken[48:40]
        s3.next = taken[56:48] + taken[64:56]
        s4.next = taken[72:64] + taken[80:72]
        s5.next = taken[88:80] + taken[96:88]
        s6.next = taken[104:96] + taken[112:104]
        s7.next = taken[120:112] + taken[128:120]

    @always(clk.posedge)
    def show():
        if enable:
            row.single.next = taken
            row.both.next[9:] = s0
            row.both.next[18:9] = s1
            row.both.next[27:18] = s2
            row.both.next[36:27] = s3
            row.both.next[45:36] = s4
            row.both.next[54:45] = s5
            row.both.next[63:54] = s6
            row.both.next[72:63] = s7
            low.next = s0 + s1 + s2 + s3
            high.next = s4 + s5 + s6 + s7

    @always_comb
    def multiples():
        everything.next = low + high
        twice.next = everything << 1

    @always(clk.posedge)
    def sums():
        if enable:
            row.total.next = everything[12:]
            row.triple.next = everything + twice

    return take, pairs, show, multiples, sums


@block
def pick_lines(clk, enable, bits, lines, begin):
    """A column's choice from every pair, one line of three high at most.

    control: enable; data: bits[16] (one bit column of the step) of a wider word from bit `begin` on, lines[24] out, one
    cycle later: of pair p the lines 3p (first alone), 3p + 1 (second alone), 3p + 2 (both).
    """
    middle = begin + PAIRS
    first, second = Signal(intbv(0)[PAIRS:]), Signal(intbv(0)[PAIRS:])

    @always_comb
    def split():
        for pair in range(4):
            first.next[pair] = bits[begin + 2 * pair]
            second.next[pair] = bits[begin + 2 * pair + 1]
            first.next[pair + 4] = bits[middle + 2 * pair]
            second.next[pair + 4] = bits[middle + 2 * pair + 1]

    @always(clk.posedge)
    def choose():
        if enable:
            for pair in range(PAIRS):
                lines.next[3 * pair] = first[pair] and not second[pair]
                lines.next[3 * pair + 1] = second[pair] and not first[pair]
                lines.next[3 * pair + 2] = first[pair] and second[pair]

    return split, choose


@block
def constant_digit(clk, enable, low_phase, high_phase, stored, size, minus, high):
    """The digit of the group's constant that a slice brings, as `digits` has it.

    control  enable; low_phase, high_phase: it is the low or the high one, else it is 0
    data     stored[6]: the constant d; size[4]: the line of 1, 2, 3, 4 that is high, none for 0; minus, high out, one
             cycle later
    """
    extended, carry = Signal(intbv(0)[4:]), Signal(intbv(0)[4:])
    digit = Signal(modbv(0)[4:])  # modulo 16

    @always_comb
    def piece():
        extended.next = 0
        carry.next = 0
        if low_phase:
            extended.next[3:] = stored[3:]
            extended.next[3] = stored[2]
        elif high_phase:
            extended.next[3:] = stored[6:3]
            extended.next[3] = stored[5]
            carry.next[0] = stored[2]  # the low digit is 8 less then

    @always_comb
    def add():
        digit.next = extended + carry

    @always(clk.posedge)
    def show():
        if enable:
            size.next[0] = (digit == 1) or (digit == 15)
            size.next[1] = (digit == 2) or (digit == 14)
            size.next[2] = (digit == 3) or (digit == 13)
            size.next[3] = (digit == 4) or (digit == 12)
            minus.next = digit[3]
            high.next = high_phase

    return piece, add, show
