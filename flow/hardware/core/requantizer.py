"""Requantizer: y = clamp(rne((acc + b') * M * 2^-S) + z), one output byte a cycle."""

from __future__ import annotations

from myhdl import ConcatSignal, Signal, always, always_comb, intbv, modbv

from flow.hardware.conversion.hierarchy import block

LATENCY = 8  # cycles from a result to its octet


@block
def requantizer(clk, enable, result, bias, multiplier, shift, raw, zero, passing, low, high, octet, bits):
    """One of the rows x lanes requantizers.

    control  enable: all stages advance
    data     stage 0: result[bits] (two's complement, registered here); stage 1: bias[32] (two's complement);
             stage 2: multiplier[24]; stage 4: shift[6], 1 to 57; stage 6: raw, zero[8]; stage 7: passing (raw again),
             low[8], high[8]
    out      octet[8]: the output code + 128; if raw, the low byte of the sum times M * 2^(1 - S), rounded down
    Latency: `LATENCY` cycles from result to octet.
    """
    taken = Signal(intbv(0, min=-(2 ** (bits - 1)), max=2 ** (bits - 1)))
    addend = Signal(intbv(0, min=-(2**31), max=2**31))
    total = Signal(modbv(0, min=-(2**31), max=2**31))
    product = Signal(intbv(0, min=-(2**55), max=2**55))
    halves = Signal(intbv(0, min=-(2**16), max=2**16))
    floor = Signal(intbv(0, min=-(2**16), max=2**16))
    rest, under, over, under7, over7 = (Signal(bool(0)) for _ in range(5))
    raised = Signal(intbv(0)[9:])
    offset = Signal(intbv(0, min=-(2**17), max=2**17))
    code = Signal(intbv(0, min=-(2**17), max=2**17))
    lowest = Signal(intbv(0, min=-(2**17), max=2**17))
    highest = Signal(intbv(0, min=-(2**17), max=2**17))

    @always_comb
    def operands():
        addend.next = bias.signed()
        lowest.next = low
        highest.next = high

    @always(clk.posedge)
    def add():
        if enable:
            taken.next = result.signed()
            total.next = taken + addend

    multiply = multiplier_24(clk, enable, total, multiplier, product)
    shifter = rounding_shift(clk, enable, product, shift, halves, rest, under, over)

    @always_comb
    def floors():
        floor.next = halves >> 1

    @always_comb
    def round_half_to_even():
        if halves[0] and (rest or halves[1]):
            raised.next = zero + 1
        else:
            raised.next = zero

    @always_comb
    def widen():
        offset.next = raised

    @always(clk.posedge)
    def centre():
        if enable:
            under7.next = under
            over7.next = over
            if raw:
                code.next = halves
            else:
                code.next = floor + offset

    @always(clk.posedge)
    def clamp():
        if enable:
            if passing:
                octet.next = code[8:]
            elif under7 or ((not over7) and (code < lowest)):
                octet.next = low
            elif over7 or (code > highest):
                octet.next = high
            else:
                octet.next = code[8:]

    return operands, add, multiply, shifter, floors, round_half_to_even, widen, centre, clamp


