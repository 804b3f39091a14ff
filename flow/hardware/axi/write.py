"""The write port on the bus: the lanes' words one after the other, each a burst of its own."""

from __future__ import annotations

from myhdl import Signal, always_comb, always_seq, intbv, modbv

from flow.hardware.axi.bus import CACHE, INCREMENTING, PROTECTION
from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block


@block
@prefixed(port="", aw="aw", w="w")
def axi_write(clk, reset, port, base, written, aw, w, bvalid, stride, beat):
    """Writes each valid lane's word by one burst, the lowest lane first.

    core    valid[lanes], addr[32 * lanes], data[bits * lanes], ready: a write port of the accelerator;
            base[address_bits]: byte address of its memory; written: all that was taken is in memory
    bus     AXI4 write channels; the bytes of a word that are none of its port's are not strobed; bready is always high
    stride, beat  bytes from word to word and of a beat
    Latency: two cycles from taking the lanes to the first awvalid and wvalid; a beat a cycle.
    """
    lanes, address_bits = len(port.valid), len(aw.addr)
    word_bytes = len(port.data) // lanes // 8
    bits, size, stride_shift = 8 * beat, beat.bit_length() - 1, stride.bit_length() - 1
    beats = -(-word_bytes // beat)
    word_bits = bits * beats
    own_bits = 8 * word_bytes
    incrementing, cache, protection = INCREMENTING, CACHE, PROTECTION
    full_strobe = 2**word_bytes - 1
    most = 255  # writes under way
    padded = Signal(intbv(0)[word_bits * lanes :])
    mask = Signal(intbv(0)[lanes:])
    addresses = Signal(intbv(0)[32 * lanes :])
    words = Signal(intbv(0)[word_bits * lanes :])
    place, shown_address = (Signal(modbv(0, min=0, max=2**address_bits)) for _ in range(2))
    current = Signal(intbv(0)[word_bits:])
    strobes = Signal(intbv(0)[beat * beats :])
    left = Signal(intbv(0, min=0, max=max(2, beats)))
    outstanding = Signal(intbv(0)[8:])
    takes, shifts, issues, free, address_shown, data_shown, last = (Signal(bool(0)) for _ in range(7))

    @always_comb
    def spread():
        padded.next = 0
        for i in range(lanes):
            low = word_bits * i
            at = own_bits * i
            padded.next[low + own_bits : low] = port.data[at + own_bits : at]

    @always_comb
    def scale():
        place.next = addresses[32:] << stride_shift

    @always_comb
    def decide():
        last.next = left == 0
        takes.next = mask == 0
        free.next = ((not address_shown) or aw.ready) and ((not data_shown) or (w.ready and (left == 0)))

    @always_comb
    def decide_more():
        issues.next = free and mask[0] and (outstanding != most)
        shifts.next = (mask != 0) and (not mask[0])

    @always_seq(clk.posedge, reset=reset)
    def queue():
        if takes:
            mask.next = port.valid
            addresses.next = port.addr
            words.next = padded
        elif issues or shifts:
            mask.next = mask >> 1
            addresses.next = addresses >> 32
            words.next = words >> word_bits

    @always_seq(clk.posedge, reset=reset)
    def channels():
        if issues:
            address_shown.next = True
            shown_address.next = base + place
            data_shown.next = True
            current.next = words[word_bits:]
            strobes.next = full_strobe
            left.next = beats - 1
        else:
            if aw.ready:
                address_shown.next = False
            if w.ready and data_shown:
                current.next = current >> bits
                strobes.next = strobes >> beat
                if last:
                    data_shown.next = False
                else:
                    left.next = left - 1

    @always_seq(clk.posedge, reset=reset)
    def count():
        if issues and (not bvalid):
            outstanding.next = outstanding + 1
        elif bvalid and (not issues):
            outstanding.next = outstanding - 1

    @always_comb
    def core():
        port.ready.next = takes
        written.next = (mask == 0) and (not address_shown) and (not data_shown) and (outstanding == 0)

    @always_comb
    def ports():
        aw.valid.next = address_shown
        aw.addr.next = shown_address
        w.valid.next = data_shown
        w.data.next = current[bits:]
        w.strb.next = strobes[beat:]
        w.last.next = last
        aw.id.next = 0
        aw.len.next = beats - 1
        aw.size.next = size
        aw.burst.next = incrementing
        aw.cache.next = cache
        aw.prot.next = protection

    return spread, scale, decide, decide_more, queue, channels, count, core, ports
