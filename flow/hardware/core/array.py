"""What the arrays have in common (paper fig. 9): rows are windows, columns are output channels, output-stationary.

An array is a block of these parameters; `bitvert_array` and `dense_array` are two.

    clk, reset
    control  enable: advance; column: Column, the bit column under way, aligned with the memory words;
             finished: a tile's sums are complete; capture, drain: the result registers
    data     weight_word, metadata_word, activation_word in; results[rows * bits * lanes] out: lane 0 lowest,
             within a lane row 0 lowest
    config
"""

from __future__ import annotations

from myhdl import Signal, always, always_seq, intbv

from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.core.wires import join
from flow.hardware.elements.bundles import DrainPort

LATENCY = 5  # cycles from a tile's last words to `finished`


@block
@prefixed(column="", stages="")
def array_stages(clk, reset, enable, column, stages, finished):
    """What is said of a bit column, as it goes through the array.

    control  enable: advance; finished: a tile's sums are complete
    stage 0  valid, first, last, load, high_phase, significance[3]: the column under way, aligned with the memory words
    stage 1  load1, high1, significance1[3] out
    stage 4  valid4, first4, negative4 (the first column of a step counts negative) out
    Latency: `LATENCY` cycles from the words to `finished`.
    """
    valid1, valid2, valid3 = (Signal(bool(0)) for _ in range(3))
    first1, first2, first3 = (Signal(bool(0)) for _ in range(3))
    last1, last2, last3, last4 = (Signal(bool(0)) for _ in range(4))
    load2, load3 = (Signal(bool(0)) for _ in range(2))

    @always_seq(clk.posedge, reset=reset)
    def pipeline():
        if enable:
            valid1.next = column.valid
            first1.next = column.first
            last1.next = column.last
            stages.load1.next = column.load
            stages.high1.next = column.high_phase
            stages.significance1.next = column.significance
            valid2.next = valid1
            first2.next = first1
            last2.next = last1
            load2.next = stages.load1
            valid3.next = valid2
            first3.next = first2
            last3.next = last2
            load3.next = load2
            stages.valid4.next = valid3
            stages.first4.next = first3
            last4.next = last3
            stages.negative4.next = load3
            finished.next = last4

    return pipeline


@block
def operand_register(clk, enable, d, q):
    """Operand register: q takes d where enable is high."""

    @always(clk.posedge)
    def take():
        if enable:
            q.next = d

    return take


def drain_ports(config, capture, drain, nothing):
    """[row][column]: where each element's sum leaves it; behind the last columns is `nothing`."""
    result = [[Signal(intbv(0)[config.accumulator_bits :]) for _ in range(config.columns)] for _ in range(config.rows)]
    ahead = [[*row[config.lanes :], *[nothing] * config.lanes] for row in result]
    return [
        [DrainPort(capture, drain, behind, own) for behind, own in zip(*both, strict=True)]
        for both in zip(ahead, result, strict=True)
    ]


def leaving(config, ports):
    """The bus of the sums that leave the array in one cycle."""
    lanes, rows = range(config.lanes), range(config.rows)
    return join(*(ports[r][c].result for c in reversed(lanes) for r in reversed(rows)))