@block
def multiplier_24(clk, enable, total, multiplier, product):
    """A signed 32-bit sum by an unsigned 24-bit number, as four products that fit an FPGA's multipliers.

    control: enable; data: total signed[32], multiplier[24] in, product signed[56] out. Latency: two cycles.
    """
    total_low = Signal(intbv(0, min=-(2**16), max=2**16))  # signed containers of unsigned halves
    total_high = Signal(intbv(0, min=-(2**15), max=2**15))
    factor_low = Signal(intbv(0, min=-(2**12), max=2**12))
    factor_high = Signal(intbv(0, min=-(2**12), max=2**12))
    low_low = Signal(intbv(0, min=-(2**28), max=2**28))
    low_high = Signal(intbv(0, min=-(2**28), max=2**28))
    high_low = Signal(intbv(0, min=-(2**27), max=2**27))
    high_high = Signal(intbv(0, min=-(2**27), max=2**27))
    upper = Signal(intbv(0)[28:])
    lower = Signal(intbv(0)[28:])
    both = ConcatSignal(upper, lower)
    outer = Signal(intbv(0, min=-(2**55), max=2**55))
    aligned = Signal(intbv(0, min=-(2**31), max=2**31))
    middle = Signal(intbv(0, min=-(2**32), max=2**32))
    inner = Signal(intbv(0, min=-(2**55), max=2**55))

    @always_comb
    def split_operands():
        total_low.next = total[16:]
        total_high.next = total >> 16
        factor_low.next = multiplier[12:]
        factor_high.next = multiplier[24:12]

    @always(clk.posedge)
    def multiply():
        if enable:
            low_low.next = total_low * factor_low
            low_high.next = total_low * factor_high
            high_low.next = total_high * factor_low
            high_high.next = total_high * factor_high

    @always_comb
    def parts():
        upper.next = high_high[28:]
        lower.next = low_low[28:]
        aligned.next = high_low << 4

    @always_comb
    def outside():
        outer.next = both.signed()

    @always_comb
    def inside():
        middle.next = aligned + low_high

    @always_comb
    def place():
        inner.next = middle << 12

    @always(clk.posedge)
    def add():
        if enable:
            product.next = outer + inner

    return split_operands, multiply, parts, outside, inside, place, add


@block
def rounding_shift(clk, enable, product, shift, halves, rest, under, over):
    """The product over 2^shift, in halves, with what rounding and clamping must know of the bits cut off.

    control  enable
    data     product signed[56], shift[6], 1 to 57, in; halves signed[17] = floor(product * 2^(1 - shift)) if that
             fits; rest: a one was cut off below; under, over out: it does not fit, and is negative, positive
    Whole bytes go first, then bits; of the 57 bits only 17 can matter then. Latency: two cycles.
    """
    doubled = Signal(intbv(0, min=-(2**56), max=2**56))
    octets = Signal(intbv(0)[57:])
    whole = Signal(intbv(0)[6:])
    moved = Signal(intbv(0, min=-(2**56), max=2**56))
    lost, outside = Signal(bool(0)), Signal(bool(0))
    window = Signal(intbv(0)[17:])
    window5 = Signal(intbv(0, min=-(2**16), max=2**16))
    bits5 = Signal(intbv(0)[3:])
    lost5, under5, over5 = Signal(bool(0)), Signal(bool(0)), Signal(bool(0))
    cut = Signal(intbv(0)[7:])
    mask = Signal(intbv(0)[7:])

    @always_comb
    def double():
        doubled.next = product << 1
        whole.next = 0
        whole.next[6:3] = shift[6:3]

    @always_comb
    def same_bits():
        octets.next = doubled[57:]

    @always_comb
    def bytes_right():
        moved.next = doubled >> whole

    @always_comb
    def bytes_cut_off():
        lost.next = 0
        outside.next = 0
        for j in range(7):
            low = 8 * j
            if (shift[6:3] > j) and (octets[low + 8 : low] != 0):
                lost.next = 1
        for j in range(2, 7):
            low = 8 * j
            if shift[6:3] < j - 1:
                if octets[56]:
                    if octets[low + 8 : low] != 255:
                        outside.next = 1
                elif octets[low + 8 : low] != 0:
                    outside.next = 1

    @always_comb
    def lowest():
        window.next = moved[17:]

    @always(clk.posedge)
    def byte_stage():
        if enable:
            window5.next = window.signed()
            bits5.next = shift[3:]
            lost5.next = lost
            under5.next = outside and octets[56]
            over5.next = outside and (not octets[56])

    @always_comb
    def bits_cut_off():
        for j in range(7):
            mask.next[j] = bits5 > j
        cut.next = window5[7:]

    @always(clk.posedge)
    def bit_stage():
        if enable:
            halves.next = window5 >> bits5
            rest.next = lost5 or ((cut & mask) != 0)
            under.next = under5
            over.next = over5

    return double, same_bits, bytes_right, bytes_cut_off, lowest, byte_stage, bits_cut_off, bit_stage
