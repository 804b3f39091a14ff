"""Drain controller: takes finished tiles from the array, row by row."""

from __future__ import annotations

from myhdl import Signal, always_comb, always_seq, intbv, modbv

from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block


@block
@prefixed(work="", reader="", drained="")
def drain_control(
    clk, reset, job, job_ready, work, finished, enable, capture, drain, parameter_ready, index_ready, reader, drained,
    kept_settings, lanes,
):  # fmt: skip
    """Decides when a finished tile may be captured, and walks its channels out of the array.

    job      job, job_ready: handshake; tiles[24], channels[16], output_base[32], tile_stride[24],
             plane_stride[16], settings = ... high . low . zero . raw: descriptor fields
    array    finished in; enable, capture, drain out
    streams  parameter_ready, index_ready in; read, rewind, discard out (both streams alike)
    advance  in: write-back takes what is out now
    out      lanes_valid[lanes], base[32] (output word of channel 0), plane[2], tile_done, block_done,
             kept_settings: aligned with the results
    """
    running = Signal(bool(0))
    draining = Signal(bool(0))
    tiles_left = Signal(intbv(0)[24:])
    all_channels = Signal(intbv(0)[16:])
    channels_left = Signal(intbv(0)[16:])
    one_word, last_word, last_tile = (Signal(bool(0)) for _ in range(3))  # what channels and tiles_left say
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
        fetching.next = drained.plane == 0
        ready.next = parameter_ready and index_ready
        word_ends.next = (not planes) or (drained.plane == 3)

    @always_comb
    def decide():
        go.next = draining and drained.advance and ((not fetching) or ready)

    @always_comb
    def ends():
        tile_ends.next = go and word_ends and last_word
        block_ends.next = go and word_ends and last_word and last_tile

    @always_comb
    def free():
        available.next = (running and (not draining)) or (tile_ends and ((not last_tile) or job))
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
        reader.read.next = go and fetching
        reader.rewind.next = last_word and (not last_tile)
        reader.discard.next = last_tile
        drained.tile_done.next = tile_ends
        drained.block_done.next = block_ends

    @always_comb
    def which_lanes():
        for i in range(lanes):
            drained.lanes_valid.next[i] = go and (channels_left > i)

    @always_seq(clk.posedge, reset=reset)
    def walk():
        if take:
            draining.next = True
        elif tile_ends:
            draining.next = False
        if accept:
            running.next = True
            tiles_left.next = work.tiles
            last_tile.next = work.tiles == 1
            all_channels.next = work.channels
            channels_left.next = work.channels
            one_word.next = work.channels <= lanes
            last_word.next = work.channels <= lanes
            tile_base.next = work.output_base
            drained.base.next = work.output_base
            stride.next = work.tile_stride
            plane_step.next = work.plane_stride
            planes.next = work.settings[0]
            kept_settings.next = work.settings
            drained.plane.next = 0
        elif go:
            if not word_ends:
                drained.plane.next = drained.plane + 1
                drained.base.next = drained.base + plane_step
            else:
                drained.plane.next = 0
                drained.base.next = tile_base
                if tile_ends:
                    channels_left.next = all_channels
                    last_word.next = one_word
                    tile_base.next = tile_base + stride
                    drained.base.next = tile_base + stride
                    tiles_left.next = tiles_left - 1
                    last_tile.next = tiles_left == 2
                    if last_tile:
                        running.next = False
                else:
                    channels_left.next = channels_left - lanes
                    last_word.next = channels_left <= 2 * lanes

    return progress, decide, ends, free, stalling, outputs, which_lanes, walk
