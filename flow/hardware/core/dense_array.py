"""The array of dense elements."""

from __future__ import annotations

from myhdl import Signal, always, always_comb, intbv

from flow.hardware.conversion.bundles import fresh, prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.core.array import array_stages, drain_ports, leaving, operand_register
from flow.hardware.core.bundles import ColumnStages
from flow.hardware.elements.dense_pe import dense_pe


@block
@prefixed(column="")
def dense_array(
    clk, reset, enable, column, weight_word, metadata_word, activation_word, finished, capture, drain, results, config
):
    """Rows x columns of dense elements with their operand registers; metadata_word is ignored.

    control  enable: advance; valid, first, last, load, high_phase, significance[3]: the column under way, aligned
             with the memory words; finished: a tile's sums are complete; capture, drain: the result registers
    data     weight_word, metadata_word, activation_word in; results[rows * bits * lanes] out: lane 0 lowest,
             within a lane row 0 lowest
    Stages: words, 0; registered, 1; activations and bits, 2; sums, 3; weighed, 4; total, 5.
    Latency: five cycles from the words to `finished`, with the total.
    """
    bits, step_bits = config.accumulator_bits, config.step * 8
    stages = fresh(ColumnStages)
    nothing = Signal(intbv(0)[bits:])
    shift2, fine, coarse3, coarse = Signal(intbv(0)[3:]), Signal(intbv(0)[2:]), Signal(bool(0)), Signal(bool(0))
    operand_load = Signal(bool(0))
    ports = drain_ports(config, capture, drain, nothing)
    leaving_sums = leaving(config, ports)

    @always_comb
    def loading():
        operand_load.next = enable and column.load

    @always(clk.posedge)
    def shifts():
        if enable:
            shift2.next = stages.significance1
            fine.next = shift2[2:]
            coarse3.next = shift2[2]
            coarse.next = coarse3

    parts = [array_stages(clk, reset, enable, column, stages, finished)]
    x = [Signal(intbv(0)[step_bits:]) for _ in range(config.rows)]
    for r in range(config.rows):
        taken = Signal(intbv(0)[step_bits:])
        parts.append(operand_register(clk, operand_load, activation_word(64 * r + 64, 64 * r), taken))
        parts.append(operand_register(clk, enable, taken, x[r]))
    for c in range(config.columns):
        bits1, bits2 = Signal(intbv(0)[8:]), Signal(intbv(0)[8:])
        parts.append(operand_register(clk, enable, weight_word(8 * c + 8, 8 * c), bits1))
        parts.append(operand_register(clk, enable, bits1, bits2))
        for r in range(config.rows):
            parts.append(
                dense_pe(
                    clk, enable, x[r], bits2, fine, stages.valid4, stages.first4, stages.negative4, coarse,
                    ports[r][c], bits,
                )
            )  # fmt: skip

    @always_comb
    def leave():
        results.next = leaving_sums

    return loading, shifts, parts, leave
