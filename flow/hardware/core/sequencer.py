"""Compute controller: issues one bit column a cycle, tile after tile, as the streams have its operands."""

from __future__ import annotations

from myhdl import Signal, always_comb, always_seq, intbv, modbv

from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.core.slices import slice_count, slice_places


@block
@prefixed(work="", issued="")
def sequencer(clk, reset, job, job_ready, work, enable, weight, metadata, activation, issued, encoded, per_cycle=1):
    """Walks the tiles, steps and bit columns of one channel block.

    job      job, job_ready: handshake; tiles[24], steps[16], columns[4], hold, resident, post: descriptor fields;
             post: there are activations only; a step takes a cycle more than its columns
    control  enable: the array advances this cycle
    streams  *_ready in; *_read, *_rewind, *_release out
    array    valid, first, last (of a tile), load (first column of a step), high_phase, significance[3] = 7 - column,
             registered so that they arrive with the words read
    encoded  whether there is metadata, a word for every second step
    """
    # Where the array takes `per_cycle` bit columns together, "column" means such a slice, and its significance is that
    # of the slice's last bit column.
    running = Signal(bool(0))
    tiles_left = Signal(intbv(0)[24:])
    steps_total = Signal(intbv(0)[16:])
    steps_left = Signal(intbv(0)[16:])
    final_column = Signal(modbv(0)[4:])
    last_step, last_group, last_tile = (Signal(bool(0)) for _ in range(3))  # what steps_left and tiles_left say
    column = Signal(intbv(0)[4:])
    odd = Signal(bool(0))
    kept = Signal(bool(0))
    held = Signal(bool(0))
    weightless = Signal(bool(0))
    paused = Signal(bool(0))  # a step of post-processing has ended, whose second octet comes in this cycle
    fresh = Signal(bool(0))  # the next column is the first of a tile
    issue = Signal(bool(0))
    step_starts = Signal(bool(0))
    group_starts = Signal(bool(0))
    step_ends = Signal(bool(0))
    tile_ends = Signal(bool(0))
    block_ends = Signal(bool(0))
    accept = Signal(bool(0))
    if per_cycle > 1:
        slices = Signal(intbv(0)[4:])
        counting = slice_count(work.columns, slices, per_cycle)
    else:
        slices, counting = work.columns, []

    @always_comb
    def where():
        step_starts.next = column == 0
        group_starts.next = (column == 0) and (not odd)
        step_ends.next = column == final_column

    @always_comb
    def ends():
        tile_ends.next = step_ends and last_step
        block_ends.next = step_ends and last_step and last_tile

    if encoded:

        @always_comb
        def decide():
            issue.next = (
                running
                and enable
                and (not paused)
                and (weight.ready or weightless)
                and ((not step_starts) or activation.ready)
                and ((not group_starts) or metadata.ready or weightless)
            )

        @always_comb
        def metadata_reader():
            metadata.read.next = issue and group_starts and (not weightless)
            metadata.rewind.next = last_group and kept and (not last_tile)
            metadata.release.next = (not kept) or last_tile

    else:

        @always_comb
        def decide():
            issue.next = (
                running
                and enable
                and (not paused)
                and (weight.ready or weightless)
                and ((not step_starts) or activation.ready)
            )

        @always_comb
        def metadata_reader():
            # There is none: its metadata stream stays empty and never ready.
            metadata.read.next = issue and metadata.ready
            metadata.rewind.next = metadata.ready
            metadata.release.next = metadata.ready

    @always_comb
    def readers():
        weight.read.next = issue and (not weightless)
        weight.rewind.next = tile_ends and kept and (not last_tile)
        weight.release.next = (not kept) or last_tile
        activation.read.next = issue and step_starts
        activation.rewind.next = last_step and last_tile and held
        activation.release.next = not held

    @always_comb
    def handshake():
        job_ready.next = (not running) or (issue and block_ends)

    @always_comb
    def accepting():
        accept.next = job and ((not running) or (issue and block_ends))

    @always_seq(clk.posedge, reset=reset)
    def walk():
        if accept:
            running.next = True
            tiles_left.next = work.tiles
            last_tile.next = work.tiles == 1
            steps_total.next = work.steps
            steps_left.next = work.steps
            last_step.next = work.steps == 1
            last_group.next = work.steps <= 2
            final_column.next = slices - 1
            kept.next = work.resident
            held.next = work.hold
            weightless.next = work.post
            column.next = 0
            odd.next = False
            fresh.next = True
        elif issue:
            fresh.next = tile_ends
            if not step_ends:
                column.next = column + 1
            else:
                column.next = 0
                if block_ends:
                    running.next = False
                elif tile_ends:
                    tiles_left.next = tiles_left - 1
                    last_tile.next = tiles_left == 2
                    steps_left.next = steps_total
                    last_step.next = steps_total == 1
                    last_group.next = steps_total <= 2
                    odd.next = False
                else:
                    steps_left.next = steps_left - 1
                    last_step.next = steps_left == 2
                    last_group.next = steps_left <= 3
                    odd.next = not odd

    place = Signal(modbv(0)[3:])  # beyond the last bit column it wraps, where there are only zeros

    if per_cycle == 1:

        @always_comb
        def count_down():
            place.next = 7 - column[3:]

        places = [count_down]
    else:
        shift = per_cycle.bit_length() - 1
        first_of_work, first_place = Signal(intbv(0)[3:]), Signal(intbv(0)[3:])
        skipped = Signal(modbv(0)[3:])

        @always_seq(clk.posedge, reset=reset)
        def keep_place():
            if accept:
                first_place.next = first_of_work

        @always_comb
        def skip():
            skipped.next = column << shift

        @always_comb
        def subtract():
            place.next = first_place - skipped

        places = [keep_place, skip, subtract, slice_places(work.columns, first_of_work, per_cycle)]

    @always_seq(clk.posedge, reset=reset)
    def control():
        if enable:
            paused.next = issue and weightless and step_ends
            issued.valid.next = issue
            issued.first.next = issue and fresh
            issued.last.next = issue and tile_ends
            issued.load.next = issue and step_starts
            issued.high_phase.next = issue and (column == 1)
            issued.significance.next = place

    return (
        where, ends, decide, metadata_reader, readers, handshake, accepting, counting, walk, control, places,
    )  # fmt: skip
