"""Bit column scheduler (paper fig. 8): which of eight activations the four multiplexers take."""

from __future__ import annotations

from myhdl import Signal, always_comb, always_seq, intbv

from flow.hardware.conversion.hierarchy import block

NOTHING = 7  # choice code of a multiplexer that takes no activation


def schedule_subgroup(bits: int) -> tuple[tuple[int, int, int, int], bool]:
    """The software model: choice codes of the four multiplexers and the invert flag for eight weight bits.

    Multiplexer i can take activations i to i+4; of a column with more than four ones the zeros are taken.
    """
    invert = bits.bit_count() > 4
    pending = bits ^ 0xFF if invert else bits
    codes = []
    for lane in range(4):
        code = next((j for j in range(5) if pending >> (lane + j) & 1), NOTHING)
        if code != NOTHING:
            pending &= ~(1 << (lane + code))
        codes.append(code)
    assert pending == 0
    return (codes[0], codes[1], codes[2], codes[3]), invert


@block
def priority_encoder(pending, code, left, position):
    """Five-bit priority encoder of multiplexer `position`: code[3] of the lowest pending bit of its window.

    data: pending[8] in, left[8] out: what the next encoder still has to serve.
    """
    w0, w1, w2, w3, w4 = (position + j for j in range(5))
    c0, c1, c2, c3, c4 = (0xFF ^ (1 << (position + j)) for j in range(5))

    @always_comb
    def encode():
        if pending[w0]:
            code.next = 0
            left.next = pending & c0
        elif pending[w1]:
            code.next = 1
            left.next = pending & c1
        elif pending[w2]:
            code.next = 2
            left.next = pending & c2
        elif pending[w3]:
            code.next = 3
            left.next = pending & c3
        elif pending[w4]:
            code.next = 4
            left.next = pending & c4
        else:
            code.next = NOTHING
            left.next = pending

    return encode


@block
def scheduler(clk, enable, bits, choice, invert):
    """Select codes and invert flag of one sub-group.

    control: enable; data: bits[8] in, choice[12] (multiplexer 0 lowest), invert out. Latency: one cycle.
    """
    pending = [Signal(intbv(0)[8:]) for _ in range(5)]
    code = [Signal(intbv(0)[3:]) for _ in range(4)]
    majority = Signal(bool(0))
    pending0 = pending[0]
    code0, code1, code2, code3 = code

    @always_comb
    def popcount():
        ones = intbv(0, min=0, max=9)
        ones[:] = 0
        for i in range(8):
            if bits[i]:
                ones[:] = ones + 1
        if ones > 4:
            majority.next = True
            pending0.next = bits ^ 0xFF
        else:
            majority.next = False
            pending0.next = bits

    encoders = [priority_encoder(pending[i], code[i], pending[i + 1], i) for i in range(4)]

    @always_seq(clk.posedge, reset=None)
    def register():
        if enable:
            invert.next = majority
            choice.next[3:] = code0
            choice.next[6:3] = code1
            choice.next[9:6] = code2
            choice.next[12:9] = code3

    return popcount, encoders, register
