"""Row operand register and the sum of activations (the ΣA generator, paper fig. 7), shared by a row of PEs."""

from myhdl import Signal, always, always_comb, intbv

from flow.hardware.hierarchy import block


@block
def activation_sum(x, total):
    """Sum of eight unsigned activations: x[64] in, total[11] out. Combinational."""
    s0, s1, s2, s3 = (Signal(intbv(0)[9:]) for _ in range(4))

    @always_comb
    def pairs():
        s0.next = x[8:] + x[16:8]
        s1.next = x[24:16] + x[32:24]
        s2.next = x[40:32] + x[48:40]
        s3.next = x[56:48] + x[64:56]

    @always_comb
    def tree():
        total.next = s0 + s1 + s2 + s3

    return pairs, tree


@block
def row_operand(clk, enable, load, word, x_low, x_high, sum_low, sum_high, sum_all):
    """Operand registers of one array row for a 16-weight step.

    control  enable; load: take the word
    data     word[128] in; x_low[64], x_high[64] out: one cycle later; sum_low[11], sum_high[11], sum_all[12] out: two
             cycles later
    """
    total_low = Signal(intbv(0)[11:])
    total_high = Signal(intbv(0)[11:])
    adder_low = activation_sum(x_low, total_low)
    adder_high = activation_sum(x_high, total_high)

    @always(clk.posedge)
    def take():
        if enable and load:
            x_low.next = word[64:]
            x_high.next = word[128:64]

    @always(clk.posedge)
    def add():
        if enable:
            sum_low.next = total_low
            sum_high.next = total_high
            sum_all.next = total_low + total_high

    return adder_low, adder_high, take, add
