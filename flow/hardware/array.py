"""The PE array (paper fig. 9): rows are windows, columns are output channels, output-stationary."""

from myhdl import Signal, always, always_comb, always_seq, intbv, modbv

from flow.hardware.activation_sum import row_operand
from flow.hardware.dense_pe import dense_pe
from flow.hardware.hierarchy import block
from flow.hardware.pe import pe
from flow.hardware.scheduler import scheduler
from flow.hardware.wires import join


@block
def column_control(clk, enable, bits, metadata, low_phase, high_phase, significance,
                   select_low, invert_low, select_high, invert_high, piece, high, scale_high, shift):  # fmt: skip
    """What one array column's PEs share: two schedulers and the group's shift and constant.

    control  enable; low_phase, high_phase: this column brings the low or the high piece of the constant
    data     bits[16], metadata[8] = r (2) . d (6), significance[3] = 7 - column in
    out      stage 1: select_*[12], invert_*, piece[3], high; stage 2: scale_high, shift[3] (one cycle later)
    """
    next_shift = Signal(modbv(0, min=0, max=8))  # garbage while nothing is valid: it wraps
    low_bits = Signal(intbv(0)[8:])
    high_bits = Signal(intbv(0)[8:])

    @always_comb
    def halves():
        low_bits.next = bits[8:]
        high_bits.next = bits[16:8]

    low = scheduler(clk, enable, low_bits, select_low, invert_low)
    upper = scheduler(clk, enable, high_bits, select_high, invert_high)

    @always(clk.posedge)
    def constant():
        if enable:
            high.next = high_phase
            if low_phase:
                piece.next = metadata[3:]
            elif high_phase:
                piece.next = metadata[6:3]
            else:
                piece.next = 0
            next_shift.next = significance - metadata[8:6]
            scale_high.next = high
            shift.next = next_shift

    return halves, low, upper, constant


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
    Latency: four cycles from the words to `finished`.
    """
    rows, columns, lanes, bits = config.rows, config.columns, config.lanes, config.accumulator_bits
    step_bits = config.step * 8
    valid1, first1, last1, negative1 = (Signal(bool(0)) for _ in range(4))
    valid2, first2, last2, negative2 = (Signal(bool(0)) for _ in range(4))
    operand_load = Signal(bool(0))
    result = [[Signal(intbv(0)[bits:]) for _ in range(columns)] for _ in range(rows)]
    nothing = Signal(intbv(0)[bits:])

    @always_seq(clk.posedge, reset=reset)
    def pipeline():
        if enable:
            valid1.next = valid
            first1.next = first
            last1.next = last
            negative1.next = load
            valid2.next = valid1
            first2.next = first1
            last2.next = last1
            negative2.next = negative1
            finished.next = last2

    @always_comb
    def loading():
        operand_load.next = enable and load

    parts = []
    if config.pe == "bitvert":
        operands = []
        for r in range(rows):
            x_low, x_high = Signal(intbv(0)[64:]), Signal(intbv(0)[64:])
            sum_low, sum_high, sum_all = Signal(intbv(0)[11:]), Signal(intbv(0)[11:]), Signal(intbv(0)[12:])
            word = [activation_word(64 * (rows * half + r + 1), 64 * (rows * half + r)) for half in range(2)]
            operands.append((x_low, x_high, sum_low, sum_high, sum_all))
            parts.append(row_operand(clk, operand_load, join(word[1], word[0]), *operands[r]))
        for c in range(columns):
            select_low, select_high = Signal(intbv(0)[12:]), Signal(intbv(0)[12:])
            invert_low, invert_high, high, scale_high = (Signal(bool(0)) for _ in range(4))
            piece, shift = Signal(intbv(0)[3:]), Signal(intbv(0)[3:])
            parts.append(
                column_control(
                    clk,
                    enable,
                    weight_word(16 * c + 16, 16 * c),
                    metadata_word(8 * c + 8, 8 * c),
                    load,
                    high_phase,
                    significance,
                    select_low,
                    invert_low,
                    select_high,
                    invert_high,
                    piece,
                    high,
                    scale_high,
                    shift,
                )  # fmt: skip
            )
            for r in range(rows):
                behind = result[r][c + lanes] if c + lanes < columns else nothing
                parts.append(
                    pe(
                        clk,
                        enable,
                        *operands[r],
                        select_low,
                        invert_low,
                        select_high,
                        invert_high,
                        piece,
                        high,
                        valid2,
                        first2,
                        negative2,
                        scale_high,
                        shift,
                        capture,
                        drain,
                        behind,
                        result[r][c],
                        bits,
                    )  # fmt: skip
                )
    else:
        x = [Signal(intbv(0)[step_bits:]) for _ in range(rows)]
        columns_bits = [Signal(intbv(0)[8:]) for _ in range(columns)]
        shift1, shift2 = Signal(intbv(0)[3:]), Signal(intbv(0)[3:])

        @always(clk.posedge)
        def shifts():
            if enable:
                shift1.next = significance
                shift2.next = shift1

        parts.append(shifts)
        for r in range(rows):
            parts.append(operand_register(clk, operand_load, activation_word(64 * r + 64, 64 * r), x[r]))
        for c in range(columns):
            parts.append(operand_register(clk, enable, weight_word(8 * c + 8, 8 * c), columns_bits[c]))
            for r in range(rows):
                behind = result[r][c + lanes] if c + lanes < columns else nothing
                parts.append(
                    dense_pe(
                        clk,
                        enable,
                        x[r],
                        columns_bits[c],
                        valid2,
                        first2,
                        negative2,
                        shift2,
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

    return pipeline, loading, parts, leave


@block
def operand_register(clk, enable, d, q):
    """Operand register: q takes d where enable is high."""

    @always(clk.posedge)
    def take():
        if enable:
            q.next = d

    return take
