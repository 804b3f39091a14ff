"""Address generation and double buffering of one operand stream: memory port in, ring buffer, reader out.

A job (base, count) is fetched word by word from an external memory into a ring as long as there is room, one
job ahead of the reader. The reader advances a cursor; words stay until it releases them, so a tile that is used
again is rewound instead of fetched again.
"""

from __future__ import annotations

from myhdl import ConcatSignal, Signal, always_comb, always_seq, intbv, modbv

from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.core.ram import ram


@block
@prefixed(words="")
def stream(clk, reset, job, job_ready, base, count, memory, words, halt, quiet, width, depth, beats):
    """One operand stream.

    job      job, job_ready: handshake; base[32], count: memory words to fetch
    memory   memory_en, memory_addr[32] out, memory_ready in: a request is taken where both are high, and holds until
             then; memory_valid, memory_data[width / beats] in: the answers in order, one cycle later or more
    reader   read: take the word under the cursor, shown on word[width] one cycle later; rewind: then go back to
             the oldest word kept; discard: then give up the words read so far; ready: there is a word
    control  halt: ask for nothing more; quiet: nothing is asked for or on its way
    """
    bits = (depth - 1).bit_length()
    wrap = 2 ** (bits + 1)
    requested = Signal(modbv(0, min=0, max=wrap))
    head = Signal(modbv(0, min=0, max=wrap))
    tail = Signal(modbv(0, min=0, max=wrap))
    cursor = Signal(modbv(0, min=0, max=wrap))
    following = Signal(modbv(0, min=0, max=wrap))
    coming = Signal(modbv(0, min=0, max=wrap))
    full, fills = Signal(bool(0)), Signal(bool(0))  # requested words take all places; with one word more
    there = Signal(bool(0))  # cursor is not head
    address = Signal(modbv(0, min=0, max=2**32))
    remaining = Signal(intbv(0)[32:])
    more = Signal(bool(0))  # remaining is not 0
    fetch = Signal(bool(0))
    taken, asks = Signal(bool(0)), Signal(bool(0))  # a request; a word's last one
    waiting = Signal(bool(0))  # a request is on the port
    write = Signal(bool(0))
    write_addr = Signal(intbv(0)[bits:])
    read_addr = Signal(intbv(0)[bits:])
    assembled = Signal(intbv(0)[width:])

    # Registers say what comparing the counters would: `fetch` and `ready` begin long paths.
    @always_comb
    def occupancy():
        coming.next = requested + 1
        fills.next = (coming[bits:] == tail[bits:]) and (coming[bits] != tail[bits])

    @always_comb
    def reader_view():
        job_ready.next = not more
        words.ready.next = there or write
        read_addr.next = cursor[bits:]
        write_addr.next = head[bits:]
        following.next = cursor + 1

    @always_comb
    def memory_port():
        memory.en.next = fetch
        memory.addr.next = address
        taken.next = fetch and memory.ready

    @always_seq(clk.posedge, reset=reset)
    def reader():
        if words.read:
            if words.rewind:
                cursor.next = tail
            else:
                cursor.next = following
            if words.discard:
                tail.next = following
            if words.rewind:
                there.next = True
            elif not write:
                there.next = following != head
        elif write:
            there.next = True

    @always_seq(clk.posedge, reset=reset)
    def room():
        if words.read and words.discard:
            full.next = False
        elif asks:
            full.next = fills

    if beats == 1:

        @always_comb
        def request():
            fetch.next = more and (not full) and ((not halt) or waiting)
            asks.next = taken
            quiet.next = (requested == head) and (not waiting)

        @always_seq(clk.posedge, reset=reset)
        def loader():
            waiting.next = fetch and (not memory.ready)
            if taken:
                address.next = address + 1
                remaining.next = remaining - 1
                more.next = remaining != 1
                requested.next = coming
            elif job and (not more):
                address.next = base
                remaining.next = count
                more.next = count != 0
            if memory.valid:
                head.next = head + 1

        @always_comb
        def assemble():
            write.next = memory.valid
            assembled.next = memory.data

        processes = (request, loader, assemble)
    else:
        half = Signal(bool(0))  # the next request is for the second half of a word
        arriving_half = Signal(bool(0))  # the next answer is one
        low = Signal(intbv(0)[width // 2 :])
        both = ConcatSignal(memory.data, low)

        @always_comb
        def request():
            fetch.next = more and (half or (not full)) and ((not halt) or waiting)
            asks.next = taken and half
            quiet.next = (requested == head) and (half == arriving_half) and (not waiting)

        @always_seq(clk.posedge, reset=reset)
        def loader():
            waiting.next = fetch and (not memory.ready)
            if taken:
                address.next = address + 1
                remaining.next = remaining - 1
                more.next = remaining != 1
                half.next = not half
                if half:
                    requested.next = coming
            elif job and (not more):
                address.next = base
                remaining.next = count
                more.next = count != 0
            if memory.valid:
                low.next = memory.data
                arriving_half.next = not arriving_half
                if arriving_half:
                    head.next = head + 1

        @always_comb
        def assemble():
            write.next = memory.valid and arriving_half
            assembled.next = both

        processes = (request, loader, assemble)

    storage = ram(clk, write, write_addr, assembled, words.read, read_addr, words.word, width, depth)
    return occupancy, reader_view, memory_port, reader, room, processes, storage
