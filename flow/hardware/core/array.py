"""The PE array (paper fig. 9): rows are windows, columns are output channels, output-stationary."""

from __future__ import annotations

from myhdl import Signal, always, always_comb, always_seq, intbv, modbv

from flow.hardware.conversion.hierarchy import block
from flow.hardware.core.wires import join
from flow.hardware.elements.activation_sum import row_operand
from flow.hardware.elements.dense_pe import dense_pe
from flow.hardware.elements.pe import pe
from flow.hardware.elements.scheduler import scheduler

LATENCY = 5  # cycles from a tile's last words to `finished`


@block
def column_control(
    clk, enable, bits, metadata, low_phase, high_phase, significance,
    select_low, select_high, invert_low, invert_high, piece, high, fine, scale_high, coarse,
):  # fmt: skip
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

    low = scheduler(clk, enable, low_bits, select_low, chosen_low)
    upper = scheduler(clk, enable, high_bits, select_high, chosen_high)

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
            invert_low.next = chosen_low
            invert_high.next = chosen_high
            piece.next = piece2
            high.next = high2
            fine.next = shift2[2:]
            coarse3.next = shift2[2]
            scale_high.next = high
            coarse.next = coarse3

    return words, low, upper, group, later


@block
def array(
    clk, reset, enable,
    valid, first, last, load, high_phase, significance,
    weight_word, metadata_word, activation_word,
    finished, capture, drain, results,
    config,
):  # fmt: skip
    """Rows x columns of PEs with their operand registers and schedulers.

    control  enable: advance; valid, first, last, load, high_phase, significance[3]: the column under way, aligned
             with the memory words; finished: a tile's sums are complete; capture, drain: the result registers
    data     weight_word, metadata_word, activation_word in; results[rows * bits * lanes] out: lane 0 lowest,
             within a lane row 0 lowest
    Stages: words, 0; registered, 1; activations and choices, 2; sums, 3; weighed, 4; total, 5.
    Latency: `LATENCY` cycles from the words to `finished`, with the total.
    """
    rows, columns, lanes, bits = config.rows, config.columns, config.lanes, config.accumulator_bits
    step_bits = config.step * 8
    valid1, valid2, valid3, valid4 = (Signal(bool(0)) for _ in range(4))
    first1, first2, first3, first4 = (Signal(bool(0)) for _ in range(4))
    last1, last2, last3, last4 = (Signal(bool(0)) for _ in range(4))
    load1, load2, load3, negative4 = (Signal(bool(0)) for _ in range(4))
    high1 = Signal(bool(0))
    significance1 = Signal(intbv(0)[3:])
    result = [[Signal(intbv(0)[bits:]) for _ in range(columns)] for _ in range(rows)]
    nothing = Signal(intbv(0)[bits:])

    @always_seq(clk.posedge, reset=reset)
    def pipeline():
        if enable:
            valid1.next = valid
            first1.next = first
            last1.next = last
            load1.next = load
            high1.next = high_phase
            significance1.next = significance
            valid2.next = valid1
            first2.next = first1
            last2.next = last1
            load2.next = load1
            valid3.next = valid2
            first3.next = first2
            last3.next = last2
            load3.next = load2
            valid4.next = valid3
            first4.next = first3
            last4.next = last3
            negative4.next = load3
            finished.next = last4

    parts = []
    if config.pe == "bitvert":
        activations, sums = [], []
        for r in range(rows):
            x_low, x_high = Signal(intbv(0)[64:]), Signal(intbv(0)[64:])
            sum_low, sum_high, sum_all = Signal(intbv(0)[11:]), Signal(intbv(0)[11:]), Signal(intbv(0)[12:])
            word = [activation_word(64 * (rows * half + r + 1), 64 * (rows * half + r)) for half in range(2)]
            activations.append((x_low, x_high))
            sums.append((sum_low, sum_high, sum_all))
            parts.append(row_operand(clk, enable, load, join(word[1], word[0]), *activations[r], *sums[r]))
        for c in range(columns):
            select_low, select_high = Signal(intbv(0)[12:]), Signal(intbv(0)[12:])
            invert_low, invert_high, high, scale_high, coarse = (Signal(bool(0)) for _ in range(5))
            piece, fine = Signal(intbv(0)[3:]), Signal(intbv(0)[2:])
            parts.append(
                column_control(
                    clk,
                    enable,
                    weight_word(16 * c + 16, 16 * c),
                    metadata_word(8 * c + 8, 8 * c),
                    load1,
                    high1,
                    significance1,
                    select_low,
                    select_high,
                    invert_low,
                    invert_high,
                    piece,
                    high,
                    fine,
                    scale_high,
                    coarse,
                )  # fmt: skip
            )
            for r in range(rows):
                behind = result[r][c + lanes] if c + lanes < columns else nothing
                parts.append(
                    pe(
                        clk,
                        enable,
                        *activations[r],
                        select_low,
                        select_high,
                        *sums[r],
                        invert_low,
                        invert_high,
                        piece,
                        high,
                        fine,
                        valid4,
                        first4,
                        negative4,
                        scale_high,
                        coarse,
                        capture,
                        drain,
                        behind,
                        result[r][c],
                        bits,
                    )  # fmt: skip
                )
    else:
        x = [Signal(intbv(0)[step_bits:]) for _ in range(rows)]
        shift2, fine, coarse3, coarse = Signal(intbv(0)[3:]), Signal(intbv(0)[2:]), Signal(bool(0)), Signal(bool(0))
        operand_load = Signal(bool(0))

        @always_comb
        def loading():
            operand_load.next = enable and load

        @always(clk.posedge)
        def shifts():
            if enable:
                shift2.next = significance1
                fine.next = shift2[2:]
                coarse3.next = shift2[2]
                coarse.next = coarse3

        parts += [loading, shifts]
        for r in range(rows):
            taken = Signal(intbv(0)[step_bits:])
            parts.append(operand_register(clk, operand_load, activation_word(64 * r + 64, 64 * r), taken))
            parts.append(operand_register(clk, enable, taken, x[r]))
        for c in range(columns):
            bits1, bits2 = Signal(intbv(0)[8:]), Signal(intbv(0)[8:])
            parts.append(operand_register(clk, enable, weight_word(8 * c + 8, 8 * c), bits1))
            parts.append(operand_register(clk, enable, bits1, bits2))
            for r in range(rows):
                behind = result[r][c + lanes] if c + lanes < columns else nothing
                parts.append(
                    dense_pe(
                        clk,
                        enable,
                        x[r],
                        bits2,
                        fine,
                        valid4,
                        first4,
                        negative4,
                        coarse,
                        capture,
                        drain,
                        behind,
                        result[r][c],
                        bits,
                    )  # fmt: skip
                )

    leaving = join(*(result[r][c] for c in reversed(range(lanes)) for r in reversed(range(rows))))

    @always_comb
    def leave():
        results.next = leaving

    return pipeline, parts, leave


@block
def operand_register(clk, enable, d, q):
    """Operand register: q takes d where enable is high."""

    @always(clk.posedge)
    def take():
        if enable:
            q.next = d

    return take
