"""The array of bit-parallel elements."""

from __future__ import annotations

from myhdl import Signal, always_comb, intbv

from flow.hardware.conversion.bundles import fresh, prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.core.array import array_stages, drain_ports, leaving, operand_register
from flow.hardware.core.bundles import ColumnStages
from flow.hardware.elements.parallel_pe import byte_select, parallel_pe


@block
@prefixed(column="")
def parallel_array(
    clk, reset, enable, column, weight_word, metadata_word, activation_word, finished, capture, drain, results, config
):
    """Rows x columns of bit-parallel elements with their operand registers; metadata_word is ignored.

    control  enable: advance; valid, first, last, load, high_phase, significance[3]: the weight under way of eight,
             aligned with the memory words; finished: a tile's sums are complete; capture, drain: the result registers
    data     weight_word, metadata_word, activation_word in; results[rows * bits * lanes] out: lane 0 lowest,
             within a lane row 0 lowest
    Stages: words, 0; registered, 1; one activation and its weight, 2; product, 3; term, 4; total, 5.
    Latency: five cycles from the words to `finished`, with the total.
    """
    bits = config.accumulator_bits
    stages = fresh(ColumnStages)
    nothing, operand_load = Signal(intbv(0)[bits:]), Signal(bool(0))
    ports = drain_ports(config, capture, drain, nothing)
    leaving_sums = leaving(config, ports)

    @always_comb
    def loading():
        operand_load.next = enable and column.load

    parts = [array_stages(clk, reset, enable, column, stages, finished)]
    x = [Signal(intbv(0)[8:]) for _ in range(config.rows)]
    for r in range(config.rows):
        taken = Signal(intbv(0)[64:])
        parts.append(operand_register(clk, operand_load, activation_word(64 * r + 64, 64 * r), taken))
        parts.append(byte_select(clk, enable, taken, stages.significance1, x[r]))
    for c in range(config.columns):
        weight1, weight2 = Signal(intbv(0)[8:]), Signal(intbv(0)[8:])
        parts.append(operand_register(clk, enable, weight_word(8 * c + 8, 8 * c), weight1))
        parts.append(operand_register(clk, enable, weight1, weight2))
        for r in range(config.rows):
            parts.append(parallel_pe(clk, enable, x[r], weight2, stages.valid4, stages.first4, ports[r][c], bits))

    @always_comb
    def leave():
        results.next = leaving_sums

    return loading, parts, leave
