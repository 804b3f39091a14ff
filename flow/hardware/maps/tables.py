"""Element-wise functions of post-processing: a table of the byte that each byte becomes, for results that leave it."""

from __future__ import annotations

from myhdl import Signal, always, always_comb, always_seq, intbv, modbv

from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.core.wires import join
from flow.hardware.fields import SUBGROUP, TABLE_WORDS, WORD_BITS


@block
def lookup(clk, write, number, word, through, result, looked, bits):
    """One copy of the table, for one lane of one row.

    control  write: `word`[64] is word number[5] of the table; through: this block's results go through it
    data     result[bits] in; looked[bits] out: the result, its low byte as the table has it. Combinational.
    """
    memory = [Signal(intbv(0)[WORD_BITS:]) for _ in range(TABLE_WORDS)]
    octet = Signal(intbv(0)[WORD_BITS:])
    above, below = result(8, 3), result(3, 0)
    value = Signal(intbv(0)[8:])

    @always(clk.posedge)
    def take():
        if write:
            memory[number].next = word

    @always_comb
    def find():
        octet.next = memory[above]

    @always_comb
    def pick():
        value.next = 0
        for i in range(8):
            low = 8 * i
            if below == i:
                value.next = octet[low + 8 : low]

    @always_comb
    def choose():
        looked.next = result
        if through:  # the result is a byte
            looked.next[8:] = value

    return take, find, pick, choose


@block
@prefixed(work="")
def tables(clk, reset, work, read, ends, word, sums, results, rows, lanes, bits):
    """The table, between `post` and write-back.

    job      fill: the block that drains brings a table; through: its results go through the table
    control  read: a word of parameters is read, and shown one cycle later; ends: with the last of a block
    data     word[64]: lane 0 of the parameters; sums[bits * rows * lanes] in, results out, lane 0 lowest, combinational
    Of a block that fills, every word but the last is the next of the table; the last one gives the table time: it is
    whole when the next block drains.
    """
    filling = Signal(bool(0))
    number = Signal(modbv(0, min=0, max=TABLE_WORDS))
    used = range(min(lanes, SUBGROUP) * rows)  # lanes beyond carry no result of post-processing
    looked = [Signal(intbv(0)[bits:]) for _ in used]
    copies = [
        lookup(clk, filling, number, word, work.through, sums(bits * i + bits, bits * i), looked[i], bits) for i in used
    ]
    beyond = [intbv(0)[bits:]] * (lanes * rows - len(used))
    leaving = join(*reversed([*looked, *beyond]))

    @always_seq(clk.posedge, reset=reset)
    def count():
        filling.next = work.fill and read and (not ends)
        if filling:
            number.next = number + 1
        if work.fill and read and ends:
            number.next = 0

    @always_comb
    def leave():
        results.next = leaving

    return copies, count, leave
