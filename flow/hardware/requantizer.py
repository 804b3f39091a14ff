"""Requantizer: y = clamp(rne((acc + b') * M * 2^-S) + z), one output byte a cycle."""

from myhdl import Signal, always, always_comb, intbv, modbv

from flow.hardware.hierarchy import block


@block
def requantizer(clk, enable, result, bias, multiplier, shift, raw, plane, zero, low, high, octet, bits):
    """One of the rows x lanes requantizers.

    control  enable: all stages advance
    data     stage 0: result[bits] (two's complement, registered here); stage 1: bias[32] (two's complement);
             stage 2: multiplier[24]; stage 3: shift[6], raw, plane[2], zero[8], low[8], high[8]
    out      octet[8]: the output code + 128, or byte `plane` of the 32-bit sum when raw
    Latency: four cycles from result to octet.
    """
    taken = Signal(intbv(0, min=-(2 ** (bits - 1)), max=2 ** (bits - 1)))
    addend = Signal(intbv(0, min=-(2**31), max=2**31))
    total = Signal(modbv(0, min=-(2**31), max=2**31))
    kept = Signal(intbv(0)[32:])
    factor = Signal(intbv(0, min=-(2**24), max=2**24))
    product = Signal(intbv(0, min=-(2**56), max=2**56))
    floor = Signal(intbv(0, min=-(2**56), max=2**56))
    one = Signal(intbv(1)[58:])
    unit = Signal(intbv(0)[58:])
    below_half = Signal(intbv(0, min=-(2**59), max=2**59))
    odd = Signal(intbv(0, min=-2, max=2))
    nudge = Signal(intbv(0, min=-(2**59), max=2**59))
    raised = Signal(intbv(0, min=-(2**60), max=2**60))
    rounded = Signal(intbv(0, min=-(2**60), max=2**60))
    offset = Signal(intbv(0, min=-(2**60), max=2**60))
    code = Signal(intbv(0, min=-(2**61), max=2**61))
    lowest = Signal(intbv(0, min=-(2**9), max=2**9))
    highest = Signal(intbv(0, min=-(2**9), max=2**9))

    @always(clk.posedge)
    def take():
        if enable:
            taken.next = result.signed()

    @always_comb
    def operands():
        addend.next = bias.signed()
        factor.next = multiplier
        offset.next = zero
        lowest.next = low
        highest.next = high

    @always(clk.posedge)
    def add():
        if enable:
            total.next = taken + addend

    @always(clk.posedge)
    def multiply():
        if enable:
            product.next = total * factor
            kept.next = total[32:]

    # Round half to even: floor((p + half - 1 + odd) / 2^S), odd being the parity of floor(p / 2^S).
    @always_comb
    def parity():
        floor.next = product >> shift

    @always_comb
    def half():
        unit.next = one << shift

    @always_comb
    def decrement():
        below_half.next = unit >> 1

    @always_comb
    def odd_floor():
        if floor[0]:
            odd.next = 0
        else:
            odd.next = -1

    @always_comb
    def nudging():
        nudge.next = below_half + odd

    @always_comb
    def raising():
        raised.next = product + nudge

    @always_comb
    def scaling():
        rounded.next = raised >> shift

    @always_comb
    def centre():
        code.next = rounded + offset

    @always(clk.posedge)
    def clamp():
        if enable:
            if raw:
                if plane == 0:
                    octet.next = kept[8:]
                elif plane == 1:
                    octet.next = kept[16:8]
                elif plane == 2:
                    octet.next = kept[24:16]
                else:
                    octet.next = kept[32:24]
            elif code < lowest:
                octet.next = low
            elif code > highest:
                octet.next = high
            else:
                octet.next = code[8:]

    return (
        take, operands, add, multiply, parity, half, decrement, odd_floor, nudging, raising, scaling, centre, clamp,
    )  # fmt: skip
