"""Read address channel: the read ports' bursts, one after the other."""

from __future__ import annotations

from myhdl import Signal, always_comb, always_seq, intbv, modbv

from flow.hardware.axi.bus import CACHE, INCREMENTING, PROTECTION
from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block


@block
@prefixed(ar="ar")
def axi_requests(clk, reset, requests, offsets, lengths, bases, granted, ar, beat):
    """Takes turns between the ports that want a burst.

    ports   requests[n], offsets[n * address_bits], lengths[n * 8] in; granted[n] out: the port's burst is taken in
            this cycle; bases[n * address_bits] in: hold while bursts are asked for
    bus     AXI4 read address channel; a burst's identifier is its port's number
    Latency: two cycles from a request to arvalid. One burst a cycle.
    """
    ports, address_bits = len(requests), len(ar.addr)
    size = beat.bit_length() - 1
    incrementing, cache, protection = INCREMENTING, CACHE, PROTECTION
    turn, choice, picked = (Signal(intbv(0, min=0, max=max(2, ports))) for _ in range(3))
    offset, picked_offset, picked_base = (Signal(intbv(0)[address_bits:]) for _ in range(3))
    address, shown_address = (Signal(modbv(0, min=0, max=2**address_bits)) for _ in range(2))
    length, picked_length, shown_length = (Signal(intbv(0)[8:]) for _ in range(3))
    shown_port = Signal(intbv(0)[len(ar.id) :])
    waiting, shown, leaves, picks = (Signal(bool(0)) for _ in range(4))

    @always_comb
    def choose():
        choice.next = 0
        for i in range(ports):
            if requests[ports - 1 - i]:
                choice.next = ports - 1 - i
        for i in range(ports):
            if requests[ports - 1 - i] and ports - 1 - i >= turn:
                choice.next = ports - 1 - i

    @always_comb
    def select():
        offset.next = 0
        length.next = 0
        for i in range(ports):
            low = address_bits * i
            if choice == i:
                offset.next = offsets[low + address_bits : low]
        for i in range(ports):
            at = 8 * i
            if choice == i:
                length.next = lengths[at + 8 : at]

    @always_comb
    def base_of_picked():
        picked_base.next = 0
        for i in range(ports):
            low = address_bits * i
            if picked == i:
                picked_base.next = bases[low + address_bits : low]

    @always_comb
    def pace():
        leaves.next = waiting and ((not shown) or ar.ready)
        picks.next = (requests != 0) and ((not waiting) or (not shown) or ar.ready)

    @always_comb
    def grant():
        for i in range(ports):
            granted.next[i] = picks and (choice == i)

    @always_comb
    def add():
        address.next = picked_base + picked_offset

    @always_seq(clk.posedge, reset=reset)
    def stages():
        if picks:
            waiting.next = True
            picked.next = choice
            picked_offset.next = offset
            picked_length.next = length
            if choice == ports - 1:
                turn.next = 0
            else:
                turn.next = choice + 1
        elif leaves:
            waiting.next = False
        if leaves:
            shown.next = True
            shown_port.next = picked
            shown_address.next = address
            shown_length.next = picked_length
        elif ar.ready:
            shown.next = False

    @always_comb
    def channel():
        ar.valid.next = shown
        ar.id.next = shown_port
        ar.addr.next = shown_address
        ar.len.next = shown_length
        ar.size.next = size
        ar.burst.next = incrementing
        ar.cache.next = cache
        ar.prot.next = protection

    return choose, select, base_of_picked, pace, grant, add, stages, channel
