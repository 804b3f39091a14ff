"""The requantizer against the reference at every shift: ties, both ends of the mantissa, saturation, raw bytes."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from myhdl import block

from flow.hardware.core.requantizer import LATENCY, requantizer
from flow.hardware.core.write_back import split
from flow.network import reference
from tests.helpers.clocking import Bench, packed, signed, wire

INT32 = (-(2**31), 2**31 - 1)


def run(
    cases: Sequence[tuple[int, int, int, int]], zero: int = 0, clamp: tuple[int, int] = (-128, 127), bits: int = 32
) -> list[int]:
    """Cases (result, bias, multiplier, shift), one an edge that is enabled, to codes."""
    ports = {"result": bits, "bias": 32, "multiplier": 24, "shift": 6, "zero": 8, "low": 8, "high": 8}
    stages = {"result": 0, "bias": 1, "multiplier": 2, "shift": 4}
    signals = {name: wire(width) for name, width in ports.items()}
    clk, enable, octet = wire(), wire(1, 1), wire(8)
    bench = Bench(
        requantizer(clk=clk, enable=enable, raw=wire(), passing=wire(), octet=octet, bits=bits, **signals), clk
    )
    codes = []
    try:
        for name, value in (("zero", zero), ("low", clamp[0]), ("high", clamp[1])):
            signals[name].next = value + 128
        for edge in range(len(cases) + LATENCY - 1):
            for place, (name, stage) in enumerate(stages.items()):
                inside = 0 <= edge - stage < len(cases)
                signals[name].next = packed([cases[edge - stage][place]], ports[name]) if inside else 1
            if edge % 5 == 3:  # everything stands still, whatever the operands
                enable.next = 0
                bench.step()
                enable.next = 1
            bench.step()
            codes.append(int(octet) - 128)
    finally:
        bench.close()
    return codes[LATENCY - 1 :]


def expected(acc: int, multiplier: int, shift: int, zero: int = 0, clamp: tuple[int, int] = (-128, 127)) -> int:
    """The formula of docs/numbers.md with exact fractions; Python's round is half to even."""
    return min(max(round(Fraction(acc * multiplier, 2**shift)) + zero, clamp[0]), clamp[1])


@pytest.mark.parametrize("multiplier", [2**23, 2**24 - 1])
@pytest.mark.parametrize("shift", range(1, reference.MAX_SHIFT + 1))
def test_every_shift(multiplier: int, shift: int) -> None:
    """Around every code's upper edge, where the sum that rounds to it meets its neighbour's; and the extremes."""
    edges = [round(Fraction((2 * code + 1) * 2**shift, 2 * multiplier)) for code in range(-130, 130, 9)]
    sums = [edge + nudge for edge in edges for nudge in (-1, 0, 1)] + [*INT32, -1, 0, 1]
    sums = [acc for acc in sums if INT32[0] <= acc <= INT32[1]]
    got = run([(acc, 0, multiplier, shift) for acc in sums])
    assert got == [expected(acc, multiplier, shift) for acc in sums]


def test_exact_ties_go_to_even() -> None:
    """M = 2^23: sums of half a code for every shift that has them, both signs, between all codes."""
    cases = []
    for shift in range(24, 48, 3):
        half = 2 ** (shift - 24)  # acc * 2^23 / 2^shift = 1/2
        cases += [((2 * code + 1) * half, 0, 2**23, shift) for code in (-120, -3, -2, -1, 0, 1, 2, 3, 119)]
    got = run(cases)
    assert got == [expected(acc, m, s) for acc, _, m, s in cases]
    assert all(code % 2 == 0 for code in got)


@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**32 - 1), zero=st.integers(-128, 127), low=st.integers(-128, 127), span=st.integers(0, 255),
    bits=st.sampled_from([24, 32]),
)  # fmt: skip
def test_equals_the_reference(seed: int, zero: int, low: int, span: int, bits: int) -> None:
    """Random sums, biases that wrap, any clamp, narrow accumulators; mostly shifts that leave small codes."""
    rng = np.random.default_rng(seed)
    clamp = low, min(low + span, 127)
    count, reach = 20, 2 ** (bits - 1)
    result = rng.integers(-reach, reach, count)
    acc = rng.integers(*INT32, count, endpoint=True) if bits == 32 else result + rng.integers(-1000, 1000, count)
    bias = acc - result  # beyond 32 bits it wraps, and the sum wraps back
    multiplier = rng.integers(2**23, 2**24, count)
    shift = rng.integers(1, reference.MAX_SHIFT + 1, count)
    shift[5:] = rng.integers(bits + 10, bits + 20, count - 5)
    multiplier[0], shift[0] = 0, 1
    want = reference.requantize(acc, multiplier, shift, zero, clamp).tolist()
    cases = list(zip(result.tolist(), bias.tolist(), multiplier.tolist(), shift.tolist(), strict=True))
    assert run(cases, zero, clamp, bits) == want


@pytest.mark.parametrize(("zero", "clamp"), [(-128, (-128, 127)), (127, (-128, 127)), (5, (5, 90)), (0, (0, 0))])
def test_zero_point_and_clamp(zero: int, clamp: tuple[int, int]) -> None:
    cases = [(acc, 0, 2**23, 24) for acc in (*INT32, -600, -255, -20, 0, 20, 255, 600)]
    assert run(cases, zero, clamp) == [expected(acc, m, s, zero, clamp) for acc, _, m, s in cases]


@pytest.mark.parametrize("acc", [*INT32, 0, -1, 0x12345678, -0x12345678])
@pytest.mark.parametrize("bits", [24, 32])
def test_raw_planes(acc: int, bits: int) -> None:
    """Byte plane after byte plane of the 32-bit sum, whatever the clamp; the sum wraps as the bias did."""
    clk, raw, octet, result, plane = wire(), wire(1, 1), wire(8), wire(bits), wire(2)
    zero, low, high = wire(8, 3), wire(8, 100), wire(8, 101)
    parameters, bias, scale = wire(64), wire(32), wire(30)

    @block
    def lane() -> Any:
        """A requantizer with its lane's parameters."""
        return (
            split(parameters, raw, plane, bias, scale),
            requantizer(
                clk, wire(1, 1), result, bias, scale(24, 0), scale(30, 24), raw, zero, raw, low, high, octet, bits,
            ),
        )  # fmt: skip

    bench = Bench(lane(), clk)
    got = []
    try:
        result.next = packed([-123456], bits)
        parameters.next = packed([acc + 123456], 32) | 12345 << 32
        for number in range(4):
            plane.next = number
            bench.step(LATENCY)
            got.append(int(octet))
    finally:
        bench.close()
    assert signed(packed(got), 32) == acc
