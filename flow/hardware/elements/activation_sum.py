"""Row operand registers and the sums of activations (the ΣA generator, paper fig. 7), shared by a row of PEs."""

from __future__ import annotations

from myhdl import Signal, always, always_comb, intbv

from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block


@block
def activation_sum(clk, enable, x, total):
    """Sum of eight unsigned activations: x[64] in, total[11] out, one cycle later. control: enable."""
    low, high = Signal(intbv(0)[10:]), Signal(intbv(0)[10:])

    @always(clk.posedge)
    def fours():
        if enable:
            low.next = x[8:] + x[16:8] + x[24:16] + x[32:24]
            high.next = x[40:32] + x[48:40] + x[56:48] + x[64:56]

    @always_comb
    def both():
        total.next = low + high

    return fours, both


@block
@prefixed(row="")
def row_operand(clk, enable, load, word, row):
    """Operand registers of one array row for a 16-weight step.

    control  enable
    stage 0  load: take word[128]; all that follows stays until the next load
    stage 2  x_low[64], x_high[64] out
    stage 3  sum_low[11], sum_high[11], sum_all[12] out
    """
    low, high = Signal(intbv(0)[64:]), Signal(intbv(0)[64:])
    total_low, total_high = Signal(intbv(0)[11:]), Signal(intbv(0)[11:])
    adder_low = activation_sum(clk, enable, low, total_low)
    adder_high = activation_sum(clk, enable, high, total_high)

    @always(clk.posedge)
    def take():
        if enable and load:
            low.next = word[64:]
            high.next = word[128:64]

    @always(clk.posedge)
    def later():
        if enable:
            row.x_low.next = low
            row.x_high.next = high
            row.sum_low.next = total_low
            row.sum_high.next = total_high
            row.sum_all.next = total_low + total_high

    return adder_low, adder_high, take, later
