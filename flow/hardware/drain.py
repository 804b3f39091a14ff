"""Write-back: drains finished tiles, requantizes them and restores the channel order by the index table."""

from myhdl import Signal, always, always_comb, always_seq, intbv, modbv

from flow.hardware.config import INDEX_BITS, PARAMETER_BITS
from flow.hardware.hierarchy import block
from flow.hardware.requantizer import requantizer
from flow.hardware.wires import join


@block
def drain_control(
    clk, reset,
    job, job_ready, tiles, channels, output_base, tile_stride, plane_stride, settings,
    finished, enable, capture, drain,
    parameter_ready, index_ready, read, rewind, discard,
    advance, lanes_valid, base, plane, block_done, kept_settings,
    lanes,
):  # fmt: skip
    """Decides when a finished tile may be captured, and walks its channels out of the array.

    job      job, job_ready: handshake; tiles[24], channels[16], output_base[32], tile_stride[24],
             plane_stride[16], settings[25] = high . low . zero . raw: descriptor fields
    array    finished in; enable, capture, drain out
    streams  parameter_ready, index_ready in; read, rewind, discard out (both streams alike)
    advance  in: write-back takes what is out now
    out      lanes_valid[lanes], base[32] (output word of channel 0), plane[2], block_done,
             kept_settings[25]: aligned with the results
    """
    running = Signal(bool(0))
    draining = Signal(bool(0))
    tiles_left = Signal(intbv(0)[24:])
    all_channels = Signal(intbv(0)[16:])
    channels_left = Signal(intbv(0)[16:])
    tile_base = Signal(modbv(0, min=0, max=2**32))
    stride = Signal(intbv(0)[24:])
    plane_step = Signal(intbv(0)[16:])
    planes = Signal(bool(0))
    ready = Signal(bool(0))
    fetching = Signal(bool(0))  # the word's parameters are read with its first plane
    go = Signal(bool(0))
    word_ends = Signal(bool(0))
    tile_ends = Signal(bool(0))
    block_ends = Signal(bool(0))
    available = Signal(bool(0))
    accept = Signal(bool(0))
    take = Signal(bool(0))

    @always_comb
    def progress():
        fetching.next = plane == 0
        ready.next = parameter_ready and index_ready
        word_ends.next = (not planes) or (plane == 3)

    @always_comb
    def decide():
        go.next = draining and advance and ((not fetching) or ready)

    @always_comb
    def ends():
        tile_ends.next = go and word_ends and (channels_left <= lanes)
        block_ends.next = go and word_ends and (channels_left <= lanes) and (tiles_left == 1)

    @always_comb
    def free():
        available.next = (running and (not draining)) or (tile_ends and ((not block_ends) or job))
        accept.next = job and ((not running) or block_ends)
        job_ready.next = (not running) or block_ends

    @always_comb
    def stalling():
        enable.next = (not finished) or available
        take.next = finished and available

    @always_comb
    def outputs():
        capture.next = take
        drain.next = go and word_ends
        read.next = go and fetching
        rewind.next = (channels_left <= lanes) and (tiles_left != 1)
        discard.next = tiles_left == 1
        block_done.next = block_ends

    @always_comb
    def which_lanes():
        for i in range(lanes):
            lanes_valid.next[i] = go and (channels_left > i)

    @always_seq(clk.posedge, reset=reset)
    def walk():
        if take:
            draining.next = True
        elif tile_ends:
            draining.next = False
        if accept:
            running.next = True
            tiles_left.next = tiles
            all_channels.next = channels
            channels_left.next = channels
            tile_base.next = output_base
            base.next = output_base
            stride.next = tile_stride
            plane_step.next = plane_stride
            planes.next = settings[0]
            kept_settings.next = settings
            plane.next = 0
        elif go:
            if not word_ends:
                plane.next = plane + 1
                base.next = base + plane_step
            else:
                plane.next = 0
                base.next = tile_base
                if tile_ends:
                    channels_left.next = all_channels
                    tile_base.next = tile_base + stride
                    base.next = tile_base + stride
                    tiles_left.next = tiles_left - 1
                    if tiles_left == 1:
                        running.next = False
                else:
                    channels_left.next = channels_left - lanes

    return progress, decide, ends, free, stalling, outputs, which_lanes, walk


