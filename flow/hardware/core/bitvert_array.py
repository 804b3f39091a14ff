"""The array of BitVert elements."""

from __future__ import annotations

from myhdl import Signal, always, always_comb, intbv, modbv

from flow.hardware.conversion.bundles import fresh, prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.core.array import array_stages, drain_ports, leaving
from flow.hardware.core.bundles import ColumnStages
from flow.hardware.core.wires import join
from flow.hardware.elements.activation_sum import row_operand
from flow.hardware.elements.bundles import ColumnControl, RowOperands
from flow.hardware.elements.pe import pe
from flow.hardware.elements.scheduler import scheduler


@block
@prefixed(control="")
def column_control(clk, enable, bits, metadata, low_phase, high_phase, significance, control):
    """What one array column's PEs share: two schedulers and the group's shift and constant.

    control  enable
    stage 0  bits[16], metadata[8] = r (2) . d (6): registered here
    stage 1  low_phase, high_phase: this column brings the low or the high piece of the constant; significance[3] = 7 -
             column
    stage 2  select_*[12] out
    stage 3  invert_*, piece[3], high, fine[2] out
    stage 4  scale_high, coarse out
    """
    low_bits, high_bits = Signal(intbv(0)[8:]), Signal(intbv(0)[8:])
    stored = Signal(intbv(0)[8:])
    chosen_low, chosen_high = Signal(bool(0)), Signal(bool(0))
    piece2, high2 = Signal(intbv(0)[3:]), Signal(bool(0))
    shift2 = Signal(modbv(0, min=0, max=8))  # garbage while nothing is valid: it wraps
    coarse3 = Signal(bool(0))

    @always(clk.posedge)
    def words():
        if enable:
            low_bits.next = bits[8:]
            high_bits.next = bits[16:8]
            stored.next = metadata

    low = scheduler(clk, enable, low_bits, control.select_low, chosen_low)
    upper = scheduler(clk, enable, high_bits, control.select_high, chosen_high)

    @always(clk.posedge)
    def group():
        if enable:
            high2.next = high_phase
            if low_phase:
                piece2.next = stored[3:]
            elif high_phase:
                piece2.next = stored[6:3]
            else:
                piece2.next = 0
            shift2.next = significance - stored[8:6]

    @always(clk.posedge)
    def later():
        if enable:
            control.invert_low.next = chosen_low
            control.invert_high.next = chosen_high
            control.piece.next = piece2
            control.high.next = high2
            control.fine.next = shift2[2:]
            coarse3.next = shift2[2]
            control.scale_high.next = control.high
            control.coarse.next = coarse3

    return words, low, upper, group, later


@block
@prefixed(column="")
def bitvert_array(
    clk, reset, enable, column, weight_word, metadata_word, activation_word, finished, capture, drain, results, config
):
    """Rows x columns of BitVert elements with their operand registers and schedulers.

    control  enable: advance; valid, first, last, load, high_phase, significance[3]: the column under way, aligned
             with the memory words; finished: a tile's sums are complete; capture, drain: the result registers
    data     weight_word, metadata_word, activation_word in; results[rows * bits * lanes] out: lane 0 lowest,
             within a lane row 0 lowest
    Stages: words, 0; registered, 1; activations and choices, 2; sums, 3; weighed, 4; total, 5.
    Latency: five cycles from the words to `finished`, with the total.
    """
    rows, bits = config.rows, config.accumulator_bits
    stages = fresh(ColumnStages)
    nothing = Signal(intbv(0)[bits:])
    ports = drain_ports(config, capture, drain, nothing)
    leaving_sums = leaving(config, ports)
    operands = [fresh(RowOperands) for _ in range(rows)]

    @always_comb
    def leave():
        results.next = leaving_sums

    parts = [array_stages(clk, reset, enable, column, stages, finished)]
    for r in range(rows):
        low, high = (activation_word(64 * (rows * half + r + 1), 64 * (rows * half + r)) for half in range(2))
        parts.append(row_operand(clk, enable, column.load, join(high, low), operands[r]))
    for c in range(config.columns):
        control = fresh(ColumnControl)
        words = weight_word(16 * c + 16, 16 * c), metadata_word(8 * c + 8, 8 * c)
        parts.append(
            column_control(clk, enable, *words, stages.load1, stages.high1, stages.significance1, control)
        )  # fmt: skip
        for r in range(rows):
            parts.append(
                pe(
                    clk, enable, operands[r], control, stages.valid4, stages.first4, stages.negative4,
                    ports[r][c], bits,
                )
            )  # fmt: skip

    return parts, leave
