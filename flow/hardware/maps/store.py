"""Results into the feature maps: the channels of finished tiles, octet by octet."""

from __future__ import annotations

from myhdl import Signal, always_comb, always_seq, intbv, modbv

from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.core.wires import flags
from flow.hardware.fields import ADDRESS, COORDINATE, ENTRY, WORD_BITS, field_span
from flow.hardware.maps.arbiter import arbiter
from flow.hardware.maps.bundles import Tap
from flow.hardware.maps.collect import TILES, collect
from flow.hardware.maps.walker import walkers


@block
def spread(words, chosen, write_data, rows):
    """To each bank the word of the row it serves: words[64 * rows], chosen[log2(rows) * rows] in. Combinational."""
    bits = (rows - 1).bit_length()
    parts = [Signal(intbv(0)[WORD_BITS:]) for _ in range(rows)]

    @always_comb
    def split():
        for j in range(rows):
            low = WORD_BITS * j
            parts[j].next = words[low + WORD_BITS : low]

    @always_comb
    def choose():
        row = intbv(0)[bits:]
        for b in range(rows):
            low = WORD_BITS * b
            least = bits * b
            row[:] = chosen[least + bits : least]
            write_data.next[low + WORD_BITS : low] = parts[row]

    return split, choose


@block
@prefixed(work="", results="", reader="entry_", banks="")
def store(
    clk, reset, job, job_ready, work, results, halt, reader, entry, banks, block_done, rows, columns, lanes, words
):
    """Writes the finished tiles of a block.

    job      job, job_ready: handshake, one ahead; walk: fields of the descriptor; entries[16]: of a tile, none if the
             block is not kept; tiles[24]
    tiles    valid[lanes], tile_done (with its last word), data[8 * rows * lanes]: as write_back gives them; full:
             nothing more is taken, unless halt: then no matter what becomes of it
    stream   entry_ready in; entry_read, entry_rewind, entry_discard out; entry: how eight channels go to an octet
    banks    writes[rows], write_mask[8], write_lines, write_data[64 * rows], registered
    control  block_done: pulses when the block's last word is on its way to its bank
    One entry a cycle if no two rows want the same bank.
    """
    bits = (rows - 1).bit_length()
    line_bits = (words // rows - 1).bit_length()
    entry_offset = entry(*field_span(ENTRY, "offset"))
    entry_x, entry_y = entry(*field_span(ENTRY, "offset_x")), entry(*field_span(ENTRY, "offset_y"))
    tap_x, tap_y = (Signal(modbv(0, min=0, max=2**COORDINATE)) for _ in range(2))
    tap_word = Signal(modbv(0, min=0, max=2**ADDRESS))
    active, accept, ready, advance, at_hand, flushing = flags(6)
    finished, load, loads_last, reading, block_ends = flags(5)
    pending_job, begin = Signal(bool(0)), Signal(bool(0))  # the one after that under way
    next_entries, all_entries, entries_left = (Signal(intbv(0)[16:]) for _ in range(3))
    this_there, next_there, empty, ahead = flags(4)  # an entry of the tile, of the next one; the tile has none
    next_tiles, tiles_left = (Signal(intbv(0)[24:]) for _ in range(2))
    staged = Signal(intbv(0, min=0, max=TILES + 1))
    addresses, addresses1 = (Signal(intbv(0)[ADDRESS * rows :]) for _ in range(2))
    present, pending, granted, remaining, enables = (Signal(intbv(0)[rows:]) for _ in range(5))
    lines = Signal(intbv(0)[line_bits * rows :])
    chosen = Signal(intbv(0)[bits * rows :])
    collected, sorted_words = (Signal(intbv(0)[WORD_BITS * rows :]) for _ in range(2))
    mask = Signal(intbv(0)[8:])
    free = Signal(bool(0))

    tap_place = Tap(tap_word, tap_x, tap_y)
    walking = walkers(clk, reset, accept, begin, advance, ready, work.walk, tap_place, addresses, present, rows)
    staging = collect(
        clk, reset, results.valid, results.tile_done, results.data, load, finished, entry, collected, mask,
        rows, columns, lanes,
    )  # fmt: skip
    serving = arbiter(pending, addresses1, granted, enables, lines, chosen, rows, line_bits)
    spreading = spread(collected, chosen, sorted_words, rows)

    @always_comb
    def tap():
        tap_word.next = entry_offset
        tap_x.next = entry_x
        tap_y.next = entry_y

    @always_comb
    def serve():
        remaining.next = pending & ~granted

    @always_comb
    def whether():
        free.next = remaining == 0

    @always_comb
    def loading():
        load.next = at_hand and free

    # `free` comes late, from the arbiter: all else is decided before, and for both cases.
    @always_comb
    def tiles():
        loads_last.next = at_hand and (entries_left == 0)
        this_there.next = (staged != 0) and (entries_left != 0)
        next_there.next = (staged > 1) and (tiles_left != 1) and (all_entries != 0)
        empty.next = active and (not flushing) and (all_entries == 0) and (staged != 0)

    @always_comb
    def next_entry():
        if loads_last:
            ahead.next = active and ready and reader.ready and next_there
            reader.rewind.next = (all_entries == 1) and (tiles_left != 2)
            reader.discard.next = tiles_left == 2
        else:
            ahead.next = active and ready and reader.ready and this_there
            reader.rewind.next = (entries_left == 1) and (tiles_left != 1)
            reader.discard.next = tiles_left == 1

    @always_comb
    def read_next():
        reading.next = ahead and ((not at_hand) or free)
        reader.read.next = ahead and ((not at_hand) or free)

    @always_comb
    def finishing():
        finished.next = (loads_last and free) or empty

    @always_comb
    def moving():
        advance.next = finished
        block_ends.next = finished and (tiles_left == 1)

    @always_comb
    def handshake():
        job_ready.next = not pending_job
        accept.next = job and (not pending_job)
        begin.next = pending_job and ((not active) or block_ends)
        results.full.next = (staged == TILES) and (not halt)

    @always_seq(clk.posedge, reset=reset)
    def control():
        if accept:
            pending_job.next = True
            next_entries.next = work.entries
            next_tiles.next = work.tiles
        elif begin:
            pending_job.next = False
        if begin:
            active.next = True
            all_entries.next = next_entries
            entries_left.next = next_entries
            tiles_left.next = next_tiles
        elif finished:
            if block_ends:
                active.next = False
            if reading:
                entries_left.next = all_entries - 1
            else:
                entries_left.next = all_entries
            tiles_left.next = tiles_left - 1
        elif reading:
            entries_left.next = entries_left - 1
        if reading:
            at_hand.next = True
        elif load:
            at_hand.next = False

    @always_seq(clk.posedge, reset=reset)
    def endings():
        block_done.next = flushing and free
        if block_ends:
            flushing.next = True
        elif free:
            flushing.next = False

    @always_seq(clk.posedge, reset=reset)
    def accounts():
        if results.tile_done and (not finished) and (staged != TILES):
            staged.next = staged + 1
        elif finished and (not results.tile_done):
            staged.next = staged - 1

    @always_seq(clk.posedge, reset=reset)
    def pipeline():
        if load:
            pending.next = present
            addresses1.next = addresses
        else:
            pending.next = remaining
        banks.writes.next = enables
        banks.write_lines.next = lines
        banks.write_mask.next = mask
        banks.write_data.next = sorted_words

    return (
        walking, staging, serving, spreading, tap, serve, whether, loading, tiles, next_entry, read_next,
        finishing, moving, handshake, control, endings, accounts, pipeline,
    )  # fmt: skip
