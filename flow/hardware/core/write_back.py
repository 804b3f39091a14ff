"""Write-back: requantizes drained sums and restores the channel order by the index table."""

from __future__ import annotations

from myhdl import Signal, always, always_comb, always_seq, intbv, modbv

from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.core.requantizer import LATENCY, requantizer
from flow.hardware.core.wires import delay, join
from flow.hardware.fields import INDEX_BITS, PARAMETER, PARAMETER_BITS, field_span


@block
def unshuffle(clk, enable, base, index, address):
    """Output address of one lane: base[32] + index[16], one cycle later. enable: the address advances."""

    @always(clk.posedge)
    def add():
        if enable:
            address.next = base + index

    return add


@block
@prefixed(drained="")
def write_back(
    clk, reset, results, drained, settings, parameter_word, index_word,
    output, leaving, tiles_done, full, blocks_done, quiet, config,
):  # fmt: skip
    """Lanes of requantizers and addresses: results in, output memory writes out, `LATENCY` cycles later.

    control  advance: all stages move on; low while a write waits for the memory or a tile for the feature maps;
             quiet: all stages are empty
    data     results[rows * bits * lanes], lanes_valid, base, plane, tile_done, block_done, settings: stage 0;
             parameter_word, index_word: stage 1
    out      output_valid[lanes], output_addr[32 * lanes], output_data[8 * rows * lanes], output_ready in: all lanes
             are taken where it is high, and hold until then; with feature maps only if the descriptor mirrors them;
             blocks_done: pulses as the last write of a block is taken
             leaving[lanes]: of output_data, what moves on at this edge and is no raw sum; tiles_done: the last
             of a tile; full in: the feature maps take nothing more; rises only after tiles_done
    """
    rows, lanes, bits = config.rows, config.lanes, config.accumulator_bits
    stages = LATENCY - 1  # before the last, whose registers are the outputs
    travelling = Signal(intbv(0)[lanes * stages :])  # lanes_valid of each stage, the youngest lowest
    tiles, done = Signal(intbv(0)[LATENCY:]), Signal(intbv(0)[LATENCY:])
    final_valid = travelling(lanes * stages, lanes * (stages - 1))
    shown, kept = Signal(intbv(0)[lanes:]), Signal(intbv(0)[lanes:])
    held, moves = Signal(bool(0)), Signal(bool(0))
    plane1 = Signal(intbv(0)[2:])
    posts = [Signal(intbv(0)[len(settings) :]) for _ in range(LATENCY)]
    bases = [Signal(intbv(0)[32:]) for _ in range(LATENCY)]
    parts = [
        [delay(clk, moves, posts[i], posts[i + 1]) for i in range(1, stages)],
        [delay(clk, moves, bases[i], bases[i + 1]) for i in range(1, stages)],
        delay(clk, moves, drained.plane, plane1),
        delay(clk, moves, settings, posts[1]),
        delay(clk, moves, drained.base, bases[1]),
    ]
    raw1, raw6, zero = posts[1](0), posts[6](0), posts[6](9, 1)
    final = posts[stages]
    raw, low, high = final(0), final(17, 9), final(25, 17)

    @always_comb
    def hold():
        held.next = full and ((kept != 0) or tiles[stages])

    @always_comb
    def pace():
        moves.next = (output.ready or (shown == 0)) and (not held)

    @always_comb
    def control():
        drained.advance.next = moves
        quiet.next = (travelling == 0) and (shown == 0)
        if held:
            output.valid.next = 0
        else:
            output.valid.next = shown
        if moves:
            leaving.next = kept
        else:
            leaving.next = 0
        tiles_done.next = tiles[stages] and moves
        blocks_done.next = done[stages] and moves

    @always_seq(clk.posedge, reset=reset)
    def travel():
        if moves:
            travelling.next[lanes:] = drained.lanes_valid
            travelling.next[:lanes] = travelling[lanes * (stages - 1) :]
            tiles.next[0] = drained.tile_done
            tiles.next[:1] = tiles[stages:]
            done.next[0] = drained.block_done
            done.next[:1] = done[stages:]

    if config.map_words:
        mirror = final(len(settings) - 1)

        @always_seq(clk.posedge, reset=reset)
        def last_stage():
            if moves:
                if mirror:
                    shown.next = final_valid
                else:
                    shown.next = 0
                if raw:
                    kept.next = 0
                else:
                    kept.next = final_valid

    else:

        @always_seq(clk.posedge, reset=reset)
        def last_stage():
            if moves:
                shown.next = final_valid
                kept.next = final_valid

    addresses, data = [], []
    for lane in range(lanes):
        parameters = parameter_word(PARAMETER_BITS * lane + PARAMETER_BITS, PARAMETER_BITS * lane)
        bias = Signal(intbv(0)[32:])
        scale1, scale2 = (Signal(intbv(0)[30:]) for _ in range(2))
        shift3, shift4 = (Signal(intbv(0)[6:]) for _ in range(2))
        indices = [Signal(intbv(0)[INDEX_BITS:]) for _ in range(LATENCY)]
        address = Signal(modbv(0, min=0, max=2**32))
        index = index_word(INDEX_BITS * lane + INDEX_BITS, INDEX_BITS * lane)
        parts.append(split(parameters, raw1, plane1, bias, scale1))
        parts.append(delay(clk, moves, scale1, scale2))
        parts.append(delay(clk, moves, scale2(30, 24), shift3))
        parts.append(delay(clk, moves, shift3, shift4))
        parts.append(delay(clk, moves, index, indices[2]))
        parts += [delay(clk, moves, indices[i], indices[i + 1]) for i in range(2, stages)]
        parts.append(unshuffle(clk, moves, bases[stages], indices[stages], address))
        addresses.append(address)
        for r in range(rows):
            octet = Signal(intbv(0)[8:])
            k = bits * (lane * rows + r)
            parts.append(
                requantizer(
                    clk,
                    moves,
                    results(k + bits, k),
                    bias,
                    scale2(24, 0),
                    shift4,
                    raw6,
                    zero,
                    raw,
                    low,
                    high,
                    octet,
                    bits,
                )  # fmt: skip
            )
            data.append(octet)
    all_addresses = join(*reversed(addresses))
    all_data = join(*reversed(data))

    @always_comb
    def port():
        output.addr.next = all_addresses
        output.data.next = all_data

    return parts, hold, pace, control, travel, last_stage, port


@block
def split(parameters, raw, plane, bias, scale):
    """Fields of one channel's parameter word: bias[32], scale[30] = shift (6) . multiplier (24).

    Those of a raw sum make the requantizer give its byte `plane`: 2^23 and 24 + 8 * plane. Combinational.
    """

    bias_end, _ = field_span(PARAMETER, "bias")
    _, scale_begin = field_span(PARAMETER, "multiplier")
    scale_end = scale_begin + 30

    @always_comb
    def fields():
        bias.next = parameters[bias_end:]
        if raw:
            scale.next = 2**23
            scale.next[30:27] = plane + 3
        else:
            scale.next = parameters[scale_end:scale_begin]

    return fields
