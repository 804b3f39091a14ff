"""Quotients of the normalizer: of a Softmax's sum, or of the root of a variance. Two bits in a cycle."""

from __future__ import annotations

from myhdl import Signal, always, always_comb, intbv, modbv

from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.fields import QUOTIENT_BITS, WORD_BITS

TOTAL = 46
QUOTIENT = QUOTIENT_BITS + 1
LIFTED = 5  # bits of how often the radicand is raised, by two bits each
REST = TOTAL + 2

# What is moved takes as many cycles as there are bits in the number of its pairs of bits.
ROOT = 16  # cycles of a root of 32 bits
DIVISION = (QUOTIENT + 1) // 2


@block
def root_step(root, pair, rest, found, below, left, more):
    """A bit of a root or of a quotient.

    control  root: of a root, else of a quotient
    data     pair[2]: the radicand's next bits; rest[48], found[32]: what is left, and the bits so far; below[46]: the
             divisor; left[48], more[32] out: the same a bit later. Combinational.
    """
    wide, bit = Signal(intbv(0)[REST:]), Signal(bool(0))
    upper, lower = (Signal(modbv(0)[REST + 1 :]) for _ in range(2))
    difference = Signal(modbv(0)[REST + 1 :])

    @always_comb
    def widen():
        wide.next = found

    @always_comb
    def operands():
        if root:
            upper.next = (rest << 2) + pair
            lower.next = (wide << 2) + 1
        else:
            upper.next = rest << 1
            lower.next = below

    @always_comb
    def subtract():
        difference.next = upper - lower

    @always_comb
    def decide():
        bit.next = not difference[REST]
        if difference[REST]:
            left.next = upper[REST:]
        else:
            left.next = difference[REST:]

    @always_comb
    def append():
        more.next = (found << 1) + bit

    return widen, operands, subtract, decide, append


@block
@prefixed(steps="")
def norm_root(clk, enable, steps, product, offset, total, quotient, lifted):
    """The quotient of one row: of the sum of a Softmax, or of the root of a variance.

    control  enable; take, subtract: product[46] is n times the sum of squares, or what is taken from it; pairs[5]: a
             power of two; shift: the radicand is moved by as many pairs of bits; lift: it is if it then fits, and so
             counted; add, root, divisor, divide, restart: a step of the radicand, of its root, of the division; softmax
    data     offset[64]: what is added to the radicand; total[46]: a Softmax's sum; quotient[29], lifted[5] out: how
             often the radicand was raised by two bits
    """
    radicand, moved = (Signal(modbv(0)[WORD_BITS:]) for _ in range(2))
    fits = Signal(bool(0))
    found, more, most = (Signal(modbv(0)[32:]) for _ in range(3))
    rest, left, least = (Signal(modbv(0)[REST:]) for _ in range(3))
    below, wide, doubled = (Signal(modbv(0)[TOTAL:]) for _ in range(3))

    @always_comb
    def move():
        if steps.pairs[4]:
            moved.next = radicand << 32
            fits.next = radicand[WORD_BITS : WORD_BITS - 32] == 0
        elif steps.pairs[3]:
            moved.next = radicand << 16
            fits.next = radicand[WORD_BITS : WORD_BITS - 16] == 0
        elif steps.pairs[2]:
            moved.next = radicand << 8
            fits.next = radicand[WORD_BITS : WORD_BITS - 8] == 0
        elif steps.pairs[1]:
            moved.next = radicand << 4
            fits.next = radicand[WORD_BITS : WORD_BITS - 4] == 0
        else:
            moved.next = radicand << 2
            fits.next = radicand[WORD_BITS : WORD_BITS - 2] == 0

    @always_comb
    def widen():
        wide.next = found

    @always_comb
    def double():
        doubled.next = wide << 1

    @always(clk.posedge)
    def raise_radicand():
        if enable:
            if steps.restart:
                lifted.next = 0
            if steps.take:
                radicand.next = product
            elif steps.subtract:
                radicand.next = radicand - product
            elif steps.add:
                radicand.next = radicand + offset
            elif steps.shift:
                radicand.next = moved
            elif steps.lift and fits:
                radicand.next = moved
                lifted.next = lifted + steps.pairs

    @always(clk.posedge)
    def step():
        if enable:
            if steps.add or steps.divisor:
                found.next = 0
                rest.next = 0
                if steps.divisor:
                    rest.next[30] = True
            elif steps.root or steps.divide:
                found.next = most
                rest.next = least
            if steps.divisor:
                if steps.softmax:
                    below.next = total
                else:
                    below.next = doubled

    @always_comb
    def give():
        quotient.next = found[QUOTIENT:]

    parts = [
        root_step(steps.root, radicand(WORD_BITS, WORD_BITS - 2), rest, found, below, left, more),
        root_step(steps.root, radicand(WORD_BITS - 2, WORD_BITS - 4), left, more, below, least, most),
    ]
    return move, widen, double, raise_radicand, step, give, parts