@block
def delay(clk, enable, d, q):
    """A register with enable."""

    @always(clk.posedge)
    def step():
        if enable:
            q.next = d

    return step


@block
def unshuffle(clk, enable, base, index, address):
    """Output address of one lane: base[32] + index[16], three more cycles of delay to meet the byte.

    enable: all stages advance.
    """
    base1 = Signal(intbv(0)[32:])
    address2 = Signal(modbv(0, min=0, max=2**32))
    address3 = Signal(modbv(0, min=0, max=2**32))

    @always(clk.posedge)
    def add():
        if enable:
            base1.next = base
            address2.next = base1 + index
            address3.next = address2
            address.next = address3

    return add


@block
def write_back(
    clk, reset, results, lanes_valid, base, plane, block_done, settings,
    parameter_word, index_word, advance,
    output_valid, output_addr, output_data, output_ready, blocks_done, quiet, config,
):  # fmt: skip
    """Lanes of requantizers and addresses: results in, output memory writes out, four cycles later.

    control  advance: all stages move on; low while a write waits for the memory; quiet: all stages are empty
    data     results[rows * bits * lanes], lanes_valid, base, plane, block_done, settings[25]: stage 0;
             parameter_word, index_word: stage 1
    out      output_valid[lanes], output_addr[32 * lanes], output_data[8 * rows * lanes], output_ready in: all lanes
             are taken where it is high, and hold until then; blocks_done: pulses as the last write of a block is taken
    """
    rows, lanes, bits = config.rows, config.lanes, config.accumulator_bits
    valid1, valid2, valid3, valid4 = (Signal(intbv(0)[lanes:]) for _ in range(4))
    done1, done2, done3, done4 = (Signal(bool(0)) for _ in range(4))
    moves = Signal(bool(0))
    planes = [Signal(intbv(0)[2:]) for _ in range(3)]
    posts = [Signal(intbv(0)[25:]) for _ in range(3)]
    parts = [
        [delay(clk, moves, planes[i], planes[i + 1]) for i in range(2)],
        [delay(clk, moves, posts[i], posts[i + 1]) for i in range(2)],
        delay(clk, moves, plane, planes[0]),
        delay(clk, moves, settings, posts[0]),
    ]
    final = posts[2]
    raw, zero, low, high = final(0), final(9, 1), final(17, 9), final(25, 17)

    @always_comb
    def pace():
        moves.next = output_ready or (valid4 == 0)

    @always_comb
    def control():
        advance.next = moves
        quiet.next = (valid1 == 0) and (valid2 == 0) and (valid3 == 0) and (valid4 == 0)
        output_valid.next = valid4
        blocks_done.next = done4 and output_ready

    @always_seq(clk.posedge, reset=reset)
    def stages():
        if moves:
            valid1.next = lanes_valid
            valid2.next = valid1
            valid3.next = valid2
            valid4.next = valid3
            done1.next = block_done
            done2.next = done1
            done3.next = done2
            done4.next = done3

    addresses, data = [], []
    for lane in range(lanes):
        parameters = parameter_word(PARAMETER_BITS * lane + PARAMETER_BITS, PARAMETER_BITS * lane)
        bias = Signal(intbv(0)[32:])
        scale1, scale2, scale3 = (Signal(intbv(0)[30:]) for _ in range(3))
        address = Signal(modbv(0, min=0, max=2**32))
        index = index_word(INDEX_BITS * lane + INDEX_BITS, INDEX_BITS * lane)
        parts.append(split(parameters, bias, scale1))
        parts += [delay(clk, moves, scale1, scale2), delay(clk, moves, scale2, scale3)]
        parts.append(unshuffle(clk, moves, base, index, address))
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
                    scale3(30, 24),
                    raw,
                    planes[2],
                    zero,
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
        output_addr.next = all_addresses
        output_data.next = all_data

    return parts, pace, control, stages, port


@block
def split(parameters, bias, scale):
    """Fields of one channel's parameter word: bias[32], scale[30] = shift (6) . multiplier (24)."""

    @always_comb
    def fields():
        bias.next = parameters[32:]
        scale.next = parameters[62:32]

    return fields
