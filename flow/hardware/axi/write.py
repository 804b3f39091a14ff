"""The write port on the bus: the lanes' words wait in a queue, and those that follow each other become a burst."""

from __future__ import annotations

from myhdl import Signal, always_comb, always_seq, intbv, modbv

from flow.hardware.axi.bus import CACHE, INCREMENTING, MOST_BEATS, PAGE, PROTECTION
from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.core.ram import ram
from flow.hardware.core.wires import flags, join


@block
@prefixed(port="", aw="aw", w="w")
def axi_write(clk, reset, port, base, written, aw, w, bvalid, stride, beat, most, depth):
    """Queues what the lanes write, and gathers consecutive words, the lowest lane first, while they come, to a burst.

    core    valid[lanes], addr[32 * lanes], data[bits * lanes], ready: a write port of the accelerator, all lanes at
            once; base[address_bits]: byte address of its memory; written: all that was taken is in memory
    bus     AXI4 write channels; the bytes of a word that are none of its port's are not strobed; bready is always high
    stride, beat, most   bytes from word to word and of a beat, the most words of a burst
    depth   of the queue, a power of two: so often may the lanes write while the bus is not ready
    A burst stays within a page. Latency: four cycles from taking the
    lanes to the first awvalid and wvalid. One lane a cycle, a beat a cycle.
    """
    lanes, address_bits = len(port.valid), len(aw.addr)
    own_bits = len(port.data) // lanes
    bits, size, stride_shift = 8 * beat, beat.bit_length() - 1, stride.bit_length() - 1
    beats = -(-own_bits // bits)
    assert stride <= PAGE and beats <= MOST_BEATS and (most == 1 or beats * beat == stride)
    page_bits = (PAGE // stride - 1).bit_length()
    incrementing, cache, protection = INCREMENTING, CACHE, PROTECTION
    whole_strobe, last_strobe = 2**beat - 1, 2 ** (own_bits // 8 - (beats - 1) * beat) - 1
    limit = 255  # bursts under way

    # The queue: all lanes of a write in a word; `lane` is the one whose turn it is.
    places = (depth - 1).bit_length()
    head, tail, queued, coming = (Signal(modbv(0, min=0, max=2 * depth)) for _ in range(4))
    write_place, read_place = (Signal(intbv(0)[places:]) for _ in range(2))
    full, fills, takes, pops, present, steps, lane_ends, lane_valid = flags(8)  # fills: full with one more
    incoming = join(port.valid, port.addr, port.data)
    front = Signal(intbv(0)[len(incoming) :])
    data_bits, address_end, all_bits = own_bits * lanes, (32 + own_bits) * lanes, len(incoming)
    front_data, front_addresses = Signal(intbv(0)[data_bits:]), Signal(intbv(0)[32 * lanes :])
    front_valid = Signal(intbv(0)[lanes:])
    lane = Signal(intbv(0, min=0, max=max(2, lanes)))
    address = Signal(intbv(0)[32:])
    word = Signal(intbv(0)[own_bits:])

    # The words of the burst that is sent, and of the one that is gathered.
    room = 1 << (2 * most - 1).bit_length()
    word_places = (room - 1).bit_length()
    word_head, word_tail = (Signal(modbv(0, min=0, max=room)) for _ in range(2))
    held = Signal(intbv(0, min=0, max=room + 1))
    gathering, follows, open_page, stores, extends, begins, accepts, issues, free = flags(9)
    origin, following = (Signal(modbv(0, min=0, max=2**32)) for _ in range(2))
    words = Signal(intbv(0, min=0, max=most + 1))
    all_beats = Signal(intbv(0)[9:])
    place, shown_address = (Signal(modbv(0, min=0, max=2**address_bits)) for _ in range(2))
    length = Signal(intbv(0)[8:])
    current = Signal(intbv(0)[own_bits:])
    padded = Signal(intbv(0)[bits * beats :])
    beat_number = Signal(intbv(0, min=0, max=max(2, beats)))
    left = Signal(intbv(0, min=0, max=most + 1))  # words, with the one that is sent
    outstanding = Signal(intbv(0)[8:])
    address_shown, data_shown, last_beat, last, advances, fetches = flags(6)
    assert len(word_head) == word_places

    @always_comb
    def queue_state():
        queued.next = head - tail
        coming.next = head + 1
        fills.next = (coming[places:] == tail[places:]) and (coming[places] != tail[places])
        write_place.next = head[places:]
        read_place.next = tail[places:]

    @always_comb
    def queue_ports():
        takes.next = (port.valid != 0) and (not full)
        lane_ends.next = lane == lanes - 1
        pops.next = (queued != 0) and ((not present) or (steps and lane_ends))

    @always_comb
    def front_fields():
        front_data.next = front[data_bits:]
        front_addresses.next = front[address_end:data_bits]
        front_valid.next = front[all_bits:address_end]

    @always_comb
    def turn():
        address.next = 0
        word.next = 0
        lane_valid.next = False
        for i in range(lanes):
            low = 32 * i
            if lane == i:
                address.next = front_addresses[low + 32 : low]
                lane_valid.next = present and front_valid[i]
        for i in range(lanes):
            at = own_bits * i
            if lane == i:
                word.next = front_data[at + own_bits : at]

    @always_comb
    def gathers():
        open_page.next = following[page_bits:] != 0
        follows.next = gathering and (address == following) and open_page and (words != most)
        stores.next = lane_valid and (held != room)

    @always_comb
    def ends():
        last_beat.next = beat_number == beats - 1
        last.next = last_beat and (left == 1)
        free.next = (
            gathering
            and ((not address_shown) or aw.ready)
            and ((not data_shown) or (w.ready and last))
            and (outstanding != limit)
        )
        advances.next = data_shown and w.ready and last_beat and (not last)

    # `follows` and `free` come late: what they decide takes one step more from both.
    @always_comb
    def decide():
        extends.next = stores and follows
        issues.next = free and (not (stores and follows))
        begins.next = stores and (not follows) and ((not gathering) or free)
        accepts.next = stores and (follows or (not gathering) or free)

    @always_comb
    def decide_more():
        steps.next = present and ((not lane_valid) or accepts)
        fetches.next = issues or advances

    @always_seq(clk.posedge, reset=reset)
    def queue():
        if takes:
            head.next = coming
        if pops:
            full.next = False
        elif takes:
            full.next = fills
        if pops:
            tail.next = tail + 1
            present.next = True
        elif steps and lane_ends:
            present.next = False
        if steps:
            if lane_ends:
                lane.next = 0
            else:
                lane.next = lane + 1

    @always_seq(clk.posedge, reset=reset)
    def gather():
        if begins:
            gathering.next = True
            origin.next = address
            following.next = address + 1
            words.next = 1
        elif extends:
            following.next = following + 1
            words.next = words + 1
        elif issues:
            gathering.next = False

    @always_seq(clk.posedge, reset=reset)
    def hold():
        if accepts:
            word_head.next = word_head + 1
        if fetches:
            word_tail.next = word_tail + 1
        if accepts and (not fetches):
            held.next = held + 1
        elif fetches and (not accepts):
            held.next = held - 1

    @always_comb
    def scale():
        place.next = origin << stride_shift
        all_beats.next = words * beats

    @always_seq(clk.posedge, reset=reset)
    def channels():
        if issues:
            address_shown.next = True
            shown_address.next = base + place
            length.next = all_beats - 1
            data_shown.next = True
            beat_number.next = 0
            left.next = words
        else:
            if aw.ready:
                address_shown.next = False
            if w.ready and data_shown:
                if not last_beat:
                    beat_number.next = beat_number + 1
                else:
                    beat_number.next = 0
                    left.next = left - 1
                    if last:
                        data_shown.next = False

    @always_seq(clk.posedge, reset=reset)
    def count():
        if issues and (not bvalid):
            outstanding.next = outstanding + 1
        elif bvalid and (not issues):
            outstanding.next = outstanding - 1

    @always_comb
    def core():
        port.ready.next = not full
        written.next = (
            (queued == 0)
            and (not present)
            and (not gathering)
            and (not address_shown)
            and (not data_shown)
            and (outstanding == 0)
        )

    @always_comb
    def pad():
        padded.next = 0
        padded.next[own_bits:] = current

    @always_comb
    def beat_of_word():
        w.data.next = 0
        for i in range(beats):
            low = bits * i
            if beat_number == i:
                w.data.next = padded[low + bits : low]

    @always_comb
    def ports():
        aw.valid.next = address_shown
        aw.addr.next = shown_address
        aw.len.next = length
        w.valid.next = data_shown
        w.last.next = last
        if last_beat:
            w.strb.next = last_strobe
        else:
            w.strb.next = whole_strobe
        aw.id.next = 0
        aw.size.next = size
        aw.burst.next = incrementing
        aw.cache.next = cache
        aw.prot.next = protection

    waiting = ram(clk, takes, write_place, incoming, pops, read_place, front, all_bits, depth)
    gathered = ram(clk, accepts, word_head, word, fetches, word_tail, current, own_bits, room)
    return (
        queue_state, queue_ports, front_fields, turn, gathers, ends, decide, decide_more, queue, gather, hold, scale,
        channels, count, core, pad, beat_of_word, ports, waiting, gathered,
    )  # fmt: skip
