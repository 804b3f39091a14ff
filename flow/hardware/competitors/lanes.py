"""Parts of the lanes: multiplexers, gates, adders and their registers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from myhdl import Signal, always, always_comb, intbv

from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block


@block
def select(x, code, y, first, choices):
    """The multiplexer of one lane: y[8] = activation `first` + code of x, code 0 to `choices` - 1; else 0."""

    @always_comb
    def choose():
        y.next = 0
        for j in range(first, first + choices):
            low = 8 * j
            if code == j - first:
                y.next = x[low + 8 : low]

    return choose


@block
def gate(x, ones, y, lane):
    """A bit-serial multiplier: y[8] = activation `lane` of x, if its weight's bit is one."""
    low = 8 * lane

    @always_comb
    def multiply():
        y.next = 0
        if ones[lane]:
            y.next = x[low + 8 : low]

    return multiply


@dataclass(frozen=True)
class Terms:
    """What `ADDERS` add: 1, 2, 4, 8 or 16 terms, all signed or all unsigned."""

    a: Any
    b: Any = None
    c: Any = None
    d: Any = None
    e: Any = None
    f: Any = None
    g: Any = None
    h: Any = None
    i: Any = None
    j: Any = None
    k: Any = None
    m: Any = None
    n: Any = None
    o: Any = None
    p: Any = None
    q: Any = None


@block
@prefixed(terms="")
def add_1(terms, total):
    """Of one term the sum is itself."""

    @always_comb
    def adder():
        total.next = terms.a

    return adder


@block
@prefixed(terms="")
def add_2(terms, total):
    """The sum of two terms, all signed or all unsigned, as with 4, 8 and 16 of them."""

    @always_comb
    def adder():
        total.next = terms.a + terms.b

    return adder


@block
@prefixed(terms="")
def add_4(terms, total):
    """The sum of four terms."""

    @always_comb
    def adder():
        total.next = terms.a + terms.b + terms.c + terms.d

    return adder


@block
@prefixed(terms="")
def add_8(terms, total):
    """The sum of eight terms."""

    @always_comb
    def adder():
        total.next = terms.a + terms.b + terms.c + terms.d + terms.e + terms.f + terms.g + terms.h

    return adder


@block
@prefixed(terms="")
def add_16(terms, total):
    """The sum of sixteen terms."""

    @always_comb
    def adder():
        total.next = (
            terms.a
            + terms.b
            + terms.c
            + terms.d
            + terms.e
            + terms.f
            + terms.g
            + terms.h
            + terms.i
            + terms.j
            + terms.k
            + terms.m
            + terms.n
            + terms.o
            + terms.p
            + terms.q
        )

    return adder


ADDERS = {1: add_1, 2: add_2, 4: add_4, 8: add_8, 16: add_16}


def unsigned(width):
    return Signal(intbv(0)[width:])


def signed(width):
    return Signal(intbv(0, min=-(2 ** (width - 1)), max=2 ** (width - 1)))


@block
def register(clk, enable, d, q):
    """A pipeline register: q takes d where enable is high."""

    @always(clk.posedge)
    def take():
        if enable:
            q.next = d

    return take


@block
def add_four(clk, enable, a, b, c, d, total):
    """The sum of four terms, in a register: what of more is added in the next stage."""

    @always(clk.posedge)
    def adder():
        if enable:
            total.next = a + b + c + d

    return adder


@block
def weigh(clk, enable, total, fine, partial):
    """The next stage's register: partial[15] = total[12] << fine[2]."""

    @always(clk.posedge)
    def shift():
        if enable:
            partial.next = total << fine

    return shift
