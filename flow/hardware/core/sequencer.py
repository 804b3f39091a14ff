"""Compute controller: issues one bit column a cycle, tile after tile, as the streams have its operands."""

from __future__ import annotations

from myhdl import Signal, always_comb, always_seq, intbv, modbv

from flow.hardware.conversion.hierarchy import block


@block
def sequencer(
    clk, reset,
    job, job_ready, tiles, steps, columns, resident, post,
    enable,
    weight_ready, weight_read, weight_rewind, weight_release,
    metadata_ready, metadata_read, metadata_rewind, metadata_release,
    activation_ready, activation_read,
    valid, first, last, load, high_phase, significance,
    kind,
):  # fmt: skip
    """Walks the tiles, steps and bit columns of one channel block.

    job      job, job_ready: handshake; tiles[24], steps[16], columns[4], resident, post: descriptor fields;
             post: there are activations only
    control  enable: the array advances this cycle
    streams  *_ready in; *_read, *_rewind, *_release out
    array    valid, first, last (of a tile), load (first column of a step), high_phase, significance[3] = 7 - column,
             registered so that they arrive with the words read
    kind     "bitvert" (metadata every second step) or "dense" (no metadata)
    """
    running = Signal(bool(0))
    tiles_left = Signal(intbv(0)[24:])
    steps_total = Signal(intbv(0)[16:])
    steps_left = Signal(intbv(0)[16:])
    final_column = Signal(modbv(0)[4:])
    last_step, last_group, last_tile = (Signal(bool(0)) for _ in range(3))  # what steps_left and tiles_left say
    column = Signal(intbv(0)[4:])
    odd = Signal(bool(0))
    kept = Signal(bool(0))
    weightless = Signal(bool(0))
    fresh = Signal(bool(0))  # the next column is the first of a tile
    issue = Signal(bool(0))
    step_starts = Signal(bool(0))
    group_starts = Signal(bool(0))
    step_ends = Signal(bool(0))
    tile_ends = Signal(bool(0))
    block_ends = Signal(bool(0))
    accept = Signal(bool(0))

    @always_comb
    def where():
        step_starts.next = column == 0
        group_starts.next = (column == 0) and (not odd)
        step_ends.next = column == final_column

    @always_comb
    def ends():
        tile_ends.next = step_ends and last_step
        block_ends.next = step_ends and last_step and last_tile

    if kind == "bitvert":

        @always_comb
        def decide():
            issue.next = (
                running
                and enable
                and (weight_ready or weightless)
                and ((not step_starts) or activation_ready)
                and ((not group_starts) or metadata_ready or weightless)
            )

        @always_comb
        def metadata_reader():
            metadata_read.next = issue and group_starts and (not weightless)
            metadata_rewind.next = last_group and kept and (not last_tile)
            metadata_release.next = (not kept) or last_tile

    else:

        @always_comb
        def decide():
            issue.next = running and enable and (weight_ready or weightless) and ((not step_starts) or activation_ready)

        @always_comb
        def metadata_reader():
            # The dense element has none: its metadata stream stays empty and never ready.
            metadata_read.next = issue and metadata_ready
            metadata_rewind.next = metadata_ready
            metadata_release.next = metadata_ready

    @always_comb
    def readers():
        weight_read.next = issue and (not weightless)
        weight_rewind.next = tile_ends and kept and (not last_tile)
        weight_release.next = (not kept) or last_tile
        activation_read.next = issue and step_starts

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
            tiles_left.next = tiles
            last_tile.next = tiles == 1
            steps_total.next = steps
            steps_left.next = steps
            last_step.next = steps == 1
            last_group.next = steps <= 2
            final_column.next = columns - 1
            kept.next = resident
            weightless.next = post
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

    @always_seq(clk.posedge, reset=reset)
    def control():
        if enable:
            valid.next = issue
            first.next = issue and fresh
            last.next = issue and tile_ends
            load.next = issue and step_starts
            high_phase.next = issue and (column == 1)
            significance.next = 7 - column[3:]

    return where, ends, decide, metadata_reader, readers, handshake, accepting, walk, control
