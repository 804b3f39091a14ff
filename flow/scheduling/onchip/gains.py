"""A factor and a summand for each channel (BatchNormalization, scales) in the numbers of post-processing.

y = g * (u - z) + h in codes of the output is M * 2^-S * (F * u + bias), with F = 2^k alike for the channels of a
descriptor: k is as large as the bias, which has F * h / g in it, permits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow.hardware.fields import FACTOR_BITS, MINUS_OFFSET
from flow.network import reference

MOST_BITS = FACTOR_BITS - 1
BIAS_BITS = 29
FINE = 2.0**-17  # codes: so much an even larger k may improve a result before channels are separated


@dataclass(frozen=True)
class Gains:
    """Channels of one octet that share a sign and k: `slots` in the octet, and their numbers of the requantizer."""

    slots: tuple[int, ...]
    negative: bool
    factor: int
    bias: NDArray[np.int64]
    multiplier: NDArray[np.int64]
    shift: NDArray[np.int64]


def grouped(gain: NDArray[np.float64], summand: NDArray[np.float64], zero: int) -> list[Gains]:
    """Gains of the channels of an octet: g and h of each, float64 [channels]; `zero`: the byte of real zero."""
    least = np.abs(summand) * 2.0**-BIAS_BITS  # where h alone counts
    size = np.maximum(np.abs(gain), least)
    ratio = np.divide(np.abs(summand), size, out=np.zeros_like(size), where=size > 0) + 256
    bits = np.clip(np.floor(BIAS_BITS - np.log2(ratio)), 0, MOST_BITS).astype(int)
    sized = np.where(gain < 0, -size, size)
    return [
        _group(slots, negative, k, sized, summand, zero) for negative, k, slots in in_groups(gain < 0, size, bits, FINE)
    ]


def in_groups(
    negative: NDArray[np.bool_], size: NDArray[np.float64], bits: NDArray[np.int64], fine: float
) -> Iterator[tuple[bool, int, NDArray[np.intp]]]:
    """Channels of the same sign that share a number of bits: (negative, bits, slots).

    All take the fewest that any has, where one more would improve none of them by more than `fine` codes.
    """
    for sign in (False, True):
        alike = np.flatnonzero(negative == sign)
        if not len(alike):
            continue
        fewest = int(bits[alike].min())
        together = bool((size[alike] * 2.0 ** -(fewest + 1) <= fine).all())
        for each in [fewest] if together else sorted(set(bits[alike].tolist())):
            yield sign, each, alike if together else alike[bits[alike] == each]


def _group(
    slots: NDArray[np.intp], negative: bool, k: int, gain: NDArray[np.float64], summand: NDArray[np.float64], zero: int
) -> Gains:
    g, h, factor = np.abs(gain[slots]), summand[slots], 1 << k
    multiplier, shift = reference.fixed_point((g / factor).astype(np.float32))
    exact = np.divide(h * factor, g, out=np.zeros_like(h), where=g > 0)
    bias = np.rint(exact).astype(np.int64) + (factor * zero - MINUS_OFFSET if negative else -factor * zero)
    return Gains(tuple(slots.tolist()), negative, factor, bias, multiplier, shift)
