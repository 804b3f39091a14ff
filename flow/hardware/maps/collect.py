"""Channels of finished tiles, collected lane by lane, and read eight at a time as an entry names them."""

from __future__ import annotations

from myhdl import Signal, always, always_comb, always_seq, intbv, modbv

from flow.hardware.conversion.hierarchy import block
from flow.hardware.core.wires import join
from flow.hardware.fields import CHANNEL, field_span

TILES = 4  # that are collected at once: one fills, one is read, and two for what banks in conflict take longer


@block
def lane_words(clk, write, write_place, data, places, words, depth):
    """What one lane gave for the tiles that are collected: a memory with a write port and eight read ports.

    data: write, write_place[bits], data[8 * rows]; places[8 * bits] in, words[8 * 8 * rows] out, combinational.
    """
    width = len(data)
    bits = (depth - 1).bit_length()
    memory = [Signal(intbv(0)[width:]) for _ in range(depth)]

    @always(clk.posedge)
    def take():
        if write:
            memory[write_place].next = data

    @always_comb
    def give():
        place = intbv(0)[bits:]
        for k in range(8):
            low = width * k
            least = bits * k
            place[:] = places[least + bits : least]
            words.next[low + width : low] = memory[place]

    return take, give


@block
def channel_place(least, column, place, lane, lanes, slots):
    """Where the channel of a column is: the place that all lanes read, the lane that has it. Combinational.

    data: least[bits]: the tile's first place; column[6] in; place[bits], lane[6] out
    """
    slot_bits = (slots - 1).bit_length()
    if lanes & (lanes - 1) == 0 and slots > 1:
        lane_bits, all_lanes = lanes.bit_length() - 1, lanes - 1
        slot_number = column(min(lane_bits + slot_bits, len(column)), lane_bits)
        offset = Signal(intbv(0)[len(place) :])

        @always_comb
        def split():
            offset.next = slot_number
            lane.next = column & all_lanes

        @always_comb
        def add():
            place.next = least | offset  # the tile's places begin at a multiple of their number

        divide = [split, add]

    else:

        @always_comb
        def divide():
            slot = intbv(0)[slot_bits + 1 :]
            rest = intbv(0)[6:]
            slot[:] = 0
            rest[:] = column
            for i in range(1, slots):
                if column >= lanes * i:
                    slot[:] = i
                    rest[:] = column - lanes * i
            place.next = least + slot
            lane.next = rest

    return divide


@block
def channel_word(clk, load, zero, lane, candidates, word, lanes):
    """A channel of every row: the lane's of candidates[8 * rows * lanes], or zeros.

    word[8 * rows]: one cycle after load.
    """
    width = len(word)

    @always(clk.posedge)
    def pick():
        chosen = intbv(0)[width:]
        if load:
            chosen[:] = 0
            for i in range(lanes):
                low = width * i
                if (not zero) and (lane == i):
                    chosen[:] = candidates[low + width : low]
            word.next = chosen

    return pick


@block
def collect(clk, reset, valid, tile_done, data, load, finished, entry, words, mask, rows, columns, lanes):
    """Channels of finished tiles: one fills, the oldest is read.

    control  valid[lanes], tile_done: as write_back gives them; load: take what `entry` says of the oldest tile;
             finished: nothing more of it will be taken
    data     data[8 * rows * lanes], entry in; words[64 * rows], mask[8] out, one cycle after load
    """
    slots = -(-columns // lanes)
    slot_bits = max(1, (slots - 1).bit_length())
    depth = TILES << slot_bits
    width = 8 * rows
    column_bits, _ = field_span(CHANNEL, "column")
    _, zero_at = field_span(CHANNEL, "zero")
    _, write_at = field_span(CHANNEL, "write")
    bits = (depth - 1).bit_length()
    filling, oldest = (Signal(modbv(0, min=0, max=TILES)) for _ in range(2))
    slot = Signal(modbv(0, min=0, max=1 << slot_bits))
    write_place, least_free, least_used = (Signal(intbv(0)[bits:]) for _ in range(3))
    places = [Signal(intbv(0)[bits:]) for _ in range(8)]
    lane = [Signal(intbv(0)[column_bits:]) for _ in range(8)]
    found = [Signal(intbv(0)[8 * width :]) for _ in range(lanes)]
    taken = [Signal(intbv(0)[width:]) for _ in range(8)]
    places_all = join(*reversed(places))
    words_all = join(*(taken[k](8 * j + 8, 8 * j) for j in reversed(range(rows)) for k in reversed(range(8))))

    @always_comb
    def where():
        least_free.next = filling << slot_bits  # a product with a number VHDL would cut to the factor's width
        least_used.next = oldest << slot_bits

    @always_comb
    def place():
        write_place.next = least_free + slot

    @always_seq(clk.posedge, reset=reset)
    def count():
        if tile_done:
            filling.next = filling + 1
            slot.next = 0
        elif valid != 0:
            slot.next = slot + 1
        if finished:
            oldest.next = oldest + 1

    memories = [
        lane_words(clk, valid(i), write_place, data(width * i + width, width * i), places_all, found[i], depth)
        for i in range(lanes)
    ]
    parts = []
    for k in range(8):
        least, low = 8 * k, width * k
        candidates = join(*(found[i](low + width, low) for i in reversed(range(lanes))))
        parts += [
            channel_place(least_used, entry(least + column_bits, least), places[k], lane[k], lanes, slots),
            channel_word(clk, load, entry(least + zero_at), lane[k], candidates, taken[k], lanes),
        ]

    @always(clk.posedge)
    def marks():
        if load:
            for k in range(8):
                at = 8 * k + write_at
                mask.next[k] = entry[at]

    @always_comb
    def give():
        words.next = words_all

    return where, place, count, memories, parts, marks, give
