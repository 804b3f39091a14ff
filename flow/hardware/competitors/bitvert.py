"""The design space of the BitVert PE (paper IV-A, table IV): sub-groups of 4, 8 or 16 weights, two optimizations.

compact multiplexers   of a sub-group of g the i-th of g/2 multiplexers takes activations i to i + g/2, for no
                       more of its bits are set; without it, each takes any of the g
shared multiplier      3 bits of the group's constant a cycle instead of all 6 at once
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from myhdl import Signal, always_comb, modbv

from flow.hardware.competitors.lanes import ADDERS, Terms, register, select, signed, unsigned, weigh
from flow.hardware.conversion.bundles import bits, flag, prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.elements.accumulator import accumulator, align
from flow.hardware.elements.pe import constant_multiplier

WEIGHTS = 16


def code_bits(group: int, optimized: bool) -> int:
    """Width of one multiplexer's code: its choices, and one for none."""
    return (group // 2 + 1 if optimized else group).bit_length()


@block
def subgroup_sum(clk, enable, x, choice, total, invert, selected, base, group, optimized):
    """Sum of the activations under the ones of `group` weight bits, from number `base` on.

    stage 2  x[128], choice (codes of its multiplexers)
    stage 3  total[8 + log2 group] (sum of the sub-group), invert (the codes are of the zeros) in; selected as wide as
             total out, modular
    """
    count, width = group // 2, code_bits(group, optimized)
    y = [unsigned(8) for _ in range(count)]
    codes = [choice(width * (lane + 1), width * lane) for lane in range(count)]
    if optimized:
        lanes = [select(x, codes[lane], y[lane], base + lane, count + 1) for lane in range(count)]
    else:
        lanes = [select(x, codes[lane], y[lane], base, group) for lane in range(count)]
    added, taken = unsigned(8 + count.bit_length()), unsigned(8 + count.bit_length())
    adder = ADDERS[count](Terms(*y), added)
    registered = register(clk, enable, added, taken)

    @always_comb
    def complement():
        if invert:
            selected.next = total - taken
        else:
            selected.next = taken

    return lanes, adder, registered, complement


@block
def whole_multiplier(total, offset, product):
    """The constant at once: product signed[19] = total[12] x offset (6 bits, two's complement)."""
    wide, factor = signed(13), signed(6)

    @always_comb
    def widen():
        wide.next = total

    @always_comb
    def number():
        factor.next = offset.signed()

    @always_comb
    def multiply():
        product.next = wide * factor

    return widen, number, multiply


@dataclass(frozen=True)
class Operands:
    """What row and column give to `bitvert_pe`."""

    x: Any = bits(128)
    choice: Any = bits()  # eight codes
    totals: Any = bits()  # sums of the sub-groups, 8 + log2 group bits each
    sum_all: Any = bits(12)
    invert: Any = bits()  # [16 / group]
    offset: Any = bits(6)  # the constant; optimized its lower or upper three bits
    high: Any = flag()  # the upper, which are signed
    fine: Any = bits(2)


@block
@prefixed(operands="", port="")
def bitvert_pe(clk, enable, operands, valid, first, negative, scale_high, coarse, port, group, optimized, bits):
    """A bit column of sixteen weights a cycle on eight multipliers; with `group` 8, optimized, what `pe` does.

    stage 2  x[128]; choice (eight codes)
    stage 3  totals (sums of the sub-groups, 8 + log2 group bits each), sum_all[12]; invert[16 / group]; offset[6]: the
             constant, optimized its lower or upper (`high`: signed) three bits; fine[2]
    stage 4  valid, first, negative, scale_high (optimized), coarse
    drain    capture, drain, behind[bits] in, result[bits] out
    """
    count, width = WEIGHTS // group, 7 + group.bit_length()
    codes = code_bits(group, optimized) * (group // 2)
    chosen = [Signal(modbv(0)[width:]) for _ in range(count)]
    parts = []
    for number in range(count):
        total = operands.totals(width * (number + 1), width * number)
        choices = operands.choice(codes * (number + 1), codes * number)
        flag = operands.invert(number) if count > 1 else operands.invert
        base = number * group
        parts.append(
            subgroup_sum(clk, enable, operands.x, choices, total, flag, chosen[number], base, group, optimized)
        )
    added, partial, scaled, term, increment = unsigned(12), unsigned(15), signed(21), signed(21), signed(21)
    parts += [ADDERS[count](Terms(*chosen), added), weigh(clk, enable, added, operands.fine, partial)]
    if optimized:
        product, offset_part = signed(16), signed(16)
        multiply = constant_multiplier(operands.sum_all, operands.offset(3, 0), operands.high, product)

        @always_comb
        def scale():
            if scale_high:
                scaled.next = offset_part << 3
            else:
                scaled.next = offset_part
    else:
        product, offset_part = signed(19), signed(19)
        multiply = whole_multiplier(operands.sum_all, operands.offset, product)

        @always_comb
        def scale():
            scaled.next = offset_part

    @always_comb
    def add_up():
        increment.next = term + scaled

    parts += [multiply, register(clk, enable, product, offset_part), align(partial, coarse, negative, term)]
    sums = accumulator(clk, enable, valid, first, increment, negative, port, bits)
    return parts, scale, add_up, sums
