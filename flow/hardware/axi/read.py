"""One read port on the bus: requests in a row become a burst, its beats become words again."""

from __future__ import annotations

from myhdl import ConcatSignal, Signal, always_comb, always_seq, intbv, modbv

from flow.hardware.axi.bus import MOST_BEATS, PAGE
from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block


@block
@prefixed(port="", claim="")
def axi_read(clk, reset, port, claim, rvalid, rid, rdata, number, stride, beat, most):
    """Gathers requests for consecutive words while they come, and asks for them by one burst.

    core       en, addr[32], ready, valid, data: a read port of the accelerator
    requests   request: a burst is wanted, of length[8] beats and one, offset[address_bits] bytes from the memory's
               base; granted: taken, in the same cycle
    bus        rvalid, rid[4], rdata: beats for the identifier `number` are this port's; it always has room
    stride, beat, most   bytes from word to word and of a beat, the most words of a burst: one, if words have beats of
               padding, which are not asked for
    A burst stays within a page. Latency: two cycles from en to request, if nothing more is asked for; one from a
    word's last beat to valid. data holds until the next word's first beat.
    """
    width = len(port.data)
    bits, beats = 8 * beat, -(-width // (8 * beat))  # of a beat; of a word
    stride_shift = stride.bit_length() - 1
    assert stride <= PAGE and beats <= MOST_BEATS and (most == 1 or beats * beat == stride)
    page_bits = (PAGE // stride - 1).bit_length()
    gathering, follows, open_page, asks, mine, full = (Signal(bool(0)) for _ in range(6))
    origin, following = (Signal(modbv(0, min=0, max=2**32)) for _ in range(2))
    words = Signal(intbv(0, min=0, max=most + 1))
    all_beats = Signal(intbv(0)[9:])
    place = Signal(modbv(0, min=0, max=2 ** len(claim.offset)))
    received = Signal(intbv(0, min=0, max=max(2, beats)))
    complete = Signal(bool(0))
    assembled = Signal(intbv(0)[bits * beats :])

    @always_comb
    def where():
        full.next = words == most
        open_page.next = following[page_bits:] != 0
        mine.next = rvalid and (rid == number)

    @always_comb
    def extending():
        follows.next = gathering and (port.addr == following) and open_page and (not full)

    @always_comb
    def handshake():
        port.ready.next = (not gathering) or follows
        asks.next = gathering and (full or (not port.en) or (not follows))

    @always_comb
    def scale():
        place.next = origin << stride_shift
        all_beats.next = words * beats

    @always_comb
    def wanted():
        claim.request.next = asks
        claim.offset.next = place
        claim.length.next = all_beats - 1

    @always_seq(clk.posedge, reset=reset)
    def gather():
        if claim.granted:
            gathering.next = False
        elif port.en and (not gathering):
            gathering.next = True
            origin.next = port.addr
            following.next = port.addr + 1
            words.next = 1
        elif port.en and follows:
            following.next = following + 1
            words.next = words + 1

    @always_comb
    def answer():
        port.valid.next = complete
        port.data.next = assembled[width:]

    if beats == 1:

        @always_seq(clk.posedge, reset=reset)
        def collect():
            complete.next = mine
            if mine:
                assembled.next = rdata

    else:
        shifted = ConcatSignal(rdata, assembled(bits * beats, bits))

        @always_seq(clk.posedge, reset=reset)
        def collect():
            complete.next = mine and (received == beats - 1)
            if mine:
                assembled.next = shifted
                if received == beats - 1:
                    received.next = 0
                else:
                    received.next = received + 1

    return where, extending, handshake, scale, wanted, gather, answer, collect
