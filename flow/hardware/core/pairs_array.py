"""The array of pairs elements."""

from __future__ import annotations

from myhdl import Signal, always, always_comb, intbv, modbv

from flow.hardware.conversion.bundles import fresh, prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.core.array import array_stages, drain_ports, leaving
from flow.hardware.core.bundles import ColumnStages
from flow.hardware.core.wires import delay, flags, join
from flow.hardware.elements.bundles import PairControl, PairOperands
from flow.hardware.elements.pair_tables import PAIRS, PICKS, constant_digit, pair_tables, pick_lines
from flow.hardware.elements.pairs_pe import pairs_pe

LINES = PAIRS * PICKS  # of a bit column


@block
@prefixed(control="")
def pairs_control(clk, enable, bits, metadata, low_phase, high_phase, significance, control, per_cycle):
    """What one array column's elements share: the choices from the rows' tables, and the group's shift and constant.

    control  enable
    stage 0  bits[16 * per_cycle], the slice's first bit column lowest, metadata[8] = r (2) . d (6): registered here
    stage 1  low_phase, high_phase: this slice brings the low or the high digit of the constant; significance[3] of its
             last bit column
    stage 2  picks[24 * per_cycle] out
    stage 3  fine[2], size[4] out
    stage 4  coarse, minus, high out
    """
    slice_bits, stored, constant = Signal(intbv(0)[16 * per_cycle :]), Signal(intbv(0)[8:]), Signal(intbv(0)[6:])
    lines = [Signal(intbv(0)[LINES:]) for _ in range(per_cycle)]
    all_lines = join(*reversed(lines))
    shift2 = Signal(modbv(0, min=0, max=8))  # garbage while nothing is valid: it wraps
    size2 = Signal(intbv(0)[4:])
    minus2, high2, coarse3, minus3, high3 = flags(5)

    @always(clk.posedge)
    def words():
        if enable:
            slice_bits.next = bits
            stored.next = metadata

    @always_comb
    def pick():
        control.picks.next = all_lines

    @always_comb
    def parts():
        constant.next = stored[6:]

    @always(clk.posedge)
    def group():
        if enable:
            shift2.next = significance - stored[8:6]
            control.fine.next = shift2[2:]
            coarse3.next = shift2[2]
            control.size.next = size2
            minus3.next = minus2
            high3.next = high2
            control.coarse.next = coarse3
            control.minus.next = minus3
            control.high.next = high3

    choices = [pick_lines(clk, enable, slice_bits, each, 16 * number) for number, each in enumerate(lines)]
    digit = constant_digit(clk, enable, low_phase, high_phase, constant, size2, minus2, high2)
    return words, pick, parts, group, choices, digit


@block
@prefixed(column="")
def pairs_array(
    clk, reset, enable, column, weight_word, metadata_word, activation_word, finished, capture, drain, results, config
):
    """Rows x columns of pairs elements with their rows' tables and their columns' choices.

    control  enable: advance; valid, first, last, load, high_phase, significance[3]: the slice under way, aligned
             with the memory words: `columns_per_cycle` bit columns, the last of which counts 2^significance; finished:
             a tile's sums are complete; capture, drain: the result registers
    data     weight_word, metadata_word, activation_word in; results[rows * bits * lanes] out: lane 0 lowest,
             within a lane row 0 lowest
    Stages: words, 0; registered, 1; tables and choices, 2; sums, 3; weighed, 4; total, 5.
    Latency: five cycles from the words to `finished`, with the total.
    """
    rows, bits, per_cycle = config.rows, config.accumulator_bits, config.columns_per_cycle
    wide = 16 * per_cycle
    stages = fresh(ColumnStages)
    nothing = Signal(intbv(0)[bits:])
    load2, negative3 = Signal(bool(0)), Signal(bool(0))
    ports = drain_ports(config, capture, drain, nothing)
    leaving_sums = leaving(config, ports)
    operands = [fresh(PairOperands) for _ in range(rows)]

    @always_comb
    def leave():
        results.next = leaving_sums

    parts = [
        array_stages(clk, reset, enable, column, stages, finished),
        delay(clk, enable, stages.load1, load2),
        delay(clk, enable, load2, negative3),
    ]
    for r in range(rows):
        low, high = (activation_word(64 * (rows * half + r + 1), 64 * (rows * half + r)) for half in range(2))
        parts.append(pair_tables(clk, enable, column.load, join(high, low), operands[r]))
    for c in range(config.columns):
        control = fresh(PairControl, picks=LINES * per_cycle)
        words = weight_word(wide * (c + 1), wide * c), metadata_word(8 * c + 8, 8 * c)
        parts.append(
            pairs_control(clk, enable, *words, stages.load1, stages.high1, stages.significance1, control, per_cycle)
        )
        for r in range(rows):
            parts.append(
                pairs_pe(
                    clk, enable, operands[r], control, negative3, stages.valid4, stages.first4, ports[r][c], bits,
                    per_cycle,
                )
            )  # fmt: skip

    return parts, leave
